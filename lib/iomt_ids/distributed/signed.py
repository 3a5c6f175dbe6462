"""Requests that only a process that knows the launch's key can make.

The key is made for one launch, travels inside Spark's own messages (authenticated and encrypted where the session is)
and through a pipe to the rank: never on a command line, in an environment or in a log.
"""

from __future__ import annotations

import hashlib
import hmac
from http.client import HTTPConnection, HTTPException

SIGNATURE = "X-Signature"
_PATIENCE_S = 5.0


def sign(key: bytes, method: str, path: str, body: bytes) -> str:
    """HMAC-SHA-256 of a request.

    Examples
    --------
    >>> sign(b"k", "GET", "/a/b", b"") == sign(b"k", "PUT", "/a/b", b"")
    False
    """
    return hmac.new(key, b"\n".join([method.encode(), path.encode(), body]), hashlib.sha256).hexdigest()


def is_signed(key: bytes, signature: str, method: str, path: str, body: bytes) -> bool:
    """Whether a request was made by who knows the key; takes as long whatever is wrong with it."""
    return hmac.compare_digest(sign(key, method, path, body).encode(), signature.encode("latin-1", "replace"))


def ask(host: str, port: int, key: bytes, method: str, path: str, body: bytes = b"") -> tuple[int, bytes] | None:
    """Make a signed request.

    Returns
    -------
    tuple of (int, bytes) or None
        Status and body; None if nobody answers in time.
    """
    connection = HTTPConnection(host, port, timeout=_PATIENCE_S)
    try:
        connection.request(method, path, body=body, headers={SIGNATURE: sign(key, method, path, body)})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
