"""One rank, as a process: ``python -m iomt_ids.distributed.worker``, started by `barrier`, told all by stdin."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

FACTS, PAYLOAD = "facts.json", "payload.bin"
# EX_TEMPFAIL: it would have worked, had another rank not died.
LOST_A_PEER = 75
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the rank; 0, or `LOST_A_PEER`, or 1 with a traceback on stderr."""
    order: dict[str, Any] = json.load(sys.stdin)
    _die_with(order["parent"])
    from iomt_ids.distributed.communicate import HorovodCommunicator
    from iomt_ids.distributed.tensors import load_tensorflow

    load_tensorflow(threads=max(1, len(os.sched_getaffinity(0)) // order["ranks_on_host"]))
    from horovod.common.exceptions import HorovodInternalError

    try:
        ranks = HorovodCommunicator()
        facts, payload = call(order["function"], order["job"], ranks)
        _write(Path(order["folder"]), facts, payload)
        ranks.close()
    except HorovodInternalError:
        traceback.print_exc()
        return LOST_A_PEER
    except Exception as error:
        traceback.print_exc()
        # Inside a tf.function the same error arrives as one of TensorFlow's.
        return LOST_A_PEER if "Horovod" in str(error) else 1
    return 0


def call(function: str, job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Call ``package.module:name`` for this rank."""
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)(job, ranks)


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this rank has already gone")


def _write(folder: Path, facts: dict[str, Any], payload: bytes) -> None:
    (folder / PAYLOAD).write_bytes(payload)
    (folder / FACTS).write_text(json.dumps(facts))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Horovod's and TensorFlow's threads may wait for a rank that is dead; they are not waited for.
    os._exit(status)
