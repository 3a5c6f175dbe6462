"""Gloo's own requests to the rendezvous, signed on their way: Gloo knows neither keys nor headers.

A relay lives inside its rank. It listens on loopback, answers no other process than its own, and passes on what Gloo
asks with the signature that the rendezvous wants.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import psutil

from iomt_ids.distributed.signed import ask

_LOOPBACK = "127.0.0.1"
_MOST_BYTES = 1 << 20
_REFUSED, _TOO_LARGE, _UNAVAILABLE = 403, 413, 503


class Relay:
    """The relay of one rank; a context manager.

    Parameters
    ----------
    host, port : str, int
        Of the rendezvous.
    key : bytes
        Of the launch.
    """

    def __init__(self, host: str, port: int, key: bytes) -> None:
        self._server = _Server((_LOOPBACK, 0), _Handler)
        self._server.behind = (host, port, key)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> Relay:
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    behind: tuple[str, int, bytes]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def do_DELETE(self) -> None:
        self._pass_on()

    def log_message(self, *parts: object) -> None:
        """Requests are no news."""

    def _pass_on(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not self._is_own():
            self._answer(_REFUSED)
        elif not length.isdecimal() or int(length) > _MOST_BYTES:
            self._answer(_TOO_LARGE)
        else:
            host, port, key = self.server.behind
            answer = ask(host, port, key, self.command, self.path, self.rfile.read(int(length)))
            self._answer(*(answer or (_UNAVAILABLE, b"")))

    def _is_own(self) -> bool:
        """Whether the other end of this connection is a socket of this very process."""
        asking = self.client_address[:2]
        return any(c.laddr and tuple(c.laddr) == asking for c in psutil.Process().net_connections("tcp4"))

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
