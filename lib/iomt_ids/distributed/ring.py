"""Numbers added up over ranks by sockets alone: the third launcher's way, and that of all work without tensors.

Each rank sends to the next and hears from the one before, as in Patarasuk and Yuan (2009): every rank sends as many bytes
as there are, less what it adds up itself, twice. Both ends of a connection prove that they know the key of the launch
before a number is sent; what follows are numbers of a length that both sides know, nothing that could be unpickled.
Where all ranks are on one host, what one has for another it leaves in memory that the other can read (`lent`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.distributed.lent import LentMemory, borrow, lend
from iomt_ids.distributed.meeting import JOIN_S, all_tell, own_address
from iomt_ids.distributed.work import Summing, as_summed, broadcast_by_sums, filled

_SCOPE = "ring"
_HANDSHAKE_S = 5.0
_NONCE, _PROOF = 32, 32
# Where what a rank has for another begins, in lent memory.
_ALIGNED = 64


class RingCommunicator:
    """See `work.Communicator`.

    Parameters
    ----------
    rank, size : int
        This rank, and how many there are.
    before, after : socket
        Connections to its neighbours.
    timeout_s : float
        How long a neighbour may say nothing while it is waited for.

    Attributes
    ----------
    memories : sequence of LentMemory
        Of all ranks, by rank; none if they do not all see all of them.
    """

    def __init__(self, rank: int, size: int, before: socket.socket, after: socket.socket, timeout_s: float) -> None:
        self.rank, self.size = rank, size
        self.memories: Sequence[LentMemory] = ()
        self._before, self._after, self._timeout_s = before, after, timeout_s
        for line in (before, after):
            line.setblocking(False)
        self._selector = selectors.DefaultSelector()

    def sum(self, values: Any) -> np.ndarray:
        """The sum over ranks of an array of double or of whole numbers; the same bits on every rank."""
        return self._sum(as_summed(values))

    def gather(self, own: np.ndarray) -> list[np.ndarray]:
        """A flat array of every rank, by rank, on every rank; see `work.Gathering`."""
        sizes = np.zeros(self.size, np.int64)
        sizes[self.rank] = own.size
        found = [np.empty(size, own.dtype) for size in self._sum(sizes)]
        found[self.rank] = np.ascontiguousarray(own).reshape(-1)
        for turn in range(self.size - 1):
            self._exchange(found[(self.rank - turn) % self.size], found[(self.rank - turn - 1) % self.size])
        return found

    def swap(self, sizes: Sequence[int], fill: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
        """What every rank has for this one; see `work.Gathering`."""
        told = np.zeros((self.size, self.size), np.int64)
        told[self.rank] = sizes
        told = self._sum(told)  # nobody still reads what came last
        return (self._through_memory if self.memories else self._through_sockets)(told, fill)

    def _through_memory(self, sizes: np.ndarray, fill: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
        rooms = -(-sizes // _ALIGNED) * _ALIGNED
        starts = np.cumsum(rooms, axis=1) - rooms
        own = self.memories[self.rank].view(rooms[self.rank].sum())
        for rank, (start, size) in enumerate(zip(starts[self.rank], sizes[self.rank], strict=True)):
            fill(rank, own[start : start + size])
        self._sum(np.zeros(1, np.int64))  # all have written
        parts = zip(self.memories, starts[:, self.rank], sizes[:, self.rank], strict=True)
        return [memory.view(start + size)[start : start + size] for memory, start, size in parts]

    def _through_sockets(self, sizes: np.ndarray, fill: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
        found = filled(sizes[self.rank], fill)
        # The next rank takes what is its and hands on the rest, which is for those after it.
        held = np.concatenate([found[0][:0], *(found[(self.rank + turn) % self.size] for turn in range(1, self.size))])
        for turn in range(1, self.size):
            origin = (self.rank - turn) % self.size
            left = [sizes[origin, (self.rank + later) % self.size] for later in range(self.size - turn)]
            heard = np.empty(sum(left), held.dtype)
            self._exchange(held, heard)
            found[origin], held = heard[: left[0]], heard[left[0] :]
        return found

    def mean_gradient(self, flat: Any) -> Any:
        """The mean over ranks of one flat tensor."""
        import tensorflow as tf

        def mean(values: np.ndarray) -> np.ndarray:
            return self._sum(values) / values.dtype.type(self.size)

        return tf.ensure_shape(tf.numpy_function(mean, [flat], flat.dtype), flat.shape)

    def broadcast(self, variables: list[Any]) -> None:
        """Give every rank the variables of rank 0."""
        broadcast_by_sums(self, variables)

    def _sum(self, array: np.ndarray) -> np.ndarray:
        total = array.reshape(-1).copy()
        bounds = [total.size * part // self.size for part in range(self.size + 1)]
        parts = [total[a:b] for a, b in pairwise(bounds)]
        heard = np.empty(max(part.size for part in parts), total.dtype)
        # First each part goes round and grows, then it goes round as it is.
        for turn in range(self.size - 1):
            into = parts[(self.rank - turn - 1) % self.size]
            self._exchange(parts[(self.rank - turn) % self.size], heard[: into.size])
            into += heard[: into.size]
        for turn in range(self.size - 1):
            self._exchange(parts[(self.rank - turn + 1) % self.size], parts[(self.rank - turn) % self.size])
        return total.reshape(array.shape)

    def _exchange(self, out: np.ndarray, into: np.ndarray) -> None:
        """Send and hear at the same time: nobody waits for a neighbour that waits for him."""
        unsent, unheard = out.view(np.uint8).data, into.view(np.uint8).data
        while unsent or unheard:
            # Mostly there is something to do at once, and asking the kernel first would cost more than doing it.
            moved = len(unsent) + len(unheard)
            unsent = unsent[_tried(self._after.send, unsent) :] if unsent else unsent
            unheard = unheard[_heard(self._before, unheard) :] if unheard else unheard
            if len(unsent) + len(unheard) == moved:
                self._wait(bool(unsent), bool(unheard))

    def _wait(self, is_sending: bool, is_hearing: bool) -> None:
        wanted = {self._after: selectors.EVENT_WRITE * is_sending, self._before: selectors.EVENT_READ * is_hearing}
        for line, events in wanted.items():
            if events:
                self._selector.register(line, events)
        ready = self._selector.select(self._timeout_s)
        for line, events in wanted.items():
            if events:
                self._selector.unregister(line)
        if not ready:
            raise TimeoutError(f"no neighbour of rank {self.rank} has moved for {self._timeout_s:.0f} s")


class RingBackend:
    """How a rank joins the others by sockets; see `worker.BACKENDS`."""

    @staticmethod
    def prepare(folder: Path) -> dict[str, str]:
        """Variables that the rank's process needs; ``folder`` lives as long as the rank."""
        return {}

    @staticmethod
    @contextmanager
    def join(order: dict[str, Any]) -> Iterator[RingCommunicator]:
        """The other ranks, while the block lasts."""
        rank, size, key = order["rank"], order["size"], bytes.fromhex(order["key"])
        deadline, (memory, lent) = time.monotonic() + JOIN_S, lend()
        with ExitStack() as held:
            with socket.create_server((own_address(*order["rendezvous"]), 0)) as server:
                host, port = server.getsockname()[:2]
                told = all_tell(order, _SCOPE, "address", f"{host} {port} {secrets.token_hex(_NONCE)} {lent}", deadline)
                everybody = [line.split(" ") for line in told]
                (_, _, before_me, _), (_, _, own, _), (to_host, to_port, after_me, _) = (
                    everybody[place % size] for place in (rank - 1, rank, rank + 1)
                )
                after = held.enter_context(socket.create_connection((to_host, int(to_port)), timeout=_HANDSHAKE_S))
                # Nobody waits for an answer before he has given his own: in a ring all would wait for each other.
                after.sendall(_proof(key, "after", own, after_me))
                before = held.enter_context(_answered(server, _proof(key, "after", before_me, own), deadline))
                before.sendall(_proof(key, "before", before_me, own))
                if not hmac.compare_digest(_whole(after, _PROOF), _proof(key, "before", own, after_me)):
                    raise ConnectionError(f"{to_host}:{to_port} is not the rank after {rank}")
            for line in (before, after):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ranks = RingCommunicator(rank, size, before, after, order["timeout_s"])
            seen = [memory if place == rank else borrow(lent) for place, (*_, lent) in enumerate(everybody)]
            ranks.memories = _if_all(ranks, seen)
            yield ranks
            # One that has finished does not hang up on those who have not heard all.
            all_tell(order, _SCOPE, "done", "", float("inf"))

    @staticmethod
    def is_loss(error: BaseException) -> bool:
        """Whether the error says that another rank has gone."""
        # Inside a tf.function an error arrives as one of TensorFlow's.
        return isinstance(error, ConnectionError | TimeoutError) or bool(re.search(r"\b(Connection|Timeout)Error", str(error)))


def _if_all(ranks: Summing, seen: Sequence[LentMemory | None]) -> list[LentMemory]:
    """Of all ranks, if all of them see all; otherwise none."""
    memories = [memory for memory in seen if memory is not None]
    return memories if int(ranks.sum(np.array([len(memories)]))[0]) == ranks.size**2 else []


def _answered(server: socket.socket, wanted: bytes, deadline: float) -> socket.socket:
    """The first connection that begins with the proof; others are hung up on."""
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        line, _ = server.accept()
        line.settimeout(_HANDSHAKE_S)
        with suppress(OSError):
            if hmac.compare_digest(_whole(line, _PROOF), wanted):
                return line
        line.close()
    raise TimeoutError(f"the rank before has not come for {JOIN_S:.0f} s")


def _proof(key: bytes, side: str, before: str, after: str) -> bytes:
    """That who sends it knows the key; of this launch and this connection alone."""
    return hmac.new(key, f"{side} {before} {after}".encode(), hashlib.sha256).digest()


def _whole(line: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = line.recv(size - len(found))
        if not more:
            raise ConnectionError("a rank hung up while it was joining")
        found += more
    return found


def _tried(move: Any, what: memoryview) -> int:
    try:
        return int(move(what))
    except BlockingIOError:
        return 0


def _heard(line: socket.socket, into: memoryview) -> int:
    try:
        found = line.recv_into(into)
    except BlockingIOError:
        return 0
    if not found:
        raise ConnectionError("a rank has hung up")
    return found
