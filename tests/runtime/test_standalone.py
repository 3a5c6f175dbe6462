"""A real standalone cluster, started, asked, broken and stopped."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from iomt_ids.contract.errors import LaunchError
from iomt_ids.runtime import standalone
from iomt_ids.runtime.place import find_java, spark_command

PROPERTIES = Path(__file__).resolve().parents[2] / "conf" / "spark" / "standalone.conf"

pytestmark = pytest.mark.cluster


def start(folder: Path) -> bool:
    home, _ = find_java()
    environment = {"JAVA_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    return standalone.cluster_up(folder, PROPERTIES, spark_command("spark-class"), environment)


def daemons(folder: Path) -> list[psutil.Process]:
    cluster = standalone._read_state(folder)
    assert cluster is not None
    return [process for daemon in cluster.daemons if (process := daemon.process())]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cluster")
    assert start(folder)
    yield folder
    standalone.cluster_down(folder)


def test_two_workers_are_registered_when_it_is_up(cluster: Path) -> None:
    assert standalone.is_up(cluster)
    assert "2 of 2 workers registered" in standalone.describe(cluster)
    assert len(daemons(cluster)) == 3


def test_starting_it_twice_leaves_the_first_one_running(cluster: Path) -> None:
    before = [process.pid for process in daemons(cluster)]
    assert not start(cluster)
    assert [process.pid for process in daemons(cluster)] == before


def test_everything_listens_on_loopback_only_and_the_open_rest_port_is_shut(cluster: Path) -> None:
    listening = [
        connection.laddr for process in daemons(cluster) for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    # Master and workers: one port for Spark and one page each, no seventh.
    assert len(listening) == 6
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_the_secret_is_new_private_and_only_in_the_files_of_daemons_and_submitter(cluster: Path) -> None:
    submit, of_daemons = standalone.submit_properties(cluster), cluster / "daemons.conf"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (submit, of_daemons)} == {0o600}
    secrets = {
        line.split()[1] for path in (submit, of_daemons) for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("spark.authenticate.secret ")
    }
    assert len(secrets) == 1
    secret = secrets.pop()
    assert len(secret) == 64
    assert secret not in PROPERTIES.read_text(encoding="utf-8")
    assert not any(secret in " ".join(process.cmdline()) for process in daemons(cluster))
    assert not any(secret in log.read_text(encoding="utf-8") for log in cluster.glob("*.log"))


def test_a_cluster_that_lost_a_worker_says_so_and_is_started_anew(cluster: Path) -> None:
    lost = daemons(cluster)[1]
    lost.kill()
    lost.wait(10)
    assert not standalone.is_up(cluster)
    assert "worker-1 no longer runs" in standalone.describe(cluster)
    with pytest.raises(LaunchError, match="iomt-ids cluster up"):
        standalone.submit_properties(cluster)
    assert start(cluster)
    assert standalone.is_up(cluster)


def test_stopping_it_leaves_no_process_and_no_secret(tmp_path: Path) -> None:
    assert start(tmp_path)
    running = daemons(tmp_path)
    assert standalone.cluster_down(tmp_path)
    assert not [process for process in running if process.is_running()]
    assert not standalone.cluster_down(tmp_path)
    assert standalone.describe(tmp_path) == "no cluster runs"
    assert not (tmp_path / "submit.conf").exists()
    assert (tmp_path / "master.log").exists()


def test_a_daemon_that_ends_is_reported_with_its_last_word_and_nothing_is_left(tmp_path: Path) -> None:
    broken = tmp_path / "spark-class"
    broken.write_text("#!/bin/sh\necho no such class >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(LaunchError, match="no such class"):
        standalone.cluster_up(tmp_path / "cluster", PROPERTIES, broken, {})
    assert standalone.describe(tmp_path / "cluster") == "no cluster runs"


def test_a_process_that_only_has_the_number_of_a_daemon_is_not_one() -> None:
    assert standalone.Daemon("master", psutil.Process().pid, 0.0).process() is None
    mine = psutil.Process()
    assert standalone.Daemon("master", mine.pid, mine.create_time()).process() == mine
