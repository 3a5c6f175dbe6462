"""Where a feature is cut into at most 256 bins: exact for few values, finer where rare classes are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from iomt_ids.distributed.compiled import compiled

# Fine enough for a class of any size, coarse enough that sums of whole numbers stay exact in a double.
_UNIT = 2.0**20
# Of a hash of values: the upper bits of a product depend on all bits of its factors.
_GOLDEN, _TOP = np.uint64(0x9E3779B97F4A7C15), np.uint64(40)
# Rows that are binned together.
_ROWS = 512


@compiled
def distinct(values: np.ndarray, limit: int) -> Any:
    """The distinct values of a column, ascending; empty if there are more than ``limit``."""
    slots = 4
    while slots < 4 * limit:
        slots *= 2
    held, is_taken, n = np.zeros(slots), np.zeros(slots, np.bool_), 0
    block = np.empty(_ROWS)
    words = block.view(np.uint64)
    for start in range(0, values.size, _ROWS):
        size = min(_ROWS, values.size - start)
        for i in range(size):
            block[i] = values[start + i] + 0.0  # one word for both zeros
        for i in range(size):
            at = np.int64((words[i] * _GOLDEN) >> _TOP) & (slots - 1)
            while is_taken[at] and held[at] != block[i]:
                at = (at + 1) & (slots - 1)
            if is_taken[at]:
                continue
            if n == limit:
                return held[:0].copy()
            held[at], is_taken[at] = block[i], True
            n += 1
    return np.sort(held[is_taken])


@compiled
def _cut_evenly(values: np.ndarray, masses: np.ndarray, bins: int) -> Any:
    """Positions after which a bin ends, each bin as near to an equal share of what is left as values allow."""
    ends, n = np.empty(bins - 1, np.int64), 0
    left, mass = masses.sum(), 0.0
    for i in range(values.size - 1):
        if n == bins - 1:
            break
        mass += masses[i]
        share = left / (bins - n)
        if abs(mass - share) <= abs(mass + masses[i + 1] - share):
            ends[n] = i
            n += 1
            left -= mass
            mass = 0.0
    return ends[:n].copy()


def middles(values: np.ndarray) -> np.ndarray:
    """Thresholds between neighbouring values; a value at or below a threshold belongs to its left."""
    lower, upper = values[:-1], values[1:]
    middle = lower / 2 + upper / 2
    # Neighbouring doubles have nothing between them, and halves of the smallest ones are rounded.
    return np.where((middle >= lower) & (middle < upper), middle, lower)


def edges_of(values: np.ndarray, masses: np.ndarray, bins: int) -> np.ndarray:
    """Thresholds that cut a sample of one feature.

    Parameters
    ----------
    values, masses : ndarray of float64, shape (rows,)
        Finite values and what each of them weighs, whole numbers above 0.
    bins : int
        At most this many bins, 2 to 256.

    Returns
    -------
    ndarray of float64
        Ascending, fewer than ``bins``; bin b holds what is above edge b - 1 and not above edge b.
    """
    order = np.argsort(values)  # not a stable sort, it need not be: masses are whole numbers, their sums exact
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if ordered.size else np.empty(0, int)
    if starts.size <= bins:
        return middles(ordered[starts])
    unique, weight = ordered[starts], np.add.reduceat(masses[order], starts)
    return middles(unique)[_cut_evenly(unique, weight, bins)]


def class_masses(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What each row of a sample weighs, so that a class of n rows weighs the square root of n.

    Half way between rows alike, where a rare class falls into one bin, and classes alike, where a frequent one does.

    Parameters
    ----------
    labels : ndarray of int, shape (rows,)
        Class of each row of the sample.
    counts : ndarray of int, shape (classes,)
        Rows of each class in the data that the sample was drawn from.

    Returns
    -------
    ndarray of float64
        Whole numbers above 0.
    """
    sampled = np.bincount(labels, minlength=counts.size)
    return np.ceil(np.sqrt(counts) / np.maximum(sampled, 1) * _UNIT)[labels]


def bin_rows(rows: np.ndarray, edges: Sequence[np.ndarray], *, threads: int = 1) -> np.ndarray:
    """Bins of every value.

    Parameters
    ----------
    rows : ndarray of float64, shape (rows, features)
    edges : sequence of ndarray of float64
        Thresholds of each feature, fewer than 65,536.
    threads : int
        To use; changes nothing else.

    Returns
    -------
    ndarray of uint8, or of uint16 if a feature has more than 255 thresholds, shape (features, rows)
    """
    steps = [int(cuts.size).bit_length() for cuts in edges]
    most = max([1, *steps])
    padded = np.full((len(edges), 2**most - 1), np.inf)
    for into, cuts in zip(padded, edges, strict=True):
        into[: cuts.size] = cuts
    bins = np.empty((len(edges), len(rows)), np.uint8 if most <= 8 else np.uint16)
    wanted = np.array(steps, np.int64)
    bounds = [len(rows) * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda a, b: _bin_blocks(rows[a:b], padded, wanted, bins[:, a:b]), bounds[:-1], bounds[1:]))
    return bins


@compiled
def _bin_blocks(rows: np.ndarray, edges: np.ndarray, steps: np.ndarray, bins: np.ndarray) -> None:
    # A block of rows at a time, so that reading by rows and writing by columns both stay in the cache. All values of a block
    # take a step of the search together: it has no branch that depends on data, and the processor takes some at a time.
    values, at = np.empty(_ROWS), np.empty(_ROWS, np.int64)
    for start in range(0, rows.shape[0], _ROWS):
        size = min(_ROWS, rows.shape[0] - start)
        for f in range(edges.shape[0]):
            for i in range(size):
                values[i] = rows[start + i, f]
            at[:] = 0
            for step in range(steps[f] - 1, -1, -1):
                half = np.int64(1) << step
                for i in range(size):
                    at[i] += half * np.int64(edges[f, np.uint64(at[i] + half - 1)] < values[i])
            for i in range(size):
                bins[f, start + i] = at[i]
