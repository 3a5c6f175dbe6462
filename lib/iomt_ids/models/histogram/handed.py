"""Rows of a source in bins: tasks bin them once, and whoever grows trees finds them.

Where there is a folder that every node sees, tasks leave pieces (`pieces`) there. Where there is none, Spark carries them to
the driver and, by a broadcast, back to tasks: through two processes a node, which takes longer than growing some trees.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import SparkContext

from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.blocks import Block, Source, gathered, left
from iomt_ids.models.histogram.forest import Binned
from iomt_ids.models.histogram.pieces import Held, Piece, read_pieces, read_told, rows_of, write_piece

# Of a piece, some more at most.
_ROWS = 1_000_000
_TOLD = "path string, content binary, starts array<bigint>, hashes array<string>"


@dataclass(frozen=True)
class Dealt:
    """Binned rows in pieces.

    Attributes
    ----------
    pieces : list of (path or bytes, list of int)
        See `pieces.Held`.
    content : list of str
        What the rows are, however they are dealt.
    edges : sequence of ndarray of float64
        Thresholds between the bins of each feature.
    classes : int
    """

    pieces: list[Held]
    content: list[str]
    edges: Sequence[np.ndarray]
    classes: int

    @property
    def rows(self) -> int:
        """How many there are."""
        return rows_of(self.pieces)

    @property
    def told(self) -> list[Any]:
        """As JSON can say it, to be read by `pieces.read_told`; not of pieces that are bytes."""
        return [self.pieces, [e.tolist() for e in self.edges], self.classes]

    def read(self) -> Binned:
        """All of them, here; raises as `pieces.read_pieces`."""
        return read_pieces(self.pieces, self.edges, self.classes)


def deal(rows: Source, edges: Sequence[np.ndarray], classes: int, folder: Path | None, parts: int = 1) -> Dealt:
    """Have tasks bin the rows of a source.

    Parameters
    ----------
    folder : Path or None
        Where pieces are left: every node must see it.
    parts : int
        Of each piece.
    """
    found = rows.map(_dealing(list(edges), classes, folder, parts), _TOLD).to_pylist()
    pieces = [(told["path"] or told["content"], told["starts"]) for told in found]
    return Dealt(pieces, _content([[int(part) for part in told["hashes"]] for told in found]), edges, classes)


def deal_here(block: Block, edges: Sequence[np.ndarray], classes: int, folder: Path | None, *, threads: int) -> Dealt:
    """The same of rows that are here, as one piece."""
    ids, labels, weights, values = block
    binned = ids, labels, weights, bin_rows(values, edges, threads=threads)
    held, piece = _left([binned], edges, classes, 1, folder)
    return Dealt([(held, piece.starts)], _content([piece.hashes]), edges, classes)


def _content(hashes: Sequence[Sequence[int]]) -> list[str]:
    """Of all rows, from the sums of each piece."""
    return [f"{sum(of_piece[i] for of_piece in hashes) % 2**64:016x}" for i in range(2)]


@contextmanager
def handed(context: SparkContext, sets: Sequence[Dealt]) -> Iterator[Any]:
    """Something whose ``value`` is the tuple of these sets of rows in every task, while the block lasts.

    Raises
    ------
    LaunchError
        In the task, if a piece cannot be read there.
    """
    if all(isinstance(held, str) for dealt in sets for held, _ in dealt.pieces):
        yield _Filed(json.dumps([dealt.told for dealt in sets]))
        return
    shared = context.broadcast(tuple(dealt.read() for dealt in sets))
    try:
        yield shared
    finally:
        shared.unpersist()


@dataclass(frozen=True)
class _Filed:
    told: str

    @property
    def value(self) -> tuple[Binned, ...]:
        return _read(self.told)


@lru_cache(maxsize=1)
def _read(told: str) -> tuple[Binned, ...]:
    """Once a process, which runs many of the tasks."""
    return tuple(read_told(one) for one in json.loads(told))


def _dealing(
    edges: list[np.ndarray], classes: int, folder: Path | None, parts: int
) -> Callable[[Iterator[Block]], Iterator[pa.RecordBatch]]:
    def answer(blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
        binned = ((ids, labels, weights, bin_rows(values, edges)) for ids, labels, weights, values in blocks)
        for some in gathered(binned, _ROWS):
            held, piece = _left(some, edges, classes, parts, folder)
            told = {"starts": piece.starts, "hashes": [str(part) for part in piece.hashes]}
            where = {"path": held, "content": b""} if folder else {"path": "", "content": held}
            yield pa.RecordBatch.from_pylist([{**where, **told}])

    return answer


def _left(
    blocks: Sequence[Block], edges: Sequence[np.ndarray], classes: int, parts: int, folder: Path | None
) -> tuple[str | bytes, Piece]:
    """Where a piece of binned rows is, or its content if there is no folder for it; and the piece."""
    if folder:
        return left(folder, lambda file: write_piece(file, blocks, edges, classes, parts))
    content = io.BytesIO()
    piece = write_piece(content, blocks, edges, classes, parts)
    return content.getvalue(), piece
