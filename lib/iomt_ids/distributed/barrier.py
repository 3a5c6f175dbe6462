"""What an executor does for one rank: starts its process, watches it and the others, brings its result home.

A rank is a process of its own, so that a crash in native code or a hang in a collective operation ends that
process and not the executor. Nothing raises in here: Spark would start the whole barrier stage again,
three times, before it told anybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any, cast

import psutil
from pyspark import BarrierTaskContext

from iomt_ids.distributed.rendezvous import WATCH
from iomt_ids.distributed.work import RankResult, Work
from iomt_ids.distributed.worker import FACTS, LOST_A_PEER, PAYLOAD

_POLL_S = 0.25
_PATIENCE_S = 5.0
# Longer than a dying rank's own executor takes to notice it.
_LET_THE_OTHER_SPEAK_S = 2.0
_LAST_LINES = 25


@dataclass(frozen=True)
class Order:
    """A launch, as every executor gets it.

    Attributes
    ----------
    work : Work
        What the ranks do.
    size : int
        How many there are.
    host, port : str, int
        Where the rendezvous listens.
    gloo_timeout_s : int
        How long a rank waits for another in one operation, if nothing else has noticed.
    """

    work: Work
    size: int
    host: str
    port: int
    gloo_timeout_s: int


def run_rank(order: Order, _rows: Iterable[Any]) -> Iterator[RankResult]:
    """Run one rank beside this executor; the body of a barrier task."""
    context = BarrierTaskContext.get()
    rank = context.partitionId()
    executor = context.getTaskInfos()[rank].address
    hosts = context.allGather(socket.gethostname())
    started = time.monotonic()
    try:
        facts, payload, error, lines = _follow(order, rank, hosts)
    except Exception as failure:  # see the module's docstring
        facts, payload, error, lines = {}, b"", f"could not be started: {failure!r}", ""
        _tell(order, "PUT", rank, error)
    seconds = round(time.monotonic() - started, 3)
    yield RankResult(rank, hosts[rank], executor, seconds, facts, payload, error, lines)


def place(hosts: list[str], rank: int) -> dict[str, int]:
    """A rank's position on its host and across hosts, in Horovod's words.

    Examples
    --------
    >>> place(["a", "b", "a"], 2)
    {'LOCAL_RANK': 1, 'LOCAL_SIZE': 2, 'CROSS_RANK': 0, 'CROSS_SIZE': 1}
    >>> place(["a", "b", "a"], 1)
    {'LOCAL_RANK': 0, 'LOCAL_SIZE': 1, 'CROSS_RANK': 1, 'CROSS_SIZE': 2}
    """
    local = [r for r, host in enumerate(hosts) if host == hosts[rank]]
    position = local.index(rank)
    peers = [host for host in dict.fromkeys(hosts) if hosts.count(host) > position]
    return {
        "LOCAL_RANK": position, "LOCAL_SIZE": len(local),
        "CROSS_RANK": peers.index(hosts[rank]), "CROSS_SIZE": len(peers),
    }


def _follow(order: Order, rank: int, hosts: list[str]) -> tuple[dict[str, Any], bytes, str, str]:
    if _tell(order, "POST", rank) != "go on":
        return {}, b"", "was stopped before it started", ""
    with tempfile.TemporaryDirectory(prefix="iomt-ids-rank-") as folder:
        process = subprocess.Popen(
            _command(order, rank, hosts), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        lines: deque[bytes] = deque(maxlen=_LAST_LINES)
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            _hand_over(process, order, rank, hosts, folder)
            stopped_by = _wait(process, order, rank)
        finally:
            _kill(process)
        reader.join(_PATIENCE_S)
        if stopped_by:
            return {}, b"", stopped_by, ""
        said = b"".join(lines).decode("utf-8", "replace").rstrip()
        if process.returncode:
            return {}, b"", _report(order, rank, process.returncode), said
        _tell(order, "PUT", rank, "")
        return json.loads((Path(folder) / FACTS).read_text()), (Path(folder) / PAYLOAD).read_bytes(), "", ""


def _command(order: Order, rank: int, hosts: list[str]) -> list[str]:
    variables = {
        **place(hosts, rank), "RANK": rank, "SIZE": order.size, "HOSTNAME": hosts[rank],
        "CONTROLLER": "gloo", "CPU_OPERATIONS": "gloo", "LOG_LEVEL": "error",
        "GLOO_RENDEZVOUS_ADDR": order.host, "GLOO_RENDEZVOUS_PORT": order.port,
        "GLOO_IFACE": _interface(order.host, order.port), "GLOO_TIMEOUT_SECONDS": order.gloo_timeout_s,
    }
    # env(1) adds to the executor's environment; the zip of --py-files is on sys.path and nowhere else.
    return [
        "env", *(f"HOROVOD_{name}={value}" for name, value in variables.items()),
        f"PYTHONPATH={os.pathsep.join(p for p in sys.path if p)}", "KERAS_BACKEND=tensorflow",
        sys.executable, "-m", "iomt_ids.distributed.worker",
    ]


def _interface(host: str, port: int) -> str:
    """The network interface that leads to the rendezvous; ``lo`` when all run on one machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.family == socket.AF_INET and a.address == own for a in addresses):
            return name
    raise OSError(f"no network interface has the address {own}")


def _hand_over(process: subprocess.Popen[bytes], order: Order, rank: int, hosts: list[str], folder: str) -> None:
    order_of_rank = {
        "function": order.work.function, "job": order.work.job, "folder": folder, "parent": os.getpid(),
        "ranks_on_host": hosts.count(hosts[rank]),
    }
    # If it died at once, _wait sees how.
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as pipe:
        pipe.write(json.dumps(order_of_rank).encode())


def _wait(process: subprocess.Popen[bytes], order: Order, rank: int) -> str:
    """Wait for the process to end by itself; or return why it is not worth waiting for."""
    last_answer = time.monotonic()
    while True:
        try:
            process.wait(_POLL_S)
            return ""
        except subprocess.TimeoutExpired:
            answer = _tell(order, "GET", rank)
        if answer == "stop":
            return "was stopped because another rank failed"
        if answer == "go on":
            last_answer = time.monotonic()
        elif time.monotonic() - last_answer > _PATIENCE_S:
            return "was stopped because the driver has gone"


def _report(order: Order, rank: int, status: int) -> str:
    if status == LOST_A_PEER:
        # It is a victim: give the rank that died first the time to be reported first.
        deadline = time.monotonic() + _LET_THE_OTHER_SPEAK_S
        while time.monotonic() < deadline and _tell(order, "GET", rank) == "go on":
            time.sleep(_POLL_S)
        failure = "lost its connection to another rank"
    elif status < 0:
        failure = f"was killed by {signal.Signals(-status).name}"
    else:
        failure = f"ended with status {status}"
    _tell(order, "PUT", rank, failure)
    return failure


def _tell(order: Order, method: str, rank: int, failure: str = "") -> str:
    """Speak to the rendezvous; ``go on``, ``stop``, or ``nobody there``."""
    connection = HTTPConnection(order.host, order.port, timeout=_PATIENCE_S)
    try:
        connection.request(method, f"/{WATCH}/{rank}", body=failure.encode() if method == "PUT" else None)
        return "go on" if connection.getresponse().status == 200 else "stop"
    except (OSError, HTTPException):
        return "nobody there"
    finally:
        connection.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
