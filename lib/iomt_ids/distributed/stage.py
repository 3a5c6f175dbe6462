"""The barrier stage of one launch, as the driver sees it: started, watched, ended when somebody does not answer."""

from __future__ import annotations

import re
import time
import uuid
from functools import partial
from typing import Any

from pyspark import InheritableThread, SparkContext

from iomt_ids.contract.errors import LaunchError, RankLostError
from iomt_ids.distributed.barrier import Order, run_rank
from iomt_ids.distributed.rendezvous import Failure, Rendezvous
from iomt_ids.distributed.work import RankResult

_POLL_S = 0.25
_SILENCE_S = 10.0
# A Python worker has to be forked and has to import us, on a machine that may be busy.
_ARRIVAL_S = 30.0
# Executors that are told to stop need one answer of the rendezvous to end their ranks.
_FAREWELL_S = 3.0


class Stage:
    """One launch's stage, in a thread of its own.

    Parameters
    ----------
    context : SparkContext
        Runs it.
    order : Order
        What every task gets.
    rendezvous : Rendezvous
        Hears from the tasks.
    """

    def __init__(self, context: SparkContext, order: Order, rendezvous: Rendezvous) -> None:
        self._context, self._order, self._rendezvous = context, order, rendezvous
        self._group = f"iomt-ids-ranks-{uuid.uuid4().hex}"
        self._results: list[RankResult] = []
        self._troubles: list[BaseException] = []

    def run(self) -> list[RankResult]:
        """Results by rank; a rank that fell silent has an error as its result.

        Raises
        ------
        LaunchError
            If the tasks cannot run at all.
        RankLostError
            If Spark ended the stage and no rank has said why.
        """
        thread = InheritableThread(target=self._run, daemon=True)
        thread.start()
        absent: dict[int, str] = {}
        is_over = False
        try:
            absent = self._watch(thread)
            is_over = not thread.is_alive()
        finally:
            # When it is interrupted PySpark cancels the job, which may be gone then, but not the ranks.
            if not is_over:
                self._end(thread, absent)
        self._results += [RankResult(rank, "", "", 0.0, error=why) for rank, why in absent.items()]
        if self._troubles and not absent and self._rendezvous.first_failure is None:
            raise _explain(self._troubles[0])
        return sorted(self._results, key=lambda r: r.rank)

    def _run(self) -> None:
        order = self._order
        what = f"{order.size} ranks of {order.work.function}"
        self._context.setJobGroup(self._group, what, interruptOnCancel=True)
        try:
            tasks = self._context.parallelize(range(order.size), order.size).barrier()
            self._results.extend(tasks.mapPartitions(partial(run_rank, order)).collect())
        except Exception as trouble:  # a cancelled job, or one whose executors are lost
            self._troubles.append(trouble)

    def _end(self, thread: InheritableThread, absent: dict[int, str]) -> None:
        """End every rank: by their executors, which leaves nobody behind, and where these do not answer by Spark."""
        rank, why = next(iter(absent.items()), (0, "was stopped by the driver"))
        self._rendezvous.fail(Failure(rank, why))
        executors = [self._executor_of(rank) for rank in absent]
        # Where none is known to be silent all will answer, a busy machine's later than an idle one's.
        thread.join(_FAREWELL_S if absent else _SILENCE_S)
        deadline = time.monotonic() + _FAREWELL_S
        while self._rendezvous.is_any_running() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if thread.is_alive():
            self._context.cancelJobGroup(self._group)
            self._replace([e for e in executors if e])
            thread.join(_SILENCE_S)

    def _watch(self, thread: InheritableThread) -> dict[int, str]:
        """Wait for the end of the stage; ranks that do not answer, with what is to be said of them."""
        begin = time.monotonic()
        while thread.is_alive():
            thread.join(_POLL_S)
            if silent := self._rendezvous.silent_ranks(_SILENCE_S):
                return dict.fromkeys(silent, f"has not been heard of for {_SILENCE_S:.0f} s")
            late = time.monotonic() - begin > _ARRIVAL_S and thread.is_alive()
            if late and (missing := self._rendezvous.missing_ranks(self._order.size)):
                return dict.fromkeys(missing, f"was not there after {_ARRIVAL_S:.0f} s")
        return {}

    def _executor_of(self, rank: int) -> str | None:
        """Spark's name of the executor that has a rank's task."""
        store = self._context._jsc.sc().statusStore()
        for job in self._context.statusTracker().getJobIdsForGroup(self._group):
            info = self._context.statusTracker().getJobInfo(job)
            for stage in info.stageIds if info else ():
                tasks = store.taskList(stage, 0, self._order.size)
                for task in (tasks.apply(i) for i in range(tasks.size())):
                    if task.index() == rank:
                        return str(task.executorId())
        return None

    def _replace(self, executors: list[str]) -> None:
        """Have executors that do not answer ended and others started; stopped ones would keep their slots."""
        scala = self._context._jsc.sc()
        for executor in dict.fromkeys(executors):
            if executor != "driver":
                scala.killAndReplaceExecutor(executor)


def _explain(trouble: BaseException) -> LaunchError:
    """The line of a Python worker's traceback that names the error, or the first line there is."""
    lines = str(trouble).splitlines() or [repr(trouble)]
    named: list[Any] = [line for line in lines if re.match(r"[A-Za-z_.]*Error: ", line)]
    hint = "; is PYSPARK_PYTHON the Python that has our packages?" if named and "ModuleNotFound" in named[0] else ""
    # What Python says would be said again; what Spark says is of executors.
    kind = LaunchError if named else RankLostError
    return kind(f"Spark ended the stage of the ranks: {(named or lines)[0]}{hint}")
