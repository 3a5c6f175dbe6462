"""Ranks on Spark's executors: together or not at all, and gone when one of them fails."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.barrier import place
from iomt_ids.distributed.launch import HorovodLauncher, InProcessLauncher
from iomt_ids.distributed.work import Work

_SECONDS = 40  # a rank imports TensorFlow first, and test machines are busy


@pytest.fixture(scope="module")
def ranks_module(spark: SparkSession) -> str:
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("faulty_ranks.py")))
    return "faulty_ranks"


def test_every_rank_is_given_its_place_and_the_sum_of_all(spark: SparkSession, ranks_module: str) -> None:
    results = HorovodLauncher(spark).run(Work(f"{ranks_module}:report", {}), 2)
    assert [r.facts for r in results] == [{"rank": 0, "size": 2, "sum": [3.0]}, {"rank": 1, "size": 2, "sum": [3.0]}]


def test_too_many_ranks_are_refused_at_once_with_the_line_that_mends_it(spark: SparkSession) -> None:
    started = time.monotonic()
    with pytest.raises(LaunchError, match=r"7 ranks need 7 slots .* has 2; set models\.dense_net\.ranks=2"):
        HorovodLauncher(spark).run(Work("faulty_ranks:report", {}), 7)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("die", r"rank 1 of 2 .* was killed by SIGKILL; it said last:\n(.*\n)*about to die"),
        ("hang", r"rank 1 of 2 .* ended with status 1; it said last:\n(.*\n)*ValueError: the disk of rank 1 is full"),
    ],
)
def test_one_failing_rank_ends_them_all_and_is_named(
    spark: SparkSession, ranks_module: str, function: str, message: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(LaunchError, match=message):
        HorovodLauncher(spark).run(Work(f"{ranks_module}:{function}", {"processes": str(tmp_path)}), 2)
    assert time.monotonic() - started < _SECONDS
    ranks = [int(file.name) for file in tmp_path.iterdir()]
    assert len(ranks) == 2
    assert not any(psutil.pid_exists(rank) for rank in ranks)
    # The session has not been harmed.
    assert spark.range(3).count() == 3


def test_a_function_that_does_not_exist_is_a_launch_error(spark: SparkSession) -> None:
    with pytest.raises(LaunchError, match="No module named 'nowhere'"):
        HorovodLauncher(spark).run(Work("nowhere:nothing", {}), 1)


def test_this_process_is_one_rank_and_no_more() -> None:
    with pytest.raises(LaunchError, match="2 ranks are wanted"):
        InProcessLauncher().run(Work("faulty_ranks:report", {}), 2)


def test_ranks_of_uneven_hosts_have_consistent_places() -> None:
    hosts = ["a", "b", "a", "c", "b", "a"]
    places = [place(hosts, rank) for rank in range(len(hosts))]
    assert [p["LOCAL_RANK"] for p in places] == [0, 0, 1, 0, 1, 2]
    assert [p["CROSS_SIZE"] for p in places] == [3, 3, 2, 3, 2, 1]
    assert [p["CROSS_RANK"] for p in places] == [0, 1, 0, 2, 1, 0]
