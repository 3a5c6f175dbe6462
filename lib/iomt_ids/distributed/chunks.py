"""Finished parts of a training on disk, each written by whoever has finished it: there in full, or not there.

A part is bound to its training by a hash of all that the training depends on. One that is damaged, or another training's,
counts as not there: it is learnt again and replaced, so nothing waits for the disk and nobody has to clean up.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.work import Gathering, gather_bytes

_HASH_BYTES = 32


@dataclass(frozen=True)
class Chunks:
    """Parts of one training.

    Attributes
    ----------
    folder : Path or None
        Where they are; every node must see it. None keeps nothing.
    identity : str
        Of the training, see `checkpoint.identity_of`.
    """

    folder: Path | None
    identity: str

    def load(self, name: str) -> bytes | None:
        """What was saved under a name, if it is there and whole."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        written = path.read_bytes()
        content = written[_HASH_BYTES:]
        return content if written[:_HASH_BYTES] == self._hash(name, content) else None

    def save(self, name: str, content: bytes) -> None:
        """Write a part beside its place and rename it; whoever else writes it writes the same.

        Raises
        ------
        LaunchError
            If it cannot be written.
        """
        path = self._path(name)
        if path is None:
            return
        fresh = path.with_name(f".{name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(self._hash(name, content) + content)
            fresh.replace(path)
        except OSError as error:
            raise LaunchError(f"{path} cannot be written ({error}); every node must be able to write the run's folder") from error

    def _path(self, name: str) -> Path | None:
        return self.folder / self.identity[:16] / name if self.folder else None

    def _hash(self, name: str, content: bytes) -> bytes:
        return hashlib.sha256(b"\0".join([self.identity.encode(), name.encode(), content])).digest()


NOTHING_KEPT = Chunks(None, "")


class SharedChunks:
    """Parts of a training on several ranks: the first reads and writes, all get what it has read; see `Chunks`."""

    def __init__(self, chunks: Chunks, ranks: Gathering) -> None:
        self._chunks, self._ranks = chunks, ranks

    def missing(self, names: Sequence[str]) -> set[str]:
        """Of these the ones that the first rank does not find, on every rank."""
        found = [self._ranks.rank == 0 and self._chunks.load(name) is None for name in names]
        return {name for name, is_missing in zip(names, self._ranks.sum(np.array(found, np.int64)), strict=True) if is_missing}

    def load(self, name: str) -> bytes | None:
        """What the first rank finds, on every rank."""
        found = self._chunks.load(name) if self._ranks.rank == 0 else None
        return gather_bytes(self._ranks, found or b"")[0] or None

    def save(self, name: str, content: bytes) -> None:
        """Write a part, which all ranks have, once."""
        if self._ranks.rank == 0:
            self._chunks.save(name, content)


def chunk_size(parts: int, work: int, enough: int) -> int:
    """How many parts of a training are kept together: not so few that writing shows, not so many that a death costs much.

    Parameters
    ----------
    parts : int
        Trees or rounds of the training.
    work : int
        Of one part, e.g. rows.
    enough : int
        Work that is worth being kept; a chunk is a sixteenth of the parts even if they are less.

    Examples
    --------
    >>> chunk_size(100, 50_000, 500_000), chunk_size(100, 200_000, 500_000), chunk_size(100, 9_000_000, 500_000)
    (7, 3, 1)
    """
    return max(1, min(-(-enough // max(1, work)), -(-parts // 16)))
