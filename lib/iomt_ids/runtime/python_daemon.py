"""Spark's daemon for Python workers, which are born with the libraries of our tasks and do not look through them again and again.

Spark ends a worker that has had nothing to do for a minute, and every job has new ones: with Spark's own daemon each of them
imports for itself, most of a second. After each task Spark's own looks through all objects of the worker, of which nearly all
belong to libraries and stay: that takes longer than a small task. Named by `spark.python.daemon.module`, where the package is
installed beside PySpark.
"""

from __future__ import annotations

import gc
import socket
import sys

from pyspark import daemon

_work = daemon.worker
_modules = 0


def worker(sock: socket.socket, authenticated: bool) -> int:
    """Run one task; objects that are there after it has imported something are passed over from then on.

    Returns
    -------
    int
        0 if the worker can be given another task.
    """
    global _modules
    try:
        status = _work(sock, authenticated)
    except BrokenPipeError:
        # Java has all that it wanted, as after a `limit`, and has hung up: no news for the user.
        return 1
    if len(sys.modules) > _modules:
        _modules = len(sys.modules)
        # What the task has left behind is not kept for ever.
        gc.collect()
        gc.freeze()
    return status


def prepare() -> None:
    """Import what nearly every task needs; a worker is a fork of the daemon and has it from the start."""
    import pandas as pd  # noqa: F401
    import pyarrow as pa  # noqa: F401
    import pyspark.ml.feature  # noqa: F401

    from iomt_ids.distributed.compiled import compiled

    # numba gets ready at the first call, whatever is called.
    compiled(_nothing)()
    gc.collect()
    # Nor does a worker touch the daemon's objects, so that they lie in memory once.
    gc.freeze()


def _nothing() -> None:
    pass


if __name__ == "__main__":
    prepare()
    daemon.worker = worker
    daemon.manager()
