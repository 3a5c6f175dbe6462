"""Messages go to stderr, one line each; stdout belongs to the table and the final JSON line."""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

_LOGGER = logging.getLogger("iomt_ids")


def set_up_log(job: str) -> logging.Logger:
    """The logger of a job, writing ``time job message`` to stderr.

    Parameters
    ----------
    job : str
        The job's name; it stands in every line.
    """
    _separate_stderr()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {job} %(message)s", "%H:%M:%S"))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    return _LOGGER


def log() -> logging.Logger:
    """The project's logger."""
    return _LOGGER


def say(text: str) -> None:
    """Write a result, not a message, to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _separate_stderr() -> None:
    """Give a driver that spark-submit started the stderr of spark-submit.

    Spark's PythonRunner joins both streams of a driver into its own stdout, so that messages would lie between a
    table and the final line of JSON, and no driver would ever see a terminal.
    """
    parent = Path(f"/proc/{os.getppid()}")
    try:
        joined = os.path.samestat(os.fstat(1), os.fstat(2)) and stat.S_ISFIFO(os.fstat(2).st_mode)
        if not joined or (parent / "comm").read_text(encoding="utf-8").strip() != "java" or not _can_be_shared(parent):
            return
        theirs = os.open(parent / "fd" / "2", os.O_WRONLY | os.O_APPEND)
    except OSError:
        return  # a socket, as systemd's journal is, cannot be opened by name: both streams end there anyhow
    os.dup2(theirs, 2)
    os.close(theirs)


def _can_be_shared(process: Path) -> bool:
    # Two writers of one file write over each other, unless both append.
    if not stat.S_ISREG((process / "fd" / "2").stat().st_mode):
        return True
    facts = (process / "fdinfo" / "2").read_text(encoding="ascii")
    return bool(int(facts.partition("flags:")[2].split()[0], 8) & os.O_APPEND)
