"""The key-value server that ranks meet at."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import iomt_ids.distributed
from iomt_ids.distributed.rendezvous import Rendezvous


@pytest.fixture
def server() -> Iterator[Rendezvous]:
    with Rendezvous("127.0.0.1") as rendezvous:
        yield rendezvous


def _ask(server: Rendezvous, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection(*server.address, timeout=5)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
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
    _ask(server, "PUT", "/watch/1", b"was killed")
    _ask(server, "PUT", "/watch/0", b"lost its connection")
    assert _ask(server, "GET", "/watch/0") == (410, b"1")
    assert server.first_failure == (1, "was killed")


def test_a_rank_that_starts_twice_ends_the_launch(server: Rendezvous) -> None:
    _ask(server, "POST", "/watch/1")
    assert _ask(server, "POST", "/watch/1")[0] == 410
    assert server.first_failure == (1, "was started twice: its executor was lost")


def test_a_rank_that_has_ended_is_not_silent(server: Rendezvous) -> None:
    _ask(server, "POST", "/watch/0")
    _ask(server, "POST", "/watch/1")
    _ask(server, "PUT", "/watch/1", b"")
    assert server.silent_ranks(0.0) == [0]
    assert server.silent_ranks(60.0) == []
