"""Numbers added up over ranks by Horovod. Nothing here sends objects, so nothing is unpickled.

Horovod's optimizer for Keras does not reduce gradients under Keras 3, and says nothing of it; so
gradients are reduced here, by name, and training ends with a proof that all ranks hold the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.distributed.relay import Relay
from iomt_ids.distributed.work import as_summed


class HorovodCommunicator:
    """Ranks connected by Horovod over Gloo; see `work.Communicator`."""

    def __init__(self) -> None:
        import horovod.tensorflow as hvd

        # Horovod: place in the ring and rendezvous come from HOROVOD_* of this process.
        hvd.init()
        self._hvd = hvd
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()

    def mean_gradient(self, flat: Any) -> Any:
        """The mean over ranks of one flat tensor."""
        return self._hvd.allreduce(flat, op=self._hvd.Average, name="gradient")

    def sum(self, values: Any) -> np.ndarray:
        """The sum over ranks of an array of double or of whole numbers."""
        import tensorflow as tf

        array = as_summed(values)
        flat = tf.constant(array.reshape(-1))
        name = f"sum.{array.dtype.name}"
        return self._hvd.allreduce(flat, op=self._hvd.Sum, name=name).numpy().reshape(array.shape)

    def broadcast(self, variables: list[Any]) -> None:
        """Give every rank the variables of rank 0."""
        for index, variable in enumerate(variables):
            variable.assign(self._hvd.broadcast(variable.value, root_rank=0, name=f"initial.{index}"))

    def close(self) -> None:
        """Leave the ring."""
        self._hvd.shutdown()


class HorovodBackend:
    """How a rank joins the others by Horovod; see `worker.BACKENDS`."""

    @staticmethod
    def prepare(folder: Path) -> dict[str, str]:
        """Variables that the rank's process needs; ``folder`` lives as long as the rank."""
        return {}

    @staticmethod
    @contextmanager
    def join(order: dict[str, Any]) -> Iterator[HorovodCommunicator]:
        """The other ranks, while the block lasts."""
        host, port = order["rendezvous"]
        with Relay(host, port, bytes.fromhex(order["key"])) as relay:
            # Horovod's native part reads these when it starts.
            for name, value in zip(("ADDR", "PORT"), relay.address, strict=True):
                os.putenv(f"HOROVOD_GLOO_RENDEZVOUS_{name}", str(value))
            ranks = HorovodCommunicator()
            yield ranks
            ranks.close()

    @staticmethod
    def is_loss(error: BaseException) -> bool:
        """Whether the error says that another rank has gone."""
        # Inside a tf.function Horovod's error arrives as one of TensorFlow's.
        return type(error).__name__ == "HorovodInternalError" or "Horovod" in str(error)
