"""Ranks that misbehave, and ranks that tell what they see; shipped to executors as a user's --py-files are."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np


def report(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Who am I, and what is the sum of all ranks?"""
    return {"rank": ranks.rank, "size": ranks.size, "sum": ranks.sum(np.array([ranks.rank + 1.0])).tolist()}, b""


def die(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Rank 1 kills itself while the others wait for it."""
    _sign_in(job)
    ranks.sum(np.zeros(1))
    if ranks.rank == 1:
        os.write(2, b"about to die\n")
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        ranks.sum(np.zeros(1))


def hang(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Rank 1 fails while rank 0 is busy with something that no timeout of Gloo ends."""
    _sign_in(job)
    ranks.sum(np.zeros(1))
    if ranks.rank == 1:
        raise ValueError("the disk of rank 1 is full")
    time.sleep(600)
    return {}, b""


def _sign_in(job: dict[str, Any]) -> None:
    Path(job["processes"], str(os.getpid())).touch()
