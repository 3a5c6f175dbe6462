"""Spark's Python workers: quick between tasks, and out of other users' reach."""

import gc
import os
import sys
import time
import weakref
from pathlib import Path

import psutil
import pyarrow as pa
from pyspark.sql import SparkSession

from iomt_ids.runtime import python_daemon


def in_one_worker(spark: SparkSession, task):
    return spark.sparkContext.parallelize([0], 1).map(lambda _: (os.getpid(), task())).collect()[0]


def again_in(spark: SparkSession, pid: int, task):
    """What a worker says that has run a task before; Spark may have others waiting, each of which has its turn."""
    for _ in range(100):
        other, said = in_one_worker(spark, task)
        if other == pid:
            return said
        time.sleep(0.05)
    raise AssertionError(f"worker {pid} was given no other task")


def test_a_new_worker_has_what_nearly_every_task_needs(spark):
    _, parent = in_one_worker(spark, os.getppid)
    loaded = {Path(mapped.path).parts for mapped in psutil.Process(parent).memory_maps()}
    for library in ("pandas", "pyarrow", "llvmlite"):
        assert any(library in parts for parts in loaded), library


def test_tasks_of_sql_and_of_rdds_share_a_daemon(spark):
    def tell(batches):
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"parent": [os.getppid()]})

    _, parent = in_one_worker(spark, os.getppid)
    assert spark.range(1).coalesce(1).mapInArrow(tell, "parent long").first().parent == parent


def test_a_worker_passes_over_what_it_has_imported(spark):
    first, before = in_one_worker(spark, lambda: (gc.get_freeze_count(), __import__("jinja2"))[0])
    assert again_in(spark, first, gc.get_freeze_count) > before + 1_000


def test_what_a_task_leaves_behind_is_collected_although_it_has_imported_something(spark):
    class Circle:
        def __init__(self):
            self.itself = self

    def leave():
        assert "wave" not in sys.modules
        __import__("wave")
        gc.disable()
        sys.left = weakref.ref(Circle())
        return sys.left() is not None

    first, is_there = in_one_worker(spark, leave)
    assert is_there
    assert not again_in(spark, first, lambda: (gc.enable(), getattr(sys, "left", str)())[1] is not None)


def test_it_is_no_news_that_java_has_hung_up(monkeypatch):
    def broken(sock, authenticated):
        raise BrokenPipeError

    monkeypatch.setattr(python_daemon, "_work", broken)
    assert python_daemon.worker(None, True) == 1, "it is not given another task"


def test_java_and_python_talk_where_only_their_owner_can(spark):
    in_one_worker(spark, os.getpid)
    family = psutil.Process().children(recursive=True)
    daemons = [p for p in family if p.name().startswith("python") and python_daemon.__name__ in p.cmdline()]
    assert daemons
    assert not [c for p in [psutil.Process(), *daemons] for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    doors = [Path(c.laddr) for p in daemons for c in p.net_connections("unix") if c.laddr]
    assert doors and not [door for door in doors if door.exists() and door.stat().st_mode & 0o022]
