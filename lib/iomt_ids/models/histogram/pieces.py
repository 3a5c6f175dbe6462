"""Rows in bins as bytes, on their way from the tasks that bin them to whoever grows trees from them.

A piece has some parts, so that growers can divide its rows: which part a row is in, its mark says, so parts are alike. Of a
part come the weights of its rows, their marks, their labels, and their bins, feature by feature, rows that trees send the same
way side by side (`order`). There is nothing else in it: lengths follow from where the parts start. Both ends go array by array,
straight from where rows were binned and straight to where they are wanted: fresh memory costs more than the copy itself.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.compiled import compiled
from iomt_ids.models.histogram.forest import Binned
from iomt_ids.models.histogram.grow import marks_of
from iomt_ids.models.histogram.order import neighbours

if TYPE_CHECKING:
    from iomt_ids.models.histogram.blocks import Block

# Bytes of a row beside its bins.
_WEIGHT, _MARK, _LABEL = 8, 4, 1
_FIRST, _SECOND, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(31)
# Rows that are hashed together.
_ROWS = 512


class Piece(NamedTuple):
    """Some rows.

    Attributes
    ----------
    starts : list of int
        The row with which each part begins, and how many there are.
    hashes : tuple of int
        Two sums of hashes of the rows, which no order of them changes.
    """

    starts: list[int]
    hashes: tuple[int, int]


# Where a piece is, or its content itself, and its parts' starts.
Held = tuple[str | bytes, list[int]]


def write_piece(
    file: BinaryIO, blocks: Sequence[Block], edges: Sequence[np.ndarray], classes: int, parts: int
) -> Piece:
    """Write a piece of these rows.

    Parameters
    ----------
    file : binary file
        Empty, and seekable.
    blocks : sequence of (ids, labels, weights, columns)
        Rows, see `forest.Binned`; ids are their `flow_id`, int64. At least one block, which may have no rows.
    parts : int
        At least 1.
    """
    ids, labels, weights = (np.concatenate([block[i] for block in blocks]) for i in range(3))
    marks, order = marks_of(ids), neighbours([columns for *_, columns in blocks], labels, edges, classes)
    part = (marks.astype(np.uint64) * np.uint64(parts) >> np.uint64(32)).astype(np.uint16)
    order = order[np.argsort(part[order], kind="stable")]
    starts = [0, *np.cumsum(np.bincount(part, minlength=parts)).tolist()]

    def write(before: int, array: np.ndarray) -> None:
        for first, last in pairwise(starts):
            file.seek(first * _bytes_a_row(len(edges)) + (last - first) * before)
            file.write(array[first:last].data)

    write(0, weights[order])
    write(_WEIGHT, marks[order])
    write(_WEIGHT + _MARK, labels[order])
    column, ordered = np.empty((2, labels.size), np.uint8)
    for feature in range(len(edges)):
        np.concatenate([columns[feature] for *_, columns in blocks], out=column)
        # As in `order.side_by_side`.
        write(_WEIGHT + _MARK + _LABEL + feature, column.take(order, out=ordered, mode="clip"))
    hashes = [_sums_of_hashes(*block) for block in blocks]
    return Piece(starts, (sum(int(one) for one, _ in hashes) % 2**64, sum(int(other) for _, other in hashes) % 2**64))


def read_pieces(
    pieces: Sequence[Held], edges: Sequence[np.ndarray], classes: int, rank: int = 0, size: int = 1
) -> Binned:
    """All rows of some pieces, or a rank's.

    Raises
    ------
    LaunchError
        If a file cannot be read from here.
    """
    chosen = [_chosen(starts, rank, size) for _, starts in pieces]
    rows, features, at = sum(starts[-1] - starts[0] for starts in chosen), len(edges), 0
    each = _bytes_a_row(features)
    whole = Binned(
        np.empty((features, rows), np.uint8), np.empty(rows, np.uint8), np.empty(rows, np.int64), np.empty(rows, np.uint32),
        edges, classes,
    )
    for (held, _), starts in zip(pieces, chosen, strict=True):
        try:
            with io.BytesIO(held) if isinstance(held, bytes) else Path(held).open("rb") as file:
                file.seek(starts[0] * each)
                for first, last in pairwise(starts):
                    here = slice(at, at := at + last - first)
                    for into in (whole.weights, whole.marks, whole.labels, *whole.columns):
                        file.readinto(into[here].view(np.uint8))
                if file.tell() < starts[-1] * each:
                    said = f"{file.tell()} bytes, of {starts[-1] * each} that are wanted"
                    raise LaunchError(f"{held!s} ends too early: {said}")
        except OSError as error:
            raise LaunchError(f"{held!s} cannot be read here ({error}); every node must see the run's folder") from error
    return whole


def read_told(told: Sequence[Any], rank: int = 0, size: int = 1) -> Binned:
    """The same of pieces, thresholds and classes that have come by JSON."""
    pieces, edges, classes = told
    return read_pieces(pieces, [np.array(e, np.float64) for e in edges], classes, rank, size)


def rows_of(pieces: Sequence[Held]) -> int:
    """Of all pieces."""
    return sum(starts[-1] for _, starts in pieces)


def _chosen(starts: list[int], rank: int, size: int) -> list[int]:
    parts = len(starts) - 1
    return starts[parts * rank // size : parts * (rank + 1) // size + 1]


def _bytes_a_row(features: int) -> int:
    return _WEIGHT + _MARK + _LABEL + features


@compiled
def _sums_of_hashes(ids: np.ndarray, labels: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> Any:
    one, other = np.uint64(0), np.uint64(0)
    hashed = np.empty(_ROWS, np.uint64)
    for start in range(0, ids.size, _ROWS):
        n = min(_ROWS, ids.size - start)
        for i in range(n):
            word = np.uint64(ids[start + i]) * _FIRST
            word = (word ^ (word >> _SHIFT) ^ np.uint64(labels[start + i])) * _SECOND
            hashed[i] = (word ^ (word >> _SHIFT) ^ np.uint64(weights[start + i])) * _SECOND
        for f in range(columns.shape[0]):
            own = columns[f, start : start + n]
            for i in range(n):
                hashed[i] = (hashed[i] ^ (hashed[i] >> _SHIFT) ^ np.uint64(own[i])) * _SECOND
        for i in range(n):
            one += hashed[i]
            other += (hashed[i] ^ (hashed[i] >> _SHIFT)) * _FIRST
    return one, other
