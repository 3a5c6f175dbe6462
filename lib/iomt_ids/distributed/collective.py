"""Numbers added up over ranks by TensorFlow's own collective operations: the second launcher's way.

Each rank runs TensorFlow's gRPC server, which neither authenticates nor encrypts, executes any graph it is sent and
listens on every interface. It cannot be told otherwise; so the rank's process is started with a `bind` of ours before
the C library's, which knows no address but loopback, and a rank that listens anywhere else ends before it is joined.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.meeting import JOIN_S, all_tell
from iomt_ids.distributed.work import as_summed, broadcast_by_sums

_LOOPBACK = "127.0.0.1"
_SCOPE = "tensorflow"
_TIMEOUT_S = 60.0
_BIND = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
int bind(int fd, const struct sockaddr *to, socklen_t length) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (!next) next = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind");
    if (to->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 local = *(const struct sockaddr_in6 *)to;
        local.sin6_addr = (struct in6_addr){{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}}};
        return next(fd, (struct sockaddr *)&local, sizeof local);
    }
    if (to->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in local = *(const struct sockaddr_in *)to;
        local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return next(fd, (struct sockaddr *)&local, sizeof local);
    }
    return next(fd, to, length);
}
"""


class TensorflowCommunicator:
    """Ranks connected by TensorFlow over gRPC, summed around a ring; see `work.Communicator`."""

    def __init__(self, rank: int, addresses: list[str]) -> None:
        import tensorflow as tf

        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": addresses}), task_type="worker", task_id=rank, rpc_layer="grpc"
        )
        ring = tf.distribute.experimental.CommunicationImplementation.RING
        # It starts the server, waits for the others and watches whether they live; its variables are not used.
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=resolver,
            communication_options=tf.distribute.experimental.CommunicationOptions(implementation=ring),
        )
        self.rank, self.size = rank, len(addresses)
        self._instances: dict[Any, int] = {}
        self._sums: dict[Any, Any] = {}

    def mean_gradient(self, flat: Any) -> Any:
        """The mean over ranks of one flat tensor."""
        return self._reduce(flat) / self.size

    def sum(self, values: Any) -> np.ndarray:
        """The sum over ranks of an array of double or of whole numbers."""
        import tensorflow as tf

        array = as_summed(values)
        # One function a kind and length: a collective operation has one shape for ever.
        add = self._sums.setdefault((array.dtype, array.size), tf.function(self._reduce))
        return add(tf.constant(array.reshape(-1))).numpy().reshape(array.shape)

    def broadcast(self, variables: list[Any]) -> None:
        """Give every rank the variables of rank 0."""
        broadcast_by_sums(self, variables)

    def _reduce(self, flat: Any) -> Any:
        import tensorflow as tf

        # Numbered by first use, which is in the same order on every rank.
        instance = self._instances.setdefault((flat.dtype, tuple(flat.shape)), len(self._instances) + 1)
        return tf.raw_ops.CollectiveReduceV2(
            input=flat, group_size=self.size, group_key=1001, instance_key=instance, ordering_token=[],
            merge_op="Add", final_op="Id", communication_hint="RING", timeout_seconds=_TIMEOUT_S,
        )


class TensorflowBackend:
    """How a rank joins the others by TensorFlow; see `worker.BACKENDS`."""

    @staticmethod
    def prepare(folder: Path) -> dict[str, str]:
        """Variables that the rank's process needs; ``folder`` lives as long as the rank."""
        source, shared = folder / "bind.c", folder / "bind.so"
        source.write_text(_BIND, encoding="utf-8")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(shared), str(source), "-ldl"], check=True, capture_output=True)
        # With it the server may listen on the port that `own_port` keeps for it.
        return {"LD_PRELOAD": str(shared), "TF_GRPC_REUSE_PORT": "true"}

    @staticmethod
    @contextmanager
    def join(order: dict[str, Any]) -> Iterator[TensorflowCommunicator]:
        """The other ranks, while the block lasts."""
        with own_port() as port:
            addresses = all_tell(order, _SCOPE, "address", f"{_LOOPBACK}:{port}", time.monotonic() + JOIN_S)
            ranks = TensorflowCommunicator(order["rank"], addresses)
        _require_loopback()
        yield ranks
        # Others may still be fetching the last sum from this one's server; a sum more would end no better. Should one never
        # be done, the executor ends this rank.
        all_tell(order, _SCOPE, "done", "", float("inf"))

    @staticmethod
    def is_loss(error: BaseException) -> bool:
        """Whether the error says that another rank has gone."""
        return type(error).__name__ in ("UnavailableError", "AbortedError", "DeadlineExceededError", "CancelledError")


@contextmanager
def own_port() -> Iterator[int]:
    """A port of loopback that nobody else is given while TensorFlow's server, which is told a number, starts."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((_LOOPBACK, 0))
        yield int(kept.getsockname()[1])


def _require_loopback() -> None:
    listening = [c.laddr for c in psutil.Process(os.getpid()).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    open_to_others = [f"{a.ip}:{a.port}" for a in listening if a.ip.removeprefix("::ffff:") != _LOOPBACK]
    if open_to_others:
        raise LaunchError(f"TensorFlow's server listens on {', '.join(open_to_others)}, where anybody can reach it")
