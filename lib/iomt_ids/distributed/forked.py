"""A process that is a fork of this one: what is imported here need not be imported there, which takes longer than a small fit.

Nothing that is open here is in its reach: a connection of Spark's would not end with the executor that it belongs to. For that
reason it is none of multiprocessing's, which would wait for the end of a pipe that the fork holds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# As `subprocess` asks: soon, and then less and less often.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.05


class Forked:
    """As much of `subprocess.Popen` as a rank needs, in a process group of its own.

    Parameters
    ----------
    run : callable
        Returns the status with which the process ends, at once and whatever threads it has.

    Attributes
    ----------
    pid : int
        Its number, that of its group too.
    returncode : int or None
        As of `subprocess.Popen`.
    stdout : binary file
        What it says on stdout and stderr.
    """

    def __init__(self, run: Callable[[], int]) -> None:
        reading, writing = os.pipe()
        self.returncode: Any = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(run, writing)
        os.close(writing)
        with suppress(OSError):  # by whichever of both is first: who kills the group must not find that there is none yet
            os.setpgid(self.pid, self.pid)
        self.stdout = os.fdopen(reading, "rb")

    def wait(self, timeout: float | None = None) -> int:
        """Its status once it has ended.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not.
        """
        deadline, pause = None if timeout is None else time.monotonic() + timeout, _FIRST_PAUSE_S
        while self.returncode is None:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            if number:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            else:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        return int(self.returncode)


def _become(run: Callable[[], int], writing: int) -> None:
    status = 1
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        for own in (1, 2):
            os.dup2(writing, own)
        # Its parent's may lead elsewhere, and hold what that has not yet said.
        sys.stdout, sys.stderr = (os.fdopen(own, "w", buffering=1, closefd=False) for own in (1, 2))
        # Not closed: an object that is forgotten closes its number, whoever has that by then.
        for number in (int(file.name) for file in Path("/proc/self/fd").iterdir()):
            if number > 2:
                os.dup2(nothing, number)
        status = run()
    except BaseException:  # whatever it is, what its parent would have done next is not the fork's to do
        traceback.print_exc()
    finally:
        os._exit(status)
