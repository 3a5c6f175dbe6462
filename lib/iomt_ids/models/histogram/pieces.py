"""Rows in bins as bytes, on their way from the tasks that bin them to whoever grows trees from them.

A piece has some parts, so that growers can divide its rows: which part a row is in, its mark says, so parts are alike. Of a
part come the weights of its rows, their marks, their labels, and their bins, feature by feature, rows that trees send the same
way side by side (`order`). There is nothing else in it: lengths follow from where the parts start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.compiled import compiled
from iomt_ids.models.histogram.forest import Binned
from iomt_ids.models.histogram.grow import marks_of
from iomt_ids.models.histogram.order import neighbours

# Bytes of a row beside its bins.
_WEIGHT, _MARK, _LABEL = 8, 4, 1
_FIRST, _SECOND, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(31)
# Rows that are hashed together.
_ROWS = 512


class Piece(NamedTuple):
    """Some rows.

    Attributes
    ----------
    content : ndarray of uint8
    starts : list of int
        The row with which each part begins, and how many there are.
    hashes : tuple of int
        Two sums of hashes of the rows, which no order of them changes.
    """

    content: np.ndarray
    starts: list[int]
    hashes: tuple[int, int]


# Where a piece is, or its content itself, and its parts' starts.
Held = tuple[str | bytes, list[int]]


def piece_of(
    ids: np.ndarray, labels: np.ndarray, weights: np.ndarray, columns: np.ndarray, edges: Sequence[np.ndarray], classes: int,
    parts: int,
) -> Piece:
    """A piece of these rows; see `forest.Binned`, and `Piece`.

    Parameters
    ----------
    ids : ndarray of int64, shape (rows,)
        `flow_id` of each row.
    parts : int
        At least 1.
    """
    marks, order = marks_of(ids), neighbours(columns, labels, edges, classes)
    part = (marks.astype(np.uint64) * np.uint64(parts) >> np.uint64(32)).astype(np.uint16)
    order = order[np.argsort(part[order], kind="stable")]
    starts = [0, *np.cumsum(np.bincount(part, minlength=parts)).tolist()]
    content = np.empty(labels.size * _bytes_a_row(len(edges)), np.uint8)
    for (first, last), into in zip(pairwise(starts), _parts(content, starts, len(edges)), strict=True):
        mine = order[first:last]
        into.weights[:], into.marks[:], into.labels[:] = weights[mine], marks[mine], labels[mine]
        for column, bins in zip(columns, into.columns, strict=True):
            column.take(mine, out=bins)
    return Piece(content, starts, _hashes(ids, labels, weights, columns))


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
    whole = Binned(
        np.empty((features, rows), np.uint8), np.empty(rows, np.uint8), np.empty(rows, np.int64), np.empty(rows, np.uint32),
        edges, classes,
    )
    for (held, _), starts in zip(pieces, chosen, strict=True):
        for part in _parts(_read(held, starts[0], starts[-1], _bytes_a_row(features)), starts, features):
            here = slice(at, at + part.labels.size)
            whole.weights[here], whole.marks[here], whole.labels[here] = part.weights, part.marks, part.labels
            whole.columns[:, here] = part.columns
            at = here.stop
    return whole


def read_told(told: Sequence[Any], rank: int = 0, size: int = 1) -> Binned:
    """The same of pieces, thresholds and classes that have come by JSON."""
    pieces, edges, classes = told
    return read_pieces(pieces, [np.array(e, np.float64) for e in edges], classes, rank, size)


def rows_of(pieces: Sequence[Held]) -> int:
    """Of all pieces."""
    return sum(starts[-1] for _, starts in pieces)


class _Part(NamedTuple):
    weights: np.ndarray
    marks: np.ndarray
    labels: np.ndarray
    columns: np.ndarray


def _parts(content: np.ndarray, starts: Sequence[int], features: int) -> Iterator[_Part]:
    """Views of neighbouring parts, of which the first begins with the content."""
    for first, last in pairwise(starts):
        rows, at = last - first, (first - starts[0]) * _bytes_a_row(features)
        ends = np.cumsum([at, rows * _WEIGHT, rows * _MARK, rows * _LABEL, rows * features]).tolist()
        weights, marks, labels, bins = (content[a:b] for a, b in pairwise(ends))
        yield _Part(weights.view(np.int64), marks.view(np.uint32), labels, bins.reshape(features, rows))


def _chosen(starts: list[int], rank: int, size: int) -> list[int]:
    parts = len(starts) - 1
    return starts[parts * rank // size : parts * (rank + 1) // size + 1]


def _read(held: str | bytes, first: int, last: int, each: int) -> np.ndarray:
    if isinstance(held, bytes):
        return np.frombuffer(held, np.uint8)[first * each : last * each]
    try:
        found = np.fromfile(held, np.uint8, (last - first) * each, offset=first * each)
    except OSError as error:
        raise LaunchError(f"{held} cannot be read here ({error}); every node must see the run's folder") from error
    if found.size != (last - first) * each:
        raise LaunchError(f"{held} ends too early: {first * each + found.size} bytes, of {last * each} that are wanted")
    return found


def _bytes_a_row(features: int) -> int:
    return _WEIGHT + _MARK + _LABEL + features


def _hashes(ids: np.ndarray, labels: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> tuple[int, int]:
    one, other = _sums_of_hashes(ids, labels, weights, columns)
    return int(one), int(other)


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
