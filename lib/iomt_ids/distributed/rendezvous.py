"""Where ranks find each other: a key-value server on the driver, for as long as one launch.

Gloo stores each rank's address under ``/scope/key``; values are opaque bytes that nobody here decodes.
Horovod's own server listens on every interface and its clients unpickle what they fetch (CVE-2024-10190,
CVE-2026-31234); this one listens on one address and neither end unpickles anything.

Under ``/watch/RANK`` executors tell that a rank lives, and learn when another one has failed.
"""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

WATCH = "watch"
_MOST_BYTES = 1 << 20
_MOST_KEYS = 100_000
_OK, _BAD, _ABSENT, _GONE, _TOO_LARGE = 200, 400, 404, 410, 413


class Rendezvous:
    """The server; a context manager.

    Parameters
    ----------
    host : str
        The one address it listens on.
    """

    def __init__(self, host: str) -> None:
        self._server = _Server((host, 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

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
    def first_failure(self) -> tuple[int, str] | None:
        """The rank that failed first, and why."""
        return self._server.watch.first_failure

    def silent_ranks(self, limit_s: float) -> list[int]:
        """Ranks that have started, have not ended, and have not been heard of for so long."""
        return self._server.watch.silent_ranks(limit_s)


class _Watch:
    """Which ranks live."""

    def __init__(self) -> None:
        self.first_failure: tuple[int, str] | None = None
        self._heard: dict[int, float] = {}
        self._started: set[int] = set()
        self._lock = threading.Lock()

    def start(self, rank: int) -> None:
        with self._lock:
            if rank in self._started:
                # Spark starts a barrier stage again when it loses an executor; half a ring cannot be joined.
                self._fail(rank, "was started twice: its executor was lost")
            self._started.add(rank)
            self._heard[rank] = time.monotonic()

    def hear(self, rank: int) -> None:
        with self._lock:
            if rank in self._heard:
                self._heard[rank] = time.monotonic()

    def end(self, rank: int, failure: str) -> None:
        with self._lock:
            self._heard.pop(rank, None)
            if failure:
                self._fail(rank, failure)

    def silent_ranks(self, limit_s: float) -> list[int]:
        with self._lock:
            return sorted(r for r, moment in self._heard.items() if time.monotonic() - moment > limit_s)

    def _fail(self, rank: int, failure: str) -> None:
        if self.first_failure is None:
            self.first_failure = (rank, failure)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.watch = _Watch()
        self.values: dict[tuple[str, str], bytes] = {}


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # A client that sends half a request does not keep a thread for ever.
    timeout = 10

    def do_GET(self) -> None:
        if (key := self._key()) is None:
            return
        if key[0] == WATCH:
            self.server.watch.hear(int(key[1]))
            failure = self.server.watch.first_failure
            self._answer(_GONE, str(failure[0]).encode()) if failure else self._answer(_OK)
            return
        value = self.server.values.get(key)
        self._answer(_ABSENT) if value is None else self._answer(_OK, value)

    def do_POST(self) -> None:
        """A rank starts."""
        if (key := self._key()) is None:
            return
        if key[0] != WATCH:
            self._answer(_BAD)
            return
        self.server.watch.start(int(key[1]))
        self._answer(_GONE if self.server.watch.first_failure else _OK)

    def do_PUT(self) -> None:
        if (key := self._key()) is None or (value := self._body()) is None:
            return
        if key[0] == WATCH:
            self.server.watch.end(int(key[1]), value.decode("utf-8", "replace"))
        else:
            self.server.values[key] = value
        self._answer(_OK)

    def do_DELETE(self) -> None:
        if (key := self._key()) is None:
            return
        self.server.values.pop(key, None)
        self._answer(_OK)

    def log_message(self, *parts: object) -> None:
        """Requests are no news."""

    def _key(self) -> tuple[str, str] | None:
        parts = self.path.split("/")
        if len(parts) != 3 or parts[0] or (parts[1] == WATCH and not parts[2].isdecimal()):
            self._answer(_BAD)
            return None
        return parts[1], parts[2]

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
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
