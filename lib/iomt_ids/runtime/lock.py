"""One job at a time on the tables of one data folder: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iomt_ids.contract.errors import BusyError
from iomt_ids.runtime.log import log


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file for the length of the block.

    Parameters
    ----------
    path : Path
        The lock file; made if it is not there.
    wait : bool
        Whether to wait for the process that holds it.

    Raises
    ------
    BusyError
        At once, naming the process that holds it, unless told to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            if wait:
                log().info("waiting for process %s, which holds %s", holder, path)
                fcntl.flock(handle, fcntl.LOCK_EX)
            else:
                raise BusyError(f"process {holder} already holds {path}; wait for it or stop it") from error
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield
