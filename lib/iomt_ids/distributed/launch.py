"""Start the same function on several ranks at once, on the executors of a Spark session.

Horovod's own `horovod.spark.run` waits ten minutes for slots that are not there, listens on every interface
and unpickles what it is sent; see docs/decisions/0004-horovod-by-our-own-launcher.md.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
import uuid
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from pyspark import InheritableThread, SparkContext
from pyspark.sql import SparkSession

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.barrier import Order, run_rank
from iomt_ids.distributed.rendezvous import Rendezvous
from iomt_ids.distributed.work import Alone, RankResult, Work
from iomt_ids.distributed.worker import call

_LOOPBACK = "127.0.0.1"
# Executors of a cluster register after the session has started.
_SLOTS_WAIT_S = 3.0
_POLL_S = 0.25
_SILENCE_S = 10.0
_GLOO_TIMEOUT_S = 60


class Launcher(Protocol):
    """Runs work on ranks."""

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it on so many ranks and return their results, by rank.

        Raises
        ------
        LaunchError
            If there are too few slots, or a rank died.
        """


class InProcessLauncher:
    """One rank, in this process: training code without a cluster."""

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it here.

        Raises
        ------
        LaunchError
            If more than one rank is wanted.
        """
        if ranks != 1:
            raise LaunchError(f"{ranks} ranks are wanted but this launcher has 1 slot: this very process")
        started = time.monotonic()
        facts, payload = call(work.function, work.job, Alone())
        seconds = round(time.monotonic() - started, 3)
        return [RankResult(0, socket.gethostname(), "this process", seconds, facts, payload)]


class HorovodLauncher:
    """Ranks as tasks of one Spark barrier stage: all at once or none.

    Parameters
    ----------
    spark : SparkSession
        Its executors run the ranks, one a slot.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it on so many slots; see `Launcher.run`."""
        context = self._spark.sparkContext
        _require_slots(context, ranks)
        with Rendezvous(_rendezvous_host(context)) as rendezvous:
            host, port = rendezvous.address
            results = _run_stage(context, Order(work, ranks, host, port, _GLOO_TIMEOUT_S), rendezvous)
            failure = rendezvous.first_failure
        if failure is None and len(results) == ranks and not any(r.error for r in results):
            return results
        raise LaunchError(_say_failure(failure, results, ranks))


def slots(context: SparkContext) -> int:
    """Tasks that can run at the same time on the executors that are there now."""
    scala = context._jsc.sc()
    return int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile()))


def _require_slots(context: SparkContext, ranks: int) -> None:
    if ranks < 1:
        raise LaunchError(f"{ranks} ranks are wanted; at least 1 is needed")
    master = context.master or ""
    is_local = master.startswith("local")
    deadline = time.monotonic() + _SLOTS_WAIT_S
    while (there := slots(context)) < ranks:
        # A local session has all the slots it will ever have.
        if is_local or time.monotonic() > deadline:
            more = f"use spark.master=local[{ranks}]" if is_local else "give Spark more cores or workers"
            raise LaunchError(
                f"{ranks} ranks need {ranks} slots at the same time, but {master} has {there}; "
                f"set models.dense_net.ranks={max(there, 1)}, or {more}"
            )
        time.sleep(_POLL_S)


def _rendezvous_host(context: SparkContext) -> str:
    """The one address to listen on: loopback unless the master is on another machine."""
    master = context.master or ""
    if master.startswith("local"):
        return _LOOPBACK
    if master.startswith("spark://"):
        master = socket.gethostbyname(urlsplit(master.split(",")[0]).hostname or "localhost")
        if ipaddress.ip_address(master).is_loopback:
            return _LOOPBACK
    return socket.gethostbyname(context.getConf().get("spark.driver.host", "localhost"))


def _run_stage(context: SparkContext, order: Order, rendezvous: Rendezvous) -> list[RankResult]:
    """Run the barrier stage in a thread of its own, and end it if an executor goes silent."""
    group = f"iomt-ids-ranks-{uuid.uuid4().hex}"
    results: list[RankResult] = []
    troubles: list[BaseException] = []

    def stage() -> None:
        context.setJobGroup(group, f"{order.size} ranks of {order.work.function}", interruptOnCancel=True)
        try:
            tasks = context.parallelize(range(order.size), order.size).barrier()
            results.extend(tasks.mapPartitions(partial(run_rank, order)).collect())
        except Exception as trouble:  # a cancelled job, or one whose executors are lost
            troubles.append(trouble)

    thread = InheritableThread(target=stage, daemon=True)
    thread.start()
    silent: list[int] = []
    try:
        while thread.is_alive() and not silent:
            thread.join(_POLL_S)
            silent = rendezvous.silent_ranks(_SILENCE_S)
    finally:
        if thread.is_alive():
            context.cancelJobGroup(group)
            thread.join(_SILENCE_S)
    for rank in silent:
        results.append(RankResult(rank, "", "", 0.0, error=f"has not been heard of for {_SILENCE_S:.0f} s"))
    if troubles and not silent and rendezvous.first_failure is None:
        raise LaunchError(f"Spark ended the stage of the ranks: {_reason(troubles[0])}") from troubles[0]
    return sorted(results, key=lambda r: r.rank)


def _reason(trouble: BaseException) -> str:
    """The line of a Python worker's traceback that names the error, or the first line there is."""
    lines = str(trouble).splitlines() or [repr(trouble)]
    named = [line for line in lines if re.match(r"[A-Za-z_.]*Error: ", line)]
    hint = "; is PYSPARK_PYTHON the Python that has our packages?" if named and "ModuleNotFound" in named[0] else ""
    return (named or lines)[0] + hint


def _say_failure(failure: tuple[int, str] | None, results: list[RankResult], ranks: int) -> str:
    failed = [r for r in results if r.error]
    if failure is not None:
        rank, why = failure
    elif failed:
        rank, why = failed[0].rank, failed[0].error
    else:
        return f"{len(results)} of {ranks} ranks gave a result"
    said: Any = next((r for r in results if r.rank == rank), None)
    where = f" on {said.host} (executor {said.executor})" if said and said.host else ""
    lines = f"; it said last:\n{said.last_lines}" if said and said.last_lines else ""
    return f"rank {rank} of {ranks}{where} {why}{lines}"
