"""Spark's daemon for Python workers, whose collection of garbage after every task passes over what was imported.

After each task Spark's own looks through all objects of the worker, of which nearly all belong to libraries and stay: that takes
longer than a small task. Named by `spark.python.daemon.module`, where the package is installed beside PySpark.
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


if __name__ == "__main__":
    daemon.worker = worker
    daemon.manager()
