"""Sums around a ring of sockets: those of numpy, the same everywhere; strangers are hung up on."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iomt_ids.distributed.lent import borrow, lend
from iomt_ids.distributed.rendezvous import Rendezvous
from iomt_ids.distributed.ring import RingBackend, RingCommunicator
from iomt_ids.distributed.work import gather_bytes

_PATIENCE_S = 20.0


@contextmanager
def _ring(size: int, timeout_s: float = _PATIENCE_S) -> Iterator[list[RingCommunicator]]:
    with ExitStack() as held:
        lines = [[held.enter_context(end) for end in socket.socketpair()] for _ in range(size)]
        # Line i leads from rank i to the next.
        yield [RingCommunicator(rank, size, lines[rank - 1][1], lines[rank][0], timeout_s) for rank in range(size)]


def _all(ranks: list[Any], work: Any) -> list[Any]:
    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(work, ranks))


@given(st.integers(1, 5), hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=7)))
def test_whole_numbers_add_up_exactly(size: int, values: np.ndarray) -> None:
    with _ring(size) as ranks:
        found = _all(ranks, lambda one: one.sum(values + one.rank))
    for one in found:
        np.testing.assert_array_equal(one, size * values + sum(range(size)), strict=True)


@given(st.integers(1, 5), st.lists(st.floats(-1e6, 1e6), max_size=12))
def test_doubles_add_up_to_the_same_bits_everywhere(size: int, values: list[float]) -> None:
    with _ring(size) as ranks:
        found = _all(ranks, lambda one: one.sum(np.array(values) / (one.rank + 1)))
    assert len({one.tobytes() for one in found}) == 1
    np.testing.assert_allclose(found[0], sum(np.array(values) / (rank + 1) for rank in range(size)), atol=1e-6)


def test_more_than_any_buffer_holds_goes_round() -> None:
    with _ring(3) as ranks:
        found = _all(ranks, lambda one: one.sum(np.arange(3_000_000) * (one.rank + 1)))
    assert all(np.array_equal(one, 6 * np.arange(3_000_000)) for one in found)


def test_bytes_are_gathered() -> None:
    said = [b"", b"a", bytes(1000)]
    with _ring(3) as ranks:
        assert _all(ranks, lambda one: gather_bytes(one, said[one.rank])) == [said] * 3


@given(st.lists(hnp.arrays(np.uint32, st.integers(0, 9)), min_size=1, max_size=5))
def test_arrays_of_any_length_reach_every_rank(said: list[np.ndarray]) -> None:
    with _ring(len(said)) as ranks:
        found = _all(ranks, lambda one: one.gather(said[one.rank]))
    for heard in found:
        for one, other in zip(heard, said, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)


def test_a_table_is_gathered_row_by_row() -> None:
    table = np.arange(600_000, dtype=np.uint8).reshape(-1, 6)[:, ::2]
    with _ring(3) as ranks:
        found = _all(ranks, lambda one: one.gather(table))
    assert all(np.array_equal(told.reshape(table.shape), table) for heard in found for told in heard)


def _swapped(ranks: list[RingCommunicator], dice: np.random.Generator, most: int) -> None:
    size = len(ranks)
    said = [[dice.bytes(dice.integers(most)) for _ in range(size)] for _ in range(size)]

    def swap(one: RingCommunicator) -> list[bytes]:
        def fill(rank: int, into: np.ndarray) -> None:
            into[:] = np.frombuffer(said[one.rank][rank], np.uint8)

        return [told.tobytes() for told in one.swap([len(part) for part in said[one.rank]], fill)]

    assert _all(ranks, swap) == [[of_rank[rank] for of_rank in said] for rank in range(size)]


@given(st.integers(1, 5), st.integers(0, 2**32), st.booleans())
def test_what_a_rank_has_for_another_reaches_it_alone(size: int, seed: int, is_lent: bool) -> None:
    dice = np.random.default_rng(seed)
    with _ring(size) as ranks:
        if is_lent:
            _lend(ranks)
        # Memory is written again, and has to grow.
        for most in (9, 5, 9_000):
            _swapped(ranks, dice, most)


def _lend(ranks: list[RingCommunicator]) -> None:
    lent = [lend() for _ in ranks]
    for one in ranks:
        seen = [own if place == one.rank else borrow(told) for place, (own, told) in enumerate(lent)]
        one.memories = [memory for memory in seen if memory]
        assert len(one.memories) == len(ranks)


def test_a_neighbour_that_is_silent_or_gone_is_a_loss() -> None:
    with _ring(2, timeout_s=0.2) as ranks, pytest.raises(TimeoutError, match="no neighbour of rank 0 has moved") as silent:
        ranks[0].sum(np.ones(4))
    with _ring(2) as ranks, pytest.raises(ConnectionError) as gone:
        for line in (ranks[1]._before, ranks[1]._after):
            line.close()
        ranks[0].sum(np.ones(4))
    assert RingBackend.is_loss(silent.value) and RingBackend.is_loss(gone.value)
    assert not RingBackend.is_loss(ValueError("a fault of the work"))


def _refused(name: str) -> int:
    raise PermissionError(name)


@pytest.mark.parametrize("hindrance", ["", "one is not seen", "forbidden", "another system"])
def test_ranks_of_one_host_lend_each_other_memory_if_all_see_all(hindrance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if hindrance == "forbidden":
        monkeypatch.setattr(os, "memfd_create", _refused)
    if hindrance == "another system":
        monkeypatch.delattr(os, "memfd_create")
    if hindrance == "one is not seen":
        seen = iter([None])
        monkeypatch.setattr("iomt_ids.distributed.ring.borrow", lambda told: next(seen, borrow(told)))

    def join(rank: int) -> int:
        with RingBackend.join(_order(rendezvous, rank, 3, rendezvous.key)) as ranks:
            found = ranks.swap([8 * rank] * 3, lambda to, into: into.fill(10 * rank + to))
            assert [told.tolist() for told in found] == [[10 * other + rank] * (8 * other) for other in range(3)]
            return len(ranks.memories)

    with Rendezvous("127.0.0.1") as rendezvous:
        assert _all([0, 1, 2], join) == [0 if hindrance else 3] * 3


def test_memory_of_somebody_else_is_not_read(tmp_path: Path) -> None:
    own, told = lend()
    process, number, mark = told.split("/")
    assert own and not borrow("")
    own.view(100)[:] = 7
    seen = borrow(told)
    assert seen and seen.view(100)[:100].tolist() == [7] * 100
    os.mkfifo(tmp_path / "line")
    line = os.open(tmp_path / "line", os.O_RDONLY | os.O_NONBLOCK)  # without the last word, who opens it waits for a writer
    folder = os.open(tmp_path, os.O_RDONLY)
    assert not any(borrow(f"{process}/{other}/{mark}") for other in (line, folder, 10**6))
    for file in (line, folder):
        os.close(file)
    assert not borrow(f"{process}/{number}/{secrets.token_hex(64)}") and not borrow(f"{2**22 + 1}/{number}/{mark}")


def _order(rendezvous: Rendezvous, rank: int, size: int, key: bytes) -> dict[str, Any]:
    return {"rank": rank, "size": size, "key": key.hex(), "rendezvous": rendezvous.address, "timeout_s": _PATIENCE_S}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_meet_although_strangers_come_first(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    create = socket.create_server

    def visited(*asked: Any, **more: Any) -> socket.socket:
        server = create(*asked, **more)
        threading.Thread(target=_visit, args=(server.getsockname(), heard), daemon=True).start()
        time.sleep(0.1)
        return server

    def join(rank: int) -> list[float]:
        with RingBackend.join(_order(rendezvous, rank, size, rendezvous.key)) as ranks:
            return list(ranks.sum(np.array([1.0, rank])))

    with Rendezvous("127.0.0.1") as rendezvous:
        monkeypatch.setattr(socket, "create_server", visited)
        assert _all(list(range(size)), join) == [[size, sum(range(size))]] * size
    assert heard == [b""] * size


def _visit(address: tuple[str, int], heard: list[bytes]) -> None:
    with socket.create_connection(address, timeout=_PATIENCE_S) as line:
        line.sendall(secrets.token_bytes(32))
        heard.append(line.recv(1))


def test_who_is_not_the_rank_after_is_told_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one rank there is connects to itself; here to somebody who has let it in and does not know the key."""
    with Rendezvous("127.0.0.1") as rendezvous, socket.create_server(("127.0.0.1", 0)) as other:
        def answer() -> None:
            line, _ = other.accept()
            with line:
                line.sendall(secrets.token_bytes(32))
                line.recv(1 << 16)

        threading.Thread(target=answer, daemon=True).start()
        connect = socket.create_connection
        monkeypatch.setattr(socket, "create_connection", lambda place, *asked, **more: (
            connect(other.getsockname()) if place[1] != rendezvous.address[1] else connect(place, *asked, **more)
        ))
        ends = socket.socketpair()
        monkeypatch.setattr("iomt_ids.distributed.ring._answered", lambda *_: ends[0])
        with pytest.raises(ConnectionError, match="is not the rank after 0"), \
                RingBackend.join(_order(rendezvous, 0, 1, rendezvous.key)):
            pass
