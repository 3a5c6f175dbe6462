"""Every launcher: ranks start together or not at all, learn the same, and are gone when one of them fails."""

from __future__ import annotations

import _thread
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ConfigError, LaunchError, RankLostError
from iomt_ids.distributed import stage
from iomt_ids.distributed.barrier import place
from iomt_ids.distributed.collective import own_port
from iomt_ids.distributed.launch import InProcessLauncher, Launcher, SocketLauncher, TensorflowLauncher, launcher_of
from iomt_ids.distributed.work import RankResult, Work
from iomt_ids.distributed.worker import NAME
from iomt_ids.models.dense_net import Params
from tests.distributed.test_train import _write

_SECONDS = 60
_ON_SPARK = ("horovod", "barrier_tf", "sockets")
# The same rows make one step on one rank as on two, and the rate is scaled with the ranks.
_ROWS_OF_A_STEP, _RATE = 64, 0.01


@pytest.fixture(scope="module")
def ranks_module(spark: SparkSession) -> str:
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("faulty_ranks.py")))
    return "faulty_ranks"


class Forking(SocketLauncher):
    """Ranks without tensors are forks of Python workers."""

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        return super().run(replace(work, has_tensors=False), ranks)


@pytest.fixture(scope="module", params=[*_ON_SPARK, "forked"])
def launcher(request: pytest.FixtureRequest, spark: SparkSession) -> Launcher:
    return Forking(spark) if request.param == "forked" else launcher_of(request.param, spark)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rows")
    return {
        "train": _write(folder / "train.parquet", 640, 1), "validation": _write(folder / "val.parquet", 211, 2),
        "features": ["a", "b"], "label": "y", "labels": [0, 2, 5], "scaling": [[0.7, 0.6], [0.0, 0.6]],
        "seed": 0, "network": {"kind": "dense_net", "layers": [8], "dropout": 0.0},
    }


@pytest.fixture(scope="module")
def trained(spark: SparkSession, ranks_module: str, job: dict[str, Any]) -> dict[str, list[RankResult]]:
    found = {}
    for name, ranks in (("in_process", 1), *((name, 2) for name in _ON_SPARK)):
        params = Params(
            layers=(8,), ranks=ranks, batch_rows=_ROWS_OF_A_STEP // ranks, steps=30, learning_rate=_RATE / ranks, dropout=0.0
        )
        module = "tests.distributed.faulty_ranks" if name == "in_process" else ranks_module
        work = Work(f"{module}:train", {**job, "params": asdict(params)})
        found[name] = launcher_of(name, spark).run(work, ranks)
    return found


def test_every_rank_is_given_its_place_and_the_sum_of_all(trained: dict[str, list[RankResult]]) -> None:
    for name, results in trained.items():
        size = 1 if name == "in_process" else 2
        assert [r.facts["rank"] for r in results] == [r.rank for r in results] == list(range(size))
        assert {r.facts["size"] for r in results} == {size}
        assert all(r.facts["sum"] == [size * (size + 1) / 2] for r in results)
        assert all(r.facts["whole"] == [size * 2**60 + size - 1] for r in results)


def test_all_ranks_end_with_the_same_bytes(trained: dict[str, list[RankResult]]) -> None:
    for results in trained.values():
        assert len({r.facts["weights_sha256"] for r in results}) == 1


def test_every_launcher_learns_the_same(trained: dict[str, list[RankResult]]) -> None:
    curves = {
        name: np.array([[e["train_loss"], e["validation_loss"]] for e in results[0].facts["curves"]])
        for name, results in trained.items()
    }
    assert curves["horovod"][-1, 0] < curves["horovod"][0, 0] / 2
    for name in (*_ON_SPARK, "in_process"):
        np.testing.assert_allclose(curves[name], curves["horovod"], atol=1e-4)


def test_ranks_listen_on_loopback_only(trained: dict[str, list[RankResult]]) -> None:
    for name in _ON_SPARK:
        listening = {address.removeprefix("::ffff:") for r in trained[name] for address in r.facts["listening"]}
        # Those that are joined by sockets have stopped listening when they have met.
        assert listening == (set() if name == "sockets" else {"127.0.0.1"})


def test_what_ranks_need_is_loaded_by_the_processes_that_they_are_forks_of(spark: SparkSession, ranks_module: str) -> None:
    work = Work(f"{ranks_module}:tell_loaded", {}, has_tensors=False, load=f"{ranks_module}:load")
    for result in SocketLauncher(spark).run(work, 2):
        assert result.facts["loaded"] and result.facts["loaded"][-1]


def test_ranks_are_not_missed_while_what_they_need_is_compiled(
    spark: SparkSession, ranks_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_ARRIVAL_S", 8.0)
    work = Work(f"{ranks_module}:tell_loaded", {}, has_tensors=False, load=f"{ranks_module}:load_slowly")
    assert len(SocketLauncher(spark).run(work, 2)) == 2


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", _ON_SPARK)
def test_ranks_without_tensors_add_up_as_the_others_do_and_start_without_tensorflow(
    spark: SparkSession, ranks_module: str, name: str, size: int
) -> None:
    results = launcher_of(name, spark).run(Work(f"{ranks_module}:add", {}, has_tensors=False), size)
    told = {"sum": [size * (size + 1) / 2], "whole": [size * 2**60 + sum(range(size))], "listening": [], "tensorflow": False}
    assert [r.facts for r in results] == [told] * size


def test_ranks_leave_no_temporary_files(trained: dict[str, list[RankResult]]) -> None:
    assert [r.facts["temporary"] for name in _ON_SPARK for r in trained[name] if Path(r.facts["temporary"]).exists()] == []


def test_too_many_ranks_are_refused_at_once_with_the_line_that_mends_it(launcher: Launcher) -> None:
    started = time.monotonic()
    with pytest.raises(LaunchError, match=r"7 ranks need 7 slots .* has 2; set models\.dense_net\.ranks=2"):
        launcher.run(Work("faulty_ranks:wait", {}), 7)
    assert time.monotonic() - started < 5


def test_this_process_is_one_rank_and_no_more() -> None:
    with pytest.raises(LaunchError, match=r"2 ranks are wanted .* set models\.dense_net\.ranks=1"):
        InProcessLauncher().run(Work("faulty_ranks:wait", {}), 2)


@pytest.fixture
def nobody_stays(tmp_path: Path) -> Iterator[Path]:
    """A folder where ranks sign in; afterwards none of them is there, nor any socket that they had."""
    begin = _listening()
    yield tmp_path
    ranks = [int(file.name) for file in tmp_path.iterdir() if file.name.isdecimal()]
    assert len(ranks) == 2
    assert not any(psutil.pid_exists(rank) for rank in ranks)
    assert _listening() <= begin


def _listening() -> set[int]:
    ports = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # Spark ends the worker of a cancelled task when it likes
            ports |= {c.laddr.port for c in process.net_connections() if c.status == psutil.CONN_LISTEN and _is_python(process)}
    return ports


def _is_python(process: psutil.Process) -> bool:
    # Java opens a port for a new Python worker now and then.
    return "python" in process.name() or process.name() == NAME


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("die", r"rank 1 of 2 .* was killed by SIGKILL; it said last:\n(.*\n)*about to die"),
        ("stop", r"rank 1 of 2 .* has been stopped from outside for 10 s"),
    ],
)
def test_one_failing_rank_ends_them_all_and_is_named(
    spark: SparkSession, launcher: Launcher, ranks_module: str, function: str, message: str, nobody_stays: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(RankLostError, match=message):
        launcher.run(Work(f"{ranks_module}:{function}", {"processes": str(nobody_stays)}), 2)
    assert time.monotonic() - started < _SECONDS
    # The session has not been harmed.
    assert spark.range(3).count() == 3


def test_a_rank_that_raises_is_quoted(spark: SparkSession, ranks_module: str, nobody_stays: Path) -> None:
    message = r"rank 1 of 2 .* ended with status 1; it said last:\n(.*\n)*ValueError: the disk of rank 1 is full"
    with pytest.raises(RankLostError, match=message):
        launcher_of("horovod", spark).run(Work(f"{ranks_module}:hang", {"processes": str(nobody_stays)}), 2)


def test_what_the_ranks_refuse_is_said_in_their_words_and_is_no_death(spark: SparkSession, ranks_module: str) -> None:
    with pytest.raises(LaunchError, match=r"rank 0 of 1 .* refused the work: values are missing in: rate$") as refused:
        launcher_of("horovod", spark).run(Work(f"{ranks_module}:refuse", {}), 1)
    assert not isinstance(refused.value, RankLostError)


def test_an_interrupted_launch_leaves_nobody_behind(launcher: Launcher, ranks_module: str, nobody_stays: Path) -> None:
    def interrupt() -> None:
        while sum(1 for _ in nobody_stays.iterdir()) < 2:
            time.sleep(0.1)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launcher.run(Work(f"{ranks_module}:wait", {"processes": str(nobody_stays)}), 2)


@pytest.mark.parametrize("unaware", [[], [1]])
def test_all_are_quoted_where_ranks_have_only_lost_each_other(
    spark: SparkSession, ranks_module: str, nobody_stays: Path, unaware: list[int]
) -> None:
    with pytest.raises(RankLostError, match="lost its connection to another rank") as lost:
        job = {"processes": str(nobody_stays), "unaware": unaware}
        launcher_of("horovod", spark).run(Work(f"{ranks_module}:part", job), 2)
    assert {f"rank {rank} is parted" in str(lost.value) for rank in range(2)} == {True}


def test_no_rank_leaves_while_another_is_fetching_from_it(spark: SparkSession, ranks_module: str, nobody_stays: Path) -> None:
    results = launcher_of("barrier_tf", spark).run(Work(f"{ranks_module}:finish", {"processes": str(nobody_stays)}), 2)
    assert [r.facts["alive"] for r in results] == [2, 2]


def test_a_port_that_the_others_were_told_is_given_to_nobody_else() -> None:
    with own_port() as port, socket.socket() as stranger, socket.socket() as server:
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        # As TensorFlow does.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen()


def test_a_function_that_does_not_exist_is_a_launch_error(spark: SparkSession) -> None:
    with pytest.raises(LaunchError, match="No module named 'nowhere'"):
        launcher_of("horovod", spark).run(Work("nowhere:nothing", {}), 1)


def test_an_unknown_launcher_is_refused_with_those_there_are(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="horovod or barrier_tf or sockets or in_process"):
        launcher_of("ray", spark)


def test_tensorflows_server_is_not_started_where_others_can_reach_it(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iomt_ids.distributed.launch.rendezvous_host", lambda _: "192.0.2.7")
    with pytest.raises(LaunchError, match=r"one machine only.* use train\.launcher=horovod"):
        TensorflowLauncher(spark).run(Work("faulty_ranks:wait", {}), 1)


def test_ranks_of_uneven_hosts_have_consistent_places() -> None:
    hosts = ["a", "b", "a", "c", "b", "a"]
    places = [place(hosts, rank) for rank in range(len(hosts))]
    assert [p["LOCAL_RANK"] for p in places] == [0, 0, 1, 0, 1, 2]
    assert [p["CROSS_SIZE"] for p in places] == [3, 3, 2, 3, 2, 1]
    assert [p["CROSS_RANK"] for p in places] == [0, 1, 0, 2, 1, 0]
