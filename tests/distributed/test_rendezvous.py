"""The key-value server that ranks meet at."""

from __future__ import annotations

import contextlib
import json
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import iomt_ids.distributed
from iomt_ids.distributed.meeting import all_tell
from iomt_ids.distributed.relay import Relay
from iomt_ids.distributed.rendezvous import Rendezvous
from iomt_ids.distributed.signed import ask, sign


@pytest.fixture
def server() -> Iterator[Rendezvous]:
    with Rendezvous("127.0.0.1") as rendezvous:
        yield rendezvous


def _ask(server: Rendezvous, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    answer = ask(*server.address, server.key, method, path, body)
    assert answer is not None
    return answer


def _end(server: Rendezvous, rank: int, failure: str) -> None:
    _ask(server, "PUT", f"/watch/{rank}", json.dumps({"failure": failure, "is_final": False}).encode())


def _unsigned(server: Rendezvous | Relay, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    connection = HTTPConnection(*server.address, timeout=5)
    try:
        connection.request(method, path, body=body, headers={name.replace("_", "-"): said for name, said in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()


def test_bytes_come_back_as_they_were_put(server: Rendezvous) -> None:
    assert _ask(server, "GET", "/global/0") == (404, b"")
    assert _ask(server, "PUT", "/global/0", b"\x00address") == (200, b"")
    assert _ask(server, "GET", "/global/0") == (200, b"\x00address")
    _ask(server, "DELETE", "/global/0")
    assert _ask(server, "GET", "/global/0")[0] == 404


@pytest.mark.parametrize("path", ["/", "/a", "/a/b/c", "/a/b/", "/watch/x"])
def test_other_paths_are_refused(server: Rendezvous, path: str) -> None:
    assert _ask(server, "GET", path)[0] == 400


def test_a_value_of_many_megabytes_is_refused(server: Rendezvous) -> None:
    with socket.create_connection(server.address, timeout=5) as raw:
        raw.sendall(b"PUT /a/b HTTP/1.1\r\nContent-Length: 900000000\r\n\r\n")
        assert b" 413 " in raw.recv(200)


def test_it_listens_on_one_address_only(server: Rendezvous) -> None:
    # 127.0.0.2 is this machine too; a server on every interface would answer there.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.address[1]), timeout=5)


def test_a_pickle_is_stored_and_never_opened(server: Rendezvous, tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    payload = pickle.dumps(Exploit())
    for path in ("/global/0", "/watch/0", "/runfunc/func"):
        assert _unsigned(server, "PUT", path, payload) == 403
        assert _unsigned(server, "GET", path) == 403
        # Not even by who knows the key.
        with contextlib.suppress(AssertionError):
            _ask(server, "PUT", path, payload)
            _ask(server, "GET", path)
    assert not (tmp_path / "executed").exists()


def test_no_line_of_ours_unpickles() -> None:
    for file in Path(iomt_ids.distributed.__path__[0]).glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "pickle.load" not in text and "import pickle" not in text and "cloudpickle" not in text, file.name
        assert "broadcast_object" not in text and "allgather_object" not in text, file.name


def test_the_first_failure_is_kept_and_stops_the_others(server: Rendezvous) -> None:
    assert _ask(server, "POST", "/watch/0")[0] == _ask(server, "POST", "/watch/1")[0] == 200
    assert _ask(server, "GET", "/watch/0")[0] == 200
    _end(server, 1, "was killed")
    _end(server, 0, "lost its connection")
    assert _ask(server, "GET", "/watch/0") == (410, b"1")
    assert server.first_failure == (1, "was killed", False)


def test_after_a_failure_nobody_waits_for_what_will_not_come(server: Rendezvous) -> None:
    order = {"rank": 1, "size": 2, "rendezvous": server.address, "key": server.key.hex()}
    with pytest.raises(TimeoutError, match="rank 0 has not told its host"):
        all_tell(order, "hosts", "host", "a", time.monotonic())
    _end(server, 0, "was killed by SIGKILL")
    assert _ask(server, "GET", "/hosts/host-1") == (200, b'"a"')
    with pytest.raises(ConnectionError, match="a rank has failed before rank 0 told its host"):
        all_tell(order, "hosts", "host", "a", time.monotonic() + 60)


def test_a_rank_that_starts_twice_ends_the_launch(server: Rendezvous) -> None:
    _ask(server, "POST", "/watch/1")
    assert _ask(server, "POST", "/watch/1")[0] == 410
    assert server.first_failure == (1, "was started twice: its executor was lost", False)


def test_a_rank_that_has_ended_is_not_silent(server: Rendezvous) -> None:
    for rank in (0, 1):
        _ask(server, "POST", f"/watch/{rank}")
        _ask(server, "GET", f"/watch/{rank}")
    _end(server, 1, "")
    assert server.silent_ranks(0.0) == [0]
    assert server.silent_ranks(60.0) == []


def test_a_rank_may_run_from_the_moment_its_executor_comes_until_it_tells_the_end(server: Rendezvous) -> None:
    assert not server.is_any_running()
    for rank in (0, 1):
        _ask(server, "POST", f"/watch/{rank}")
    _end(server, 1, "")
    assert server.is_any_running()
    _end(server, 0, "")
    assert not server.is_any_running()


def test_who_has_not_come_is_missed_before_those_who_wait_for_him(server: Rendezvous) -> None:
    _ask(server, "POST", "/watch/0")
    assert server.missing_ranks(2) == [1]
    _ask(server, "POST", "/watch/1")
    assert server.missing_ranks(2) == [0, 1]
    for rank in (0, 1):
        _ask(server, "GET", f"/watch/{rank}")
    assert server.missing_ranks(2) == []


@pytest.mark.parametrize(
    "headers", [{}, {"X_Signature": ""}, {"X_Signature": "0" * 64}, {"X_Signature": "\xff"}], ids=["none", "empty", "wrong", "odd"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_who_does_not_know_the_key_is_refused(server: Rendezvous, method: str, headers: dict[str, str]) -> None:
    _ask(server, "PUT", "/a/b", b"mine")
    assert _unsigned(server, method, "/a/b", b"theirs", **headers) == 403
    assert _unsigned(server, method, "/watch/0", b"theirs", **headers) == 403
    assert _ask(server, "GET", "/a/b") == (200, b"mine")
    assert server.first_failure is None


def test_a_signature_is_good_for_one_request_only(server: Rendezvous) -> None:
    signature = sign(server.key, "PUT", "/a/b", b"mine")
    assert _unsigned(server, "PUT", "/a/b", b"theirs", X_Signature=signature) == 403
    assert _unsigned(server, "PUT", "/a/c", b"mine", X_Signature=signature) == 403
    assert _unsigned(server, "DELETE", "/a/b", b"mine", X_Signature=signature) == 403


def test_two_launches_have_two_keys(server: Rendezvous) -> None:
    with Rendezvous("127.0.0.1") as other:
        assert len(server.key) == 32 and server.key != other.key


def test_a_relay_signs_for_its_own_process_and_for_nobody_else(server: Rendezvous) -> None:
    with Relay(*server.address, server.key) as relay:
        assert _unsigned(relay, "PUT", "/global/0", b"address") == 200
        assert _unsigned(relay, "GET", "/global/1") == 404
        assert _ask(server, "GET", "/global/0") == (200, b"address")
        other = ("import sys, http.client as h; c = h.HTTPConnection(sys.argv[1], int(sys.argv[2])); "
                 "c.request('PUT', '/global/0', b'theirs'); print(c.getresponse().status)")
        where = [relay.address[0], str(relay.address[1])]
        said = subprocess.run([sys.executable, "-c", other, *where], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == "403"
        assert _ask(server, "GET", "/global/0") == (200, b"address")
