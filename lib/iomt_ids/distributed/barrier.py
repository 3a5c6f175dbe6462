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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import psutil
from pyspark import BarrierTaskContext

from iomt_ids.distributed.forked import Forked
from iomt_ids.distributed.meeting import JOIN_S, all_tell, own_address
from iomt_ids.distributed.rendezvous import WATCH
from iomt_ids.distributed.signed import ask
from iomt_ids.distributed.work import RankResult, Work, named
from iomt_ids.distributed.worker import BACKENDS, FACTS, LOST_A_PEER, PAYLOAD, REFUSED, run

_POLL_S = 0.5
_PATIENCE_S = 5.0
# A debugger or a short stop is forgiven.
_STOPPED_S = 10.0
# Longer than a dying rank's own executor takes to notice it; TensorFlow misses a stopped one about as soon as that does.
_LET_THE_OTHER_SPEAK_S = 6.0
_LAST_LINES = 25
LOST_ANOTHER = "lost its connection to another rank"
Process = subprocess.Popen[bytes] | Forked


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
    key : bytes
        Of the launch; shown nowhere.
    backend : str
        Which collectives the ranks are joined by, see `worker.BACKENDS`.
    timeout_s : int
        How long a rank waits for another in one operation, if nothing else has noticed.
    """

    work: Work
    size: int
    host: str
    port: int
    key: bytes = field(repr=False)
    backend: str
    timeout_s: int


class _EndedError(Exception):
    """A rank ended without a result."""

    def __init__(self, why: str, lines: str = "", *, is_final: bool = False) -> None:
        super().__init__(why)
        self.lines, self.is_final = lines, is_final


def run_rank(order: Order, _rows: Iterable[Any]) -> Iterator[RankResult]:
    """Run one rank beside this executor; the body of a barrier task."""
    context = BarrierTaskContext.get()
    rank = context.partitionId()
    executor = context.getTaskInfos()[rank].address
    # Before anybody is waited for, so that the driver knows who has not come.
    is_wanted = _tell(order, "POST", rank) == "go on"
    host = socket.gethostname()
    # Set by Spark if the session asks for GPUs: one a rank, see conf/spark/gpu.conf.
    gpu = context.resources().get("gpu")
    started = time.monotonic()
    result = RankResult(rank, host, executor, 0.0)
    try:
        if not is_wanted:
            raise _EndedError("was stopped before it started")
        # Spark's own allGather looks for answers once a second.
        hosts = all_tell(_place_of(order, rank), "hosts", "host", host, started + JOIN_S)
        facts, payload = _follow(order, rank, hosts, gpu.addresses[0] if gpu else "")
        result = replace(result, facts=facts, payload=payload)
    except _EndedError as end:
        result = replace(result, error=str(end), last_lines=end.lines, is_final=end.is_final)
        # Whoever waits for the end of all ranks need not wait for this one.
        _tell(order, "PUT", rank)
    except Exception as failure:  # see the module's docstring
        result = replace(result, error=f"could not be started: {failure!r}")
        _tell(order, "PUT", rank, result.error)
    yield replace(result, seconds=round(time.monotonic() - started, 3))


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


def _follow(order: Order, rank: int, hosts: list[str], gpu: str) -> tuple[dict[str, Any], bytes]:
    if order.work.load and _is_forked(order.work):
        _load(order, rank)
    with tempfile.TemporaryDirectory(prefix="iomt-ids-rank-") as folder:
        process = start_rank(order, rank, hosts, folder, gpu)
        lines: deque[bytes] = deque(maxlen=_LAST_LINES)
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            stopped = _wait(process, reader, order, rank)
        finally:
            _kill(process)
        reader.join(_PATIENCE_S)
        if stopped or process.returncode:
            said = b"".join(lines).decode("utf-8", "replace").rstrip()
            why = stopped or _report(order, rank, process.returncode)
            raise _EndedError(why, said, is_final=not stopped and process.returncode == REFUSED)
        _tell(order, "PUT", rank)
        return json.loads((Path(folder) / FACTS).read_text()), (Path(folder) / PAYLOAD).read_bytes()


def _is_forked(work: Work) -> bool:
    return not work.has_tensors and sys.platform == "linux"


def _load(order: Order, rank: int) -> None:
    """Load what forks of this process are to have; if it has to be compiled first, the driver hears that the rank is not lost."""
    is_loaded = threading.Event()

    def tell() -> None:
        while not is_loaded.wait(_POLL_S):
            _tell(order, "GET", rank)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    try:
        named(order.work.load)()
    finally:
        is_loaded.set()
        telling.join()  # a fork has no threads but its own


def start_rank(
    order: Order, rank: int, hosts: list[str], folder: str, gpu: str, *, within: Sequence[str] = (), interface: str = ""
) -> Process:
    """A rank's process, told what to do.

    Parameters
    ----------
    order : Order
        Of the launch.
    rank : int
        Which one.
    hosts : list of str
        Of all ranks.
    folder : str
        Where it leaves its result; removed by the caller.
    gpu : str
        The one it uses, by its number, or none.
    within : sequence of str
        What runs the command, if it is to run elsewhere than here, such as in another network.
    interface : str
        The network interface that leads to the other ranks, if it is not the one that leads to the rendezvous from here.
    """
    order_of_rank = _order_of(order, rank, hosts, folder, gpu)
    # A fork has what is imported here, which would take a third of a second. TensorFlow has threads, which a fork has not.
    if _is_forked(order.work) and not within:
        return Forked(lambda: run(order_of_rank))
    # What TensorFlow writes beside itself and removes when Python ends, which a rank does not: it exits at once.
    environment = {"TMPDIR": folder, **BACKENDS[order.backend].prepare(Path(folder))}
    command = _command(order, rank, hosts, environment, interface or _interface(order.host, order.port))
    process = subprocess.Popen(
        [*within, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )
    # If it died at once, _wait sees how.
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as pipe:
        pipe.write(json.dumps(order_of_rank).encode())
    return process


def _command(order: Order, rank: int, hosts: list[str], environment: dict[str, str], interface: str) -> list[str]:
    variables = {
        **place(hosts, rank), "RANK": rank, "SIZE": order.size, "HOSTNAME": hosts[rank],
        "CONTROLLER": "gloo", "CPU_OPERATIONS": "gloo", "LOG_LEVEL": "error",
        "GLOO_IFACE": interface, "GLOO_TIMEOUT_SECONDS": order.timeout_s,
    }
    # env(1) adds to the executor's environment; the zip of --py-files is on sys.path and nowhere else.
    return [
        "env", *(f"HOROVOD_{name}={value}" for name, value in variables.items()),
        *(f"{name}={value}" for name, value in environment.items()),
        f"PYTHONPATH={os.pathsep.join(p for p in sys.path if p)}", "KERAS_BACKEND=tensorflow",
        sys.executable, "-m", "iomt_ids.distributed.worker",
    ]


def _interface(host: str, port: int) -> str:
    """The network interface that leads to the rendezvous; ``lo`` when all run on one machine."""
    own = own_address(host, port)
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.family == socket.AF_INET and a.address == own for a in addresses):
            return name
    raise OSError(f"no network interface has the address {own}")


def _order_of(order: Order, rank: int, hosts: list[str], folder: str, gpu: str) -> dict[str, Any]:
    return {
        **_place_of(order, rank), "function": order.work.function, "job": order.work.job, "folder": folder,
        "parent": os.getpid(), "gpu": gpu, "backend": order.backend, "ranks_on_host": hosts.count(hosts[rank]),
        "timeout_s": order.timeout_s, "has_tensors": order.work.has_tensors,
    }


def _place_of(order: Order, rank: int) -> dict[str, Any]:
    return {"rank": rank, "size": order.size, "rendezvous": [order.host, order.port], "key": order.key.hex()}


def _wait(process: Process, reader: threading.Thread, order: Order, rank: int) -> str:
    """Wait for the process to end by itself, and say nothing; or say why it is not worth waiting for.

    Who reads what it says hears of its end at once, while waiting for a process is asking again and again.
    """
    last_answer = last_moved = time.monotonic()
    while True:
        reader.join(_POLL_S)
        try:
            process.wait(0 if reader.is_alive() else _POLL_S)
            return ""
        except subprocess.TimeoutExpired:
            answer = _tell(order, "GET", rank)
        if answer == "stop":
            return "was stopped because another rank failed"
        if answer == "go on":
            last_answer = time.monotonic()
        elif time.monotonic() - last_answer > _PATIENCE_S:
            return "was stopped because the driver has gone"
        if not _is_stopped(process.pid):
            last_moved = time.monotonic()
        elif time.monotonic() - last_moved > _STOPPED_S:
            why = f"has been stopped from outside for {_STOPPED_S:.0f} s"
            _tell(order, "PUT", rank, why)
            return why


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def _report(order: Order, rank: int, status: int) -> str:
    if status == LOST_A_PEER:
        # It is a victim: give the rank that died first the time to be reported first.
        deadline = time.monotonic() + _LET_THE_OTHER_SPEAK_S
        while time.monotonic() < deadline and _tell(order, "GET", rank) == "go on":
            time.sleep(_POLL_S)
        failure = LOST_ANOTHER
    elif status == REFUSED:
        failure = "refused the work"
    elif status < 0:
        failure = f"was killed by {signal.Signals(-status).name}"
    else:
        failure = f"ended with status {status}"
    _tell(order, "PUT", rank, failure, is_final=status == REFUSED)
    return failure


def _tell(order: Order, method: str, rank: int, failure: str = "", *, is_final: bool = False) -> str:
    """Speak to the rendezvous; ``go on``, ``stop``, or ``nobody there``."""
    body = json.dumps({"failure": failure, "is_final": is_final}).encode() if method == "PUT" else b""
    answer = ask(order.host, order.port, order.key, method, f"/{WATCH}/{rank}", body)
    return "nobody there" if answer is None else "go on" if answer[0] == 200 else "stop"


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
