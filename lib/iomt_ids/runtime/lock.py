"""One job at a time on the tables of one data folder: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iomt_ids.contract.errors import BusyError


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file for the length of the block.

    Raises
    ------
    BusyError
        At once, naming the process that holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise BusyError(f"process {holder} already holds {path}; wait for it or stop it") from error
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield
