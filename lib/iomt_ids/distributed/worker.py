"""One rank, as a process: ``python -m iomt_ids.distributed.worker``, told all by stdin, or a fork; see `barrier.start_rank`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from iomt_ids.contract.errors import IomtIdsError
from iomt_ids.distributed.collective import TensorflowBackend
from iomt_ids.distributed.communicate import HorovodBackend
from iomt_ids.distributed.ring import RingBackend
from iomt_ids.distributed.work import named

FACTS, PAYLOAD = "facts.json", "payload.bin"
# EX_TEMPFAIL: it would have worked, had another rank not died.
LOST_A_PEER = 75
# EX_DATAERR: it would fail again.
REFUSED = 65
# What the process is called, wherever it comes from.
NAME = "iomt-ids-rank"
BACKENDS: dict[str, Any] = {"horovod": HorovodBackend, "tensorflow": TensorflowBackend, "ring": RingBackend}
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def run(order: dict[str, Any]) -> int:
    """Run the rank; 0, `LOST_A_PEER`, `REFUSED`, or 1 with a traceback on stderr."""
    _be_child_of(order["parent"])
    backend = BACKENDS[order["backend"]]
    if order["has_tensors"]:
        from iomt_ids.distributed.tensors import load_tensorflow

        load_tensorflow(threads=max(1, len(os.sched_getaffinity(0)) // order["ranks_on_host"]), gpu=order["gpu"])
    try:
        with backend.join(order) as ranks:
            facts, payload = named(order["function"])(order["job"], ranks)
            _write(Path(order["folder"]), facts, payload)
    except IomtIdsError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return REFUSED
    # Whatever it is: a Python that ends by itself waits for threads of the collectives, which wait for dead ranks.
    except BaseException as error:
        traceback.print_exc()
        return LOST_A_PEER if backend.is_loss(error) else 1
    return 0


def _be_child_of(parent: int) -> None:
    """Have a name, and ask the kernel to kill this process when its parent dies, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME.encode())
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this rank has already gone")


def _write(folder: Path, facts: dict[str, Any], payload: bytes) -> None:
    (folder / PAYLOAD).write_bytes(payload)
    (folder / FACTS).write_text(json.dumps(facts))


if __name__ == "__main__":
    status = run(json.load(sys.stdin))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the collectives may wait for a rank that is dead; they are not waited for.
    os._exit(status)
