"""Messages go to stderr, one line each; stdout belongs to the table and the final JSON line."""

from __future__ import annotations

import logging
import sys

_LOGGER = logging.getLogger("iomt_ids")


def set_up_log(job: str) -> logging.Logger:
    """The logger of a job, writing ``time job message`` to stderr.

    Parameters
    ----------
    job : str
        The job's name; it stands in every line.
    """
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
