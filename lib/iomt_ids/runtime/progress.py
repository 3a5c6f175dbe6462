"""While a job works: a bar on a terminal, a line every 10 s otherwise; and its peak memory."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from pyspark.sql import SparkSession

from iomt_ids.runtime.log import log

_SAMPLE_S = 1.0
_LINE_S = 10.0


class Watch:
    """Follows one job from a thread of its own.

    Attributes
    ----------
    peak_bytes : int
        Largest proportional set size of this process, the driver's Java process and all their descendants
        seen so far. Executors of a cluster are neither and are not counted.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.doing = "starting"
        self._spark: SparkSession | None = None
        self._roots = {os.getpid()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @contextmanager
    def following(self) -> Iterator[Watch]:
        """Watch until the block ends."""
        # What the job said last is what it is doing.
        listener = _Listener(self)
        log().addHandler(listener)
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()
            log().removeHandler(listener)
            self.peak_bytes = max(self.peak_bytes, process_tree_bytes(self._roots))

    def see(self, spark: SparkSession) -> None:
        """Tell which session's tasks to count, and whose Java process to measure."""
        self._spark = spark
        # Under spark-submit that process is our parent, otherwise our child.
        self._roots.add(int(spark._jvm.java.lang.ProcessHandle.current().pid()))  # type: ignore[union-attr]

    def _follow(self) -> None:
        started = last = time.monotonic()
        while not self._stop.wait(_SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, process_tree_bytes(self._roots))
            moment = time.monotonic()
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\033[K{self._bar()} {moment - started:.0f} s {self.doing}")
                sys.stderr.flush()
            elif moment - last >= _LINE_S:
                last = moment
                done, total = self._tasks()
                log().info("still %s: %d of %d tasks, %.0f s", self.doing, done, total, moment - started)
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")

    def _bar(self) -> str:
        done, total = self._tasks()
        filled = int(20 * done / total) if total else 0
        return f"[{'#' * filled}{'.' * (20 - filled)}]"

    def _tasks(self) -> tuple[int, int]:
        done = total = 0
        if self._spark is None:
            return done, total
        try:
            tracker = self._spark.sparkContext.statusTracker()
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info is not None:
                    done, total = done + info.numCompletedTasks, total + info.numTasks
        except Exception:  # the session may be stopping under us; progress is no reason to fail
            self._spark = None
        return done, total


class _Listener(logging.Handler):
    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.INFO)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not message.startswith("still "):
            self._watch.doing = message.splitlines()[0][:100]


def process_tree_bytes(roots: set[int]) -> int:
    """Proportional set size of some processes and their descendants, in bytes.

    Shared pages count once over all processes, unlike the sum of resident sizes.
    """
    family = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            family.update({p.pid: p for p in (process, *process.children(recursive=True))})
        except psutil.Error:
            continue
    total = 0
    for process in family.values():
        try:
            info = process.memory_full_info()
            total += getattr(info, "pss", 0) or info.rss
        except psutil.Error:
            continue
    return total
