"""The command line, the command it prints, and the exit status it passes on."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from iomt_ids import cli
from iomt_ids.contract.errors import ConfigError
from iomt_ids.runtime.package import package_bytes, write_package

ROOT = Path(__file__).resolve().parents[1]
SPARK = ROOT / "conf" / "spark"

# What differs between the three places, each for the reason given in its file; everything else is the same.
OF_THE_PLACE = (
    "spark.master", "spark.driver.", "spark.executor.", "spark.cores.max", "spark.ui.", "spark.scheduler.",
    "spark.authenticate", "spark.network.", "spark.io.encryption.", "spark.task.cpus", "spark.eventLog.",
    "spark.locality.", "spark.sql.shuffle.partitions", "spark.databricks.delta.snapshotPartitions",
    "spark.dynamicAllocation.",
)


def settings(name: str) -> dict[str, str]:
    """A properties file as a mapping."""
    lines = (SPARK / f"{name}.conf").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(dict(pairs)) == len(pairs), "a key stands there twice"
    return dict(pairs)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder with jobs that end in a known way."""
    (tmp_path / "lib" / "iomt_ids").mkdir(parents=True)
    (tmp_path / "lib" / "iomt_ids" / "__init__.py").write_text("", encoding="utf-8")
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "__init__.py").write_text("", encoding="utf-8")
    (jobs / "end_with.py").write_text("import sys\nsys.exit(int(sys.argv[-1].split('=')[1]))\n", encoding="utf-8")
    (jobs / "raise_error.py").write_text("raise RuntimeError('unforeseen')\n", encoding="utf-8")
    (jobs / "count_hosts.py").write_text(COUNT_HOSTS, encoding="utf-8")
    return tmp_path


# Slots, workers and the secret, seen from a job: one barrier task a worker, as Horovod's ranks are.
COUNT_HOSTS = """
import os, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
parents = spark.sparkContext.parallelize(range(2), 2).barrier().mapPartitions(lambda _: [os.getcwd()]).collect()
secured = spark.conf.get("spark.authenticate") == "true"
delta = "Delta" in spark.conf.get("spark.sql.extensions")
spark.stop()
sys.exit(2 if len(set(parents)) == 2 and secured and delta else 1)
"""


def run(project: Path, *arguments: str) -> int:
    environment = {**os.environ, "IOMT_IDS_HOME": str(project)}
    return subprocess.run([sys.executable, "-m", "iomt_ids.cli", *arguments], env=environment, check=False).returncode


# ---- help -----------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, iomt_ids.cli\n"
        "try: iomt_ids.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(' '.join({m.partition('.')[0] for m in sys.modules}"
        " & {'pyspark', 'numpy', 'pandas', 'pyarrow', 'tensorflow', 'yaml', 'psutil'}))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.stderr.strip() == ""
    assert "submit" in answer.stdout


def test_help_answers_in_half_a_second() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "iomt_ids.cli", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    # The best of three: the machine may be busy with something else, the program may not.
    assert min(seconds) < 0.5


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_is_complete_and_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("SPARK_HOME", "SPARK_CONF_DIR", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("iomt_ids.runtime.place.find_java", lambda: (None, "not asked here"))
    command = cli.submit_command(
        ROOT, "retrain", "local", SPARK / "local.conf",
        settings=["spark.driver.memory=8g"], assignments=["data.raw=/a folder", "seed=1"],
    )
    python = sys.executable
    assert shlex.join(command) == (
        f"/usr/bin/env PYSPARK_PYTHON={python} PYSPARK_DRIVER_PYTHON={python} SPARK_LOCAL_IP=127.0.0.1"
        f" {Path(python).parent}/spark-submit --properties-file {ROOT}/conf/spark/local.conf"
        f" --conf spark.driver.memory=8g --py-files {ROOT}/dist/iomt_ids.zip {ROOT}/jobs/retrain.py"
        f" --config {ROOT}/conf/local.yaml --set 'data.raw=/a folder' --set seed=1"
    )


def test_from_another_folder_java_still_finds_the_files_of_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = cli.submit_command(ROOT, "retrain", "local", SPARK / "local.conf")
    after = command[command.index("--driver-java-options") + 1]
    assert after.split()[:2] == [
        f"-Dlog4j2.configurationFile={ROOT}/conf/log4j2.properties", f"-XX:SharedArchiveFile={ROOT}/.venv/spark.jsa",
    ]


def test_another_spark_in_the_environment_is_taken_out_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", "/opt/spark")
    command = cli.submit_command(ROOT, "retrain", "local", SPARK / "local.conf")
    assert command[1:3] == ["-u", "SPARK_HOME"]


def test_an_unknown_job_is_refused_with_those_there_are(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"no job 'retain' .* there are: count_hosts, end_with, raise_error"):
        cli.submit_command(project, "retain", "local", SPARK / "local.conf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "end_with", "--profile", "cluster"], "--spark-conf spark.master="),
        (["submit", "end_with", "--profile", "gpu"], "--profile gpu: say where it is, e.g. --spark-conf spark.master="),
        (["submit", "end_with", "--profile", "standalone"], "iomt-ids cluster up"),
        (["submit", "end_with", "--spark-conf", "master=local"], "wanted spark.KEY=VALUE"),
    ],
)
def test_what_cannot_be_submitted_is_refused_with_status_2(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("IOMT_IDS_HOME", str(project))
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_outside_of_the_project_the_message_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IOMT_IDS_HOME", str(tmp_path))
    assert cli.main(["package"]) == 2
    assert str(tmp_path) in capsys.readouterr().err


# ---- exit status ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("job", "wanted"), [("end_with", 0), ("end_with", 2), ("raise_error", 1)])
def test_the_status_of_a_job_is_the_status_of_submit(project: Path, job: str, wanted: int) -> None:
    assert run(project, "submit", job, "--set", f"status={wanted}") == wanted


def test_a_job_that_is_told_to_end_ends_and_submit_says_how() -> None:
    program = "import sys\nfrom iomt_ids.cli import _run\nsys.exit(_run(['sleep', '60']))"
    with subprocess.Popen([sys.executable, "-c", program]) as submit:
        time.sleep(1)
        submit.send_signal(signal.SIGTERM)
        assert submit.wait(10) == 128 + signal.SIGTERM


@pytest.mark.cluster
@pytest.mark.slow
def test_a_job_on_the_standalone_cluster_has_a_task_on_each_worker_and_the_cluster_is_stopped_after(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = run(project, "submit", "count_hosts", "--profile", "standalone", "--start-cluster")
    told = capfd.readouterr()
    assert status == 2, told.err
    assert "cluster started" in told.err and "cluster stopped" in told.err
    assert "cluster stopped" not in told.out, "the line of JSON of a job is the last one"
    assert run(project, "cluster", "status") == 1


# ---- the archive ----------------------------------------------------------------------------------------------------


def test_the_archive_holds_library_and_jobs_and_no_leftovers() -> None:
    names = zipfile.ZipFile(io.BytesIO(package_bytes(ROOT))).namelist()
    assert {"iomt_ids/__init__.py", "iomt_ids/contract/flows.py", "jobs/retrain.py"} <= set(names)
    assert {path.relative_to(ROOT / "lib").as_posix() for path in ROOT.glob("lib/iomt_ids/**/*.j2")} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc") or name.startswith("/")]


def test_the_same_files_make_the_same_archive(project: Path) -> None:
    before = package_bytes(project)
    for path in project.rglob("*.py"):
        os.utime(path, (1, 1))
    assert package_bytes(project) == before
    target = project / "dist" / "iomt_ids.zip"
    assert write_package(project, target)
    assert not write_package(project, target)
    (project / "jobs" / "end_with.py").write_text("", encoding="utf-8")
    assert write_package(project, target)


def test_submit_renews_an_archive_that_is_older_than_the_code(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOMT_IDS_HOME", str(project))
    archive = project / "dist" / "iomt_ids.zip"
    assert cli.main(["submit", "end_with", "--dry-run"]) == 0
    (project / "jobs" / "end_with.py").write_text("changed = True\n", encoding="utf-8")
    assert cli.main(["submit", "end_with", "--dry-run"]) == 0
    assert zipfile.ZipFile(archive).read("jobs/end_with.py") == b"changed = True\n"


# ---- demo -----------------------------------------------------------------------------------------------------------


def test_demo_writes_the_same_files_for_the_same_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        assert cli.main(["demo", str(tmp_path / folder), "--rows", "10000", "--seed", "3"]) == 0
    assert "synthetic demo data" in capsys.readouterr().out
    files = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*.csv"))]
    assert files
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


@pytest.mark.parametrize("size", ["", "GB", "1 TB", "-1MB", "1KI"])
def test_what_is_no_size_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", "folder", f"--bytes={size}"])
    assert ended.value.code == 2
    assert "write it as 300MB or 1GB" in capsys.readouterr().err


# ---- configuration of Spark -----------------------------------------------------------------------------------------


def test_the_gpu_place_is_the_cluster_with_one_gpu_a_task_and_one_task_an_executor() -> None:
    gpu, cluster = settings("gpu"), settings("cluster")
    own = {
        "spark.executor.resource.gpu.amount": "1", "spark.task.resource.gpu.amount": "1",
        "spark.executor.resource.gpu.vendor": "nvidia.com",
        "spark.executor.resource.gpu.discoveryScript": "./conf/spark/find_gpus.sh",
        "spark.executorEnv.NCCL_SOCKET_IFNAME": "eth0", "spark.task.cpus": gpu["spark.executor.cores"],
    }
    assert {key: value for key, value in gpu.items() if cluster.get(key) != value} == own
    assert set(cluster) <= set(gpu)
    said = (SPARK / "gpu.conf").read_text(encoding="utf-8")
    assert "HOROVOD_GPU_OPERATIONS=NCCL" in said and "HOROVOD_NCCL_HOME" in said
    assert "requirements/horovod.sed" in said


def test_the_gpus_of_a_node_are_told_as_spark_wants_it(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n'\n", encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = subprocess.run([SPARK / "find_gpus.sh"], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == {"name": "gpu", "addresses": ["0", "1"]}


@pytest.mark.parametrize("place", ["standalone", "cluster"])
def test_what_is_not_of_the_place_is_the_same_in_every_place(place: str) -> None:
    def shared(name: str) -> dict[str, str]:
        return {key: value for key, value in settings(name).items() if not key.startswith(OF_THE_PLACE)}

    assert shared(place) == shared("local")


def test_kubernetes_gets_the_settings_of_the_cluster_profile() -> None:
    application = yaml.safe_load((ROOT / "conf/cluster/spark-application.yaml").read_text(encoding="utf-8"))["spec"]
    # Kubernetes has fields of its own for these.
    own = {f"spark.{part}.{what}" for part in ("driver", "executor") for what in ("memory", "cores")}
    cluster = {key: value for key, value in settings("cluster").items() if key not in own}
    assert application["sparkConf"] == cluster
    assert application["executor"]["memory"] == settings("cluster")["spark.executor.memory"]


def test_the_containers_publish_no_port_and_run_as_nobody_special() -> None:
    compose = yaml.safe_load((ROOT / "conf/cluster/compose.yaml").read_text(encoding="utf-8"))
    assert compose["networks"]["spark"]["internal"]
    for service in compose["services"].values():
        assert "ports" not in service
        assert service["user"] == "185"
        assert "--properties-file /run/secrets/cluster" in service["command"]


# ---- set-up ---------------------------------------------------------------------------------------------------------


def test_a_second_set_up_does_nothing_and_takes_no_time() -> None:
    if not (ROOT / ".venv" / ".made-from-run").is_file():
        pytest.skip("this checkout was never set up by make")
    start = time.perf_counter()
    answer = subprocess.run([ROOT / "scripts" / "set_up.sh", "run"], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert time.perf_counter() - start < 2


def test_without_root_the_missing_packages_are_named_in_one_command(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    needed = ("bash", "cat", "cut", "date", "dirname", "env", "flock", "grep", "mkdir", "readlink", "sha256sum")
    for tool in needed:
        (tools / tool).symlink_to(shutil.which(tool) or "")
    (tools / "python3").symlink_to(sys.executable)
    (tools / "id").write_text("#!/bin/sh\necho 1000\n", encoding="utf-8")
    (tools / "id").chmod(0o755)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "set_up.sh", tmp_path / "scripts")
    shutil.copy(ROOT / "setup.py", tmp_path)
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    answer = subprocess.run(
        [tmp_path / "scripts" / "set_up.sh", "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    command = answer.stderr.strip().splitlines()[-1]
    assert command.startswith("sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends ")
    assert {"g++", "make"} <= set(command.rstrip("'").split())


def test_no_lock_names_a_registry_and_every_line_has_a_hash() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert pinned
        assert all("==" in line and line.endswith("\\") for line in pinned)
