"""Where ranks find each other: a key-value server on the driver, for as long as one launch.

Each rank's address is stored under ``/scope/key``; values are opaque bytes that nobody here decodes. Horovod's own server
listens on every interface and its clients unpickle what they fetch (CVE-2024-10190, CVE-2026-31234); this one listens on
one address, answers only requests that are signed with the key of the launch, and neither end unpickles anything.

Under ``/watch/RANK`` executors tell that a rank lives, and learn when another one has failed.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple

from iomt_ids.distributed.meeting import GONE
from iomt_ids.distributed.signed import SIGNATURE, is_signed

WATCH = "watch"
_MOST_BYTES = 1 << 20
_MOST_KEYS = 100_000
_OK, _BAD, _REFUSED, _ABSENT, _TOO_LARGE = 200, 400, 403, 404, 413


class Failure(NamedTuple):
    """Why a rank ended.

    Attributes
    ----------
    rank : int
        Which one.
    why : str
        One line.
    is_final : bool
        Whether the same work would fail again.
    """

    rank: int
    why: str
    is_final: bool = False


class Rendezvous:
    """The server; a context manager.

    Parameters
    ----------
    host : str
        The one address it listens on.

    Attributes
    ----------
    key : bytes
        Made for this launch; whoever signs with it is answered.
    """

    def __init__(self, host: str) -> None:
        self.key = secrets.token_bytes(32)
        self._server = _Server((host, 0), _Handler)
        self._server.key = self.key
        # Which is how long the end of a launch waits for it.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Rendezvous:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def first_failure(self) -> Failure | None:
        """The rank that failed first, and why."""
        return self._server.watch.first_failure

    def fail(self, failure: Failure) -> None:
        """Have all executors end their ranks; they ask twice a second."""
        self._server.watch.fail(failure)

    def silent_ranks(self, limit_s: float) -> list[int]:
        """Ranks that ran, have not ended, and have not been heard of for so long."""
        return self._server.watch.silent_ranks(limit_s)

    def is_any_running(self) -> bool:
        """Whether there are ranks that may run: whose executors have come, and have not told their end."""
        return self._server.watch.is_any_running()

    def missing_ranks(self, ranks: int) -> list[int]:
        """Ranks whose executor has not said a word; if all have, those that have not started their rank."""
        return self._server.watch.missing_ranks(ranks)


class _Watch:
    """Which ranks live."""

    def __init__(self) -> None:
        self.first_failure: Failure | None = None
        self._heard: dict[int, float] = {}
        self._started: set[int] = set()
        self._ran: set[int] = set()
        self._ended: set[int] = set()
        self._lock = threading.Lock()

    def start(self, rank: int) -> None:
        with self._lock:
            if rank in self._started:
                # Spark starts a barrier stage again when it loses an executor; half a ring cannot be joined.
                self._fail(Failure(rank, "was started twice: its executor was lost"))
            self._started.add(rank)

    def hear(self, rank: int) -> None:
        with self._lock:
            if rank in self._heard or rank not in self._ran:
                self._ran.add(rank)
                self._heard[rank] = time.monotonic()

    def end(self, rank: int, failure: str, is_final: bool) -> None:
        with self._lock:
            self._ran.add(rank)
            self._ended.add(rank)
            self._heard.pop(rank, None)
            if failure:
                self._fail(Failure(rank, failure, is_final))

    def silent_ranks(self, limit_s: float) -> list[int]:
        with self._lock:
            return sorted(r for r, moment in self._heard.items() if time.monotonic() - moment > limit_s)

    def is_any_running(self) -> bool:
        with self._lock:
            return bool(self._started - self._ended)

    def missing_ranks(self, ranks: int) -> list[int]:
        with self._lock:
            return sorted(set(range(ranks)) - self._started) or sorted(set(range(ranks)) - self._ran)

    def fail(self, failure: Failure) -> None:
        with self._lock:
            self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        if self.first_failure is None:
            self.first_failure = failure


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    key: bytes

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.watch = _Watch()
        self.values: dict[tuple[str, str], bytes] = {}


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # A client that sends half a request does not keep a thread for ever.
    timeout = 10

    def do_GET(self) -> None:
        if (asked := self._asked()) is None:
            return
        scope, name, _ = asked
        if scope == WATCH:
            self.server.watch.hear(int(name))
            failure = self.server.watch.first_failure
            self._answer(GONE, str(failure.rank).encode()) if failure else self._answer(_OK)
            return
        value = self.server.values.get((scope, name))
        if value is None:
            self._answer(GONE if self.server.watch.first_failure else _ABSENT)
            return
        self._answer(_OK, value)

    def do_POST(self) -> None:
        """A rank starts."""
        if (asked := self._asked()) is None:
            return
        if asked[0] != WATCH:
            self._answer(_BAD)
            return
        self.server.watch.start(int(asked[1]))
        self._answer(GONE if self.server.watch.first_failure else _OK)

    def do_PUT(self) -> None:
        """A rank ends, or a value is stored."""
        if (asked := self._asked()) is None:
            return
        scope, name, body = asked
        if scope == WATCH:
            said = json.loads(body)
            self.server.watch.end(int(name), str(said["failure"]), bool(said["is_final"]))
        else:
            self.server.values[scope, name] = body
        self._answer(_OK)

    def do_DELETE(self) -> None:
        if (asked := self._asked()) is None:
            return
        self.server.values.pop(asked[:2], None)
        self._answer(_OK)

    def log_message(self, *parts: object) -> None:
        """Requests are no news."""

    def _asked(self) -> tuple[str, str, bytes] | None:
        """Scope, name and body of a request that is signed and makes sense; or None, and it has been answered."""
        if (body := self._body()) is None:
            return None
        if not is_signed(self.server.key, self.headers.get(SIGNATURE, ""), self.command, self.path, body):
            self._answer(_REFUSED)
            return None
        parts = self.path.split("/")
        if len(parts) != 3 or parts[0] or (parts[1] == WATCH and not parts[2].isdecimal()):
            self._answer(_BAD)
            return None
        return parts[1], parts[2], body

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0" if self.command != "PUT" else "")
        if not length.isdecimal():
            self._answer(_BAD)
            return None
        if int(length) > _MOST_BYTES or len(self.server.values) >= _MOST_KEYS:
            self._answer(_TOO_LARGE)
            return None
        return self.rfile.read(int(length))

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
