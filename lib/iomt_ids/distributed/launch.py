"""Start the same function on several ranks at once, on the executors of a Spark session.

Horovod's own `horovod.spark.run` waits ten minutes for slots that are not there, listens on every interface
and unpickles what it is sent; see docs/decisions/0004-horovod-by-our-own-launcher.md.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from pyspark import SparkContext
from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ConfigError, LaunchError, RankLostError
from iomt_ids.distributed.barrier import LOST_ANOTHER, Order
from iomt_ids.distributed.rendezvous import Failure, Rendezvous
from iomt_ids.distributed.stage import Stage
from iomt_ids.distributed.work import LAUNCHERS, Alone, RankResult, Work, named

_LOOPBACK = "127.0.0.1"
# Executors of a cluster register after the session has started.
_SLOTS_WAIT_S = 3.0
_POLL_S = 0.25
_TIMEOUT_S = 50


class Launcher(Protocol):
    """Runs work on ranks."""

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it on so many ranks and return their results, by rank.

        Raises
        ------
        LaunchError
            If there are too few slots, or the ranks refuse the work.
        RankLostError
            If a rank died.
        """

    def slots(self) -> int:
        """Ranks that could run at the same time, now."""


class InProcessLauncher:
    """One rank, in this process: training code without a cluster."""

    def __init__(self, spark: SparkSession | None = None) -> None:
        """Without a session."""

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it here.

        Raises
        ------
        LaunchError
            If more than one rank is wanted.
        """
        if ranks != 1:
            raise LaunchError(
                f"{ranks} ranks are wanted but this launcher has 1 slot: this very process; set models.dense_net.ranks=1"
            )
        started = time.monotonic()
        facts, payload = named(work.function)(work.job, Alone())
        seconds = round(time.monotonic() - started, 3)
        return [RankResult(0, socket.gethostname(), "this process", seconds, facts, payload)]

    def slots(self) -> int:
        """This process."""
        return 1


class BarrierLauncher:
    """Ranks as tasks of one Spark barrier stage: all at once or none.

    Parameters
    ----------
    spark : SparkSession
        Its executors run the ranks, one a slot.
    """

    backend: str

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it on so many slots; see `Launcher.run`."""
        context = self._spark.sparkContext
        _require_slots(context, ranks)
        with Rendezvous(self._host(context)) as rendezvous:
            host, port = rendezvous.address
            backend = self.backend if work.has_tensors else SocketLauncher.backend
            order = Order(work, ranks, host, port, rendezvous.key, backend, _TIMEOUT_S)
            results = Stage(context, order, rendezvous).run()
            failure = rendezvous.first_failure
        if failure is None and len(results) == ranks and not any(r.error for r in results):
            return results
        raise _error(failure, results, ranks)

    def slots(self) -> int:
        """Free and busy slots of the executors that are there."""
        return slots(self._spark.sparkContext)

    def _host(self, context: SparkContext) -> str:
        return rendezvous_host(context)


class HorovodLauncher(BarrierLauncher):
    """Ranks joined by Horovod over Gloo."""

    backend = "horovod"


class TensorflowLauncher(BarrierLauncher):
    """Ranks joined by TensorFlow's own collective operations, on one machine only: see `collective`."""

    backend = "tensorflow"

    def _host(self, context: SparkContext) -> str:
        host = super()._host(context)
        if host != _LOOPBACK:
            raise LaunchError(
                f"train.launcher=barrier_tf works on one machine only, and the master is {context.master}: TensorFlow's "
                "server asks nobody who he is; use train.launcher=horovod"
            )
        if shutil.which("cc") is None:
            raise LaunchError("train.launcher=barrier_tf needs a C compiler, to keep TensorFlow's server on loopback")
        return host


class SocketLauncher(BarrierLauncher):
    """Ranks joined around a ring of sockets: see `ring`."""

    backend = "ring"


_KINDS: tuple[Callable[[SparkSession], Launcher], ...] = (HorovodLauncher, TensorflowLauncher, SocketLauncher, InProcessLauncher)


def launcher_of(name: str, spark: SparkSession) -> Launcher:
    """A launcher by the name that `train.launcher` gives it.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in LAUNCHERS:
        raise ConfigError(f"train.launcher is {name!r}: {' or '.join(LAUNCHERS)}")
    return _KINDS[LAUNCHERS.index(name)](spark)


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


def rendezvous_host(context: SparkContext) -> str:
    """The one address to listen on: loopback unless the master is on another machine."""
    master = context.master or ""
    if master.startswith("local"):
        return _LOOPBACK
    if master.startswith("spark://"):
        master = socket.gethostbyname(urlsplit(master.split(",")[0]).hostname or "localhost")
        if ipaddress.ip_address(master).is_loopback:
            return _LOOPBACK
    return socket.gethostbyname(context.getConf().get("spark.driver.host", "localhost"))


def _error(failure: Failure | None, results: list[RankResult], ranks: int) -> LaunchError:
    if failure is None:
        failed = [r for r in results if r.error]
        if not failed:
            return RankLostError(f"{len(results)} of {ranks} ranks gave a result")
        failure = Failure(failed[0].rank, failed[0].error, failed[0].is_final)
    said = next((r for r in results if r.rank == failure.rank), None)
    where = f" on {said.host} (executor {said.executor})" if said and said.host else ""
    # Where one has only lost another none is known to be the cause: it may be one that went on and had to be stopped.
    speakers = [r for r in results if r is said or failure.why == LOST_ANOTHER]
    lines = "".join(f"; {'it' if r is said else f'rank {r.rank}'} said last:\n{r.last_lines}" for r in speakers if r.last_lines)
    if said and failure.is_final:
        # What it refused it says in its last line; what libraries have said before is of no use to anybody.
        lines = ": " + re.sub(r"^\w+Error: ", "", said.last_lines.splitlines()[-1]) if said.last_lines else ""
    kind = LaunchError if failure.is_final else RankLostError
    return kind(f"rank {failure.rank} of {ranks}{where} {failure.why}{lines}")
