"""The clock and the seeds: every other room gets both as arguments."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_ns() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


def new_run_id() -> str:
    """A run id that sorts by time and never repeats, e.g. ``20260131T235959Z-3f9a1c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def seconds_since(start: float) -> float:
    """Seconds of wall clock since `start`, a value of `time.monotonic`, to the millisecond."""
    return round(time.monotonic() - start, 3)


def derive_seed(seed: int, name: str) -> int:
    """A consumer's own seed, so that adding a consumer does not change the others.

    Returns
    -------
    int
        Between 0 and 2**31 - 1.

    Examples
    --------
    >>> derive_seed(0, "split") == derive_seed(0, "split")
    True
    >>> derive_seed(0, "split") == derive_seed(1, "split")
    False
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big") >> 1
