"""Memory that ranks of one host lend each other: each writes to its own, all read all.

What one rank has for another need not go through a socket then, which copies it twice. The memory has no name in any file
system: it is reached through the process that holds it, by whoever may look into that process, its own user, and is gone with
the last one that has mapped it. Linux alone has such; elsewhere, and for ranks that cannot see each other, sockets do.
"""

from __future__ import annotations

import mmap
import os
import secrets
from contextlib import suppress

import numpy as np

# Of what tells one memory from another that the same process number leads to; what is lent comes after it.
_MARK = 64


class LentMemory:
    """Of one rank, as it or another one sees it.

    Parameters
    ----------
    file : int
        Its descriptor, from here on this object's.
    is_own : bool
        Whether it may be written.
    """

    def __init__(self, file: int, *, is_own: bool) -> None:
        self._file, self._is_own, self._mapped = file, is_own, np.empty(0, np.uint8)

    def __del__(self) -> None:
        """Views of it stay."""
        os.close(self._file)

    def view(self, size: int) -> np.ndarray:
        """Its first bytes, at least so many; the owner's memory grows if need be, anybody else maps what the owner has."""
        wanted = _MARK + size
        if self._mapped.size < wanted:
            if self._is_own:
                os.ftruncate(self._file, wanted)
            access = mmap.ACCESS_WRITE if self._is_own else mmap.ACCESS_READ
            self._mapped = np.frombuffer(mmap.mmap(self._file, wanted, access=access), np.uint8)
        return self._mapped[_MARK:]


def lend() -> tuple[LentMemory | None, str]:
    """Memory of this rank, and what another one has to be told of it; none and an empty string where there is no such."""
    try:
        file = os.memfd_create("iomt-ids")
    except (AttributeError, OSError):  # not Linux, or one that forbids it
        return None, ""
    mark = secrets.token_bytes(_MARK)
    os.write(file, mark)
    return LentMemory(file, is_own=True), f"{os.getpid()}/{file}/{mark.hex()}"


def borrow(told: str) -> LentMemory | None:
    """The memory of a rank that has told this; none if it cannot be seen from here, or is another one."""
    if not told:
        return None
    process, number, mark = told.split("/")
    with suppress(OSError):
        # In containers of their own, the number may be anybody's, and what it leads to anything.
        file = os.open(f"/proc/{process}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        memory = LentMemory(file, is_own=False)
        if os.pread(file, _MARK, 0) == bytes.fromhex(mark):
            return memory
    return None
