"""A process that is a fork of this one: what is imported here need not be imported there, which takes longer than a small fit.

Nothing that is open here is in its reach: a connection of Spark's would not end with the executor that it belongs to.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class Forked:
    """As much of `subprocess.Popen` as a rank needs, in a process group of its own.

    Parameters
    ----------
    run : callable
        Returns the status with which the process ends, at once and whatever threads it has.

    Attributes
    ----------
    stdout : binary file
        What it says on stdout and stderr.
    """

    def __init__(self, run: Callable[[], int]) -> None:
        reading, writing = os.pipe()
        self._process = multiprocessing.get_context("fork").Process(target=_become, args=(run, writing), daemon=True)
        self._process.start()
        os.close(writing)
        with suppress(OSError):  # by whichever of both is first: who kills the group must not find that there is none yet
            os.setpgid(self.pid, self.pid)
        self.stdout = os.fdopen(reading, "rb")

    @property
    def pid(self) -> int:
        """Its number, that of its group too."""
        return self._process.pid or 0

    @property
    def returncode(self) -> Any:
        """As of `subprocess.Popen`."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its status once it has ended.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode


def _become(run: Callable[[], int], writing: int) -> None:
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
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
