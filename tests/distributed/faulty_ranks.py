"""Ranks that misbehave, and ranks that tell what they see; shipped to executors as a user's --py-files are."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.train import train_rank


def add(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """What is the sum of all ranks, and who can reach me?"""
    summed = ranks.sum(np.array([ranks.rank + 1.0])).tolist()
    whole = ranks.sum(np.array([2**60 + ranks.rank], np.int64)).tolist()
    listening = [c.laddr.ip for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    return {"sum": summed, "whole": whole, "listening": listening, "tensorflow": "tensorflow" in sys.modules}, b""


_LOADED: list[int] = []


def load() -> None:
    """Remember which process has loaded what ranks need."""
    _LOADED.append(os.getpid())


def load_slowly() -> None:
    """As if it had to be compiled."""
    time.sleep(10)


def tell_loaded(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Who has loaded it, and am I its child?"""
    return {"loaded": [pid == os.getppid() for pid in _LOADED]}, b""


def train(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Who am I, what is the sum of all ranks, where do I listen, and what do I learn?"""
    summed = ranks.sum(np.array([ranks.rank + 1.0])).tolist()
    # No double holds this.
    whole = ranks.sum(np.array([2**60 + ranks.rank], np.int64)).tolist()
    facts, payload = train_rank(job, ranks)
    listening = [c.laddr.ip for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    seen = {"sum": summed, "whole": whole, "listening": listening, "temporary": tempfile.gettempdir()}
    return {**facts, "rank": ranks.rank, "size": ranks.size, **seen}, payload


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


def stop(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Rank 1 is stopped from outside while the others wait for it."""
    _sign_in(job)
    ranks.sum(np.zeros(1))
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    ranks.sum(np.zeros(1))
    return {}, b""


def part(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """All lose each other, and none knows why; some do not even know that."""
    from horovod.common.exceptions import HorovodInternalError

    _sign_in(job)
    if ranks.rank in job["unaware"]:
        os.write(2, b"rank %d is parted, and goes on\n" % ranks.rank)
        time.sleep(600)
    raise HorovodInternalError(f"rank {ranks.rank} is parted")


def wait(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Go on until somebody from outside ends it."""
    ranks.sum(np.zeros(1))
    _sign_in(job)
    # They end in the same round: one that ended alone would take the connection away from the other.
    while ranks.sum(np.array([float(Path(job["processes"], "enough").exists())]))[0] == 0:
        time.sleep(0.05)
    return {}, b""


def finish(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Rank 0 has still to fetch something when rank 1 is done, and neither can add up anything more."""
    _sign_in(job)
    ranks.sum(np.zeros(1))
    ranks.sum = None
    if ranks.rank == 0:
        time.sleep(2)
    return {"alive": sum(psutil.pid_exists(int(file.name)) for file in Path(job["processes"]).iterdir())}, b""


def refuse(job: dict[str, Any], ranks: Any) -> tuple[dict[str, Any], bytes]:
    """Find fault with what is asked."""
    raise ContractError("values are missing in: rate")


def _sign_in(job: dict[str, Any]) -> None:
    Path(job["processes"], str(os.getpid())).touch()
