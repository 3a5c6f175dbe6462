"""Spark standalone on this machine: a master and two workers, processes of their own, on loopback.

pip's pyspark brings no start scripts, so the daemons are started through its ``spark-class``. They authenticate
each other and whoever submits with a secret that is made anew at every start.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from iomt_ids.contract.errors import LaunchError
from iomt_ids.runtime.lock import held

WORKERS = 2
_CORES = 1
_MEMORY = "3g"
_LOOPBACK = "127.0.0.1"
_MASTER_PORT = 7077
_PAGE_PORT = 8080
_START_SECONDS = 90.0
_STOP_SECONDS = 15.0
_DAEMON = "org.apache.spark.deploy"
_DAEMON_SETTINGS = """
# The master's second way in, which asks for no secret.
spark.master.rest.enabled false
# The pages show; they stop nothing.
spark.ui.killEnabled false
# What an application leaves in a worker's folder goes after a while.
spark.worker.cleanup.enabled true
"""


@dataclass(frozen=True)
class Daemon:
    """A process of the cluster; the start time tells it from a later process with the same number."""

    name: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            found = psutil.Process(self.pid)
            alive = abs(found.create_time() - self.started) < 1 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return found if alive else None


@dataclass(frozen=True)
class Cluster:
    """A cluster that was started.

    Attributes
    ----------
    master : str
        ``spark://host:port``.
    page : str
        Address of the master's web page.
    daemons : tuple of Daemon
        The master, then the workers.
    """

    master: str
    page: str
    daemons: tuple[Daemon, ...]


def cluster_up(folder: Path, properties: Path, spark_class: Path, environment: Mapping[str, str]) -> bool:
    """Start the cluster, or leave it alone if it runs.

    Parameters
    ----------
    folder : Path
        Logs, state and secret go here; it is made.
    properties : Path
        ``conf/spark/standalone.conf``; a copy with address and secret becomes `submit_properties`.
    spark_class : Path
        The ``spark-class`` of the environment.
    environment : mapping of str to str
        Variables the daemons get on top of this process's.

    Returns
    -------
    bool
        Whether it was started by this call.

    Raises
    ------
    LaunchError
        If it does not come up; nothing is left running then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "lock"):
        if is_up(folder):
            return False
        _stop(folder)
        try:
            _start(folder, properties, spark_class, environment)
        except BaseException:
            _stop(folder)
            raise
        return True


def cluster_down(folder: Path) -> bool:
    """Stop the cluster and all it has started; its logs stay.

    Returns
    -------
    bool
        Whether anything was running.
    """
    if not folder.is_dir():
        return False
    with held(folder / "lock"):
        return _stop(folder)


def is_up(folder: Path) -> bool:
    """Whether master and workers all run and the workers are registered."""
    cluster = _read_state(folder)
    if cluster is None or len(cluster.daemons) != WORKERS + 1:
        return False
    return all(daemon.process() for daemon in cluster.daemons) and _registered_workers(cluster) == WORKERS


def describe(folder: Path) -> str:
    """One sentence on what runs."""
    cluster = _read_state(folder)
    if cluster is None:
        return "no cluster runs"
    dead = [daemon.name for daemon in cluster.daemons if not daemon.process()]
    if dead:
        return f"broken: {', '.join(dead)} no longer runs; logs in {folder}"
    return f"{cluster.master}, {_registered_workers(cluster)} of {WORKERS} workers registered, page {cluster.page}"


def submit_properties(folder: Path) -> Path:
    """The properties file to submit with, readable by its owner only.

    Raises
    ------
    LaunchError
        If the cluster is not up.
    """
    if not is_up(folder):
        raise LaunchError(f"{describe(folder)}; start it with: iomt-ids cluster up")
    return folder / "submit.conf"


def _start(folder: Path, properties: Path, spark_class: Path, environment: Mapping[str, str]) -> None:
    port, page_port = _free_port(_MASTER_PORT), _free_port(_PAGE_PORT)
    master = f"spark://{_LOOPBACK}:{port}"
    # Of the environment that has this Spark; where there is none Java goes on without, see conf/spark/local.conf.
    archive = f"-XX:SharedArchiveFile={spark_class.parents[1] / 'spark.jsa'} -Xlog:disable -Xlog:all=error:stderr"
    environment = {"SPARK_DAEMON_JAVA_OPTS": archive, **environment}
    secret = f"spark.authenticate true\nspark.authenticate.secret {secrets.token_hex(32)}\n"
    _write_private(folder / "daemons.conf", secret + _DAEMON_SETTINGS)
    _write_private(
        folder / "submit.conf",
        f"{properties.read_text(encoding='utf-8')}\n# Added by `iomt-ids cluster up`.\nspark.master {master}\n{secret}"
        f"spark.executor.extraJavaOptions {archive}\n",
    )
    begin = [str(spark_class)]
    finish = ["--host", _LOOPBACK, "--properties-file", str(folder / "daemons.conf")]
    commands = {
        "master": [*begin, f"{_DAEMON}.master.Master", "--port", str(port), "--webui-port", str(page_port), *finish]
    }
    for number in range(1, WORKERS + 1):
        commands[f"worker-{number}"] = [
            *begin, f"{_DAEMON}.worker.Worker", "--cores", str(_CORES), "--memory", _MEMORY, "--webui-port", "0",
            "--work-dir", str(folder / f"work-{number}"), *finish, master,
        ]
    cluster = Cluster(master, f"http://{_LOOPBACK}:{page_port}", ())
    for name, command in commands.items():
        daemon = _spawn(folder, name, command, environment)
        cluster = Cluster(cluster.master, cluster.page, (*cluster.daemons, daemon))
        _write_state(folder, cluster)
    _wait_until_registered(folder, cluster)


def _spawn(folder: Path, name: str, command: list[str], environment: Mapping[str, str]) -> Daemon:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("SPARK_")}
    # SPARK_LOCAL_IP binds the web pages too, which no option does.
    variables |= {"SPARK_LOCAL_IP": _LOOPBACK, "SPARK_DAEMON_MEMORY": "512m", **environment}
    with (folder / f"{name}.log").open("wb") as log:
        # A session of its own: Ctrl-C in the terminal is for the job, not for the cluster.
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables, cwd=folder, start_new_session=True
        )
    return Daemon(name, started.pid, psutil.Process(started.pid).create_time())


def _wait_until_registered(folder: Path, cluster: Cluster) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while _registered_workers(cluster) < WORKERS:
        dead = [daemon.name for daemon in cluster.daemons if not daemon.process()]
        if dead:
            raise LaunchError(f"the cluster's {dead[0]} ended: {_last_line(folder / f'{dead[0]}.log')}")
        if time.monotonic() > deadline:
            raise LaunchError(f"no {WORKERS} workers are registered after {_START_SECONDS:.0f} s; logs in {folder}")
        time.sleep(0.2)


def _registered_workers(cluster: Cluster) -> int:
    address = cluster.page.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/json/")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0
    finally:
        connection.close()
    # Another master may answer on a port that ours has given up.
    if answer.get("url") != cluster.master:
        return 0
    return sum(worker.get("state") == "ALIVE" for worker in answer.get("workers", []))


def _stop(folder: Path) -> bool:
    cluster = _read_state(folder)
    if cluster is None:
        return False
    running = [process for daemon in reversed(cluster.daemons) if (process := daemon.process())]
    family = list(running)
    for process in running:
        try:
            family += process.children(recursive=True)
        except psutil.Error:
            continue
    for process in running:
        _signal(process.terminate)
    # Executors and their Python workers end with their worker; whatever does not is ended.
    _, stubborn = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for process in stubborn:
        _signal(process.kill)
    psutil.wait_procs(stubborn, timeout=_STOP_SECONDS)
    for name in ("cluster.json", "submit.conf", "daemons.conf"):
        (folder / name).unlink(missing_ok=True)
    for work in folder.glob("work-*"):
        shutil.rmtree(work, ignore_errors=True)
    return bool(running)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.Error:
        return


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LaunchError(f"no port is free on {_LOOPBACK}")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)


def _write_state(folder: Path, cluster: Cluster) -> None:
    (folder / "cluster.json").write_text(json.dumps(asdict(cluster)), encoding="utf-8")


def _read_state(folder: Path) -> Cluster | None:
    try:
        state = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
        return Cluster(state["master"], state["page"], tuple(Daemon(**daemon) for daemon in state["daemons"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it said nothing'} (whole log: {log})"
