"""One regression tree of a boosting round from bytes, compiled; `boost` is its caller.

A round's gradients become whole numbers, the two of a row in one 64-bit word, so that a histogram is filled by one
addition a value and every sum is exact: no result depends on the order of adding. Whole-numbered gradients lose nothing
that boosting needs (Shi et al., "Quantized training of gradient boosting decision trees", NeurIPS 2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from iomt_ids.distributed.compiled import compiled, prefetch
from iomt_ids.models.histogram.grow import divide, mix

_HALF, LOW_HALF = np.int64(32), np.int64(0xFFFFFFFF)
_S11 = np.uint64(11)
# Rows whose numbers stay in the cache from one step to the next.
_BLOCK = 512
# Of the exponential, in float32: scores below the highest by more than the first count as much as that.
_LEAST, _LOG2_E, _ROUND = np.float32(-80.0), np.float32(1.44269504), np.float32(1.5 * 2**23)
_LN2_HIGH, _LN2_LOW, _MANTISSA = np.float32(0.693359375), np.float32(-2.12194440e-4), np.int32(23)
_C0, _C2, _C3, _C4, _C5, _C6 = (np.float32(1 / n) for n in (1, 2, 6, 24, 120, 720))
# Of the hash of 32 bits by which rows are drawn (the finalizer of MurmurHash3, Appleby 2011).
_M1, _M2, _S16, _S13, _S8 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35), np.uint32(16), np.uint32(13), np.uint32(8)
# Rows of a node lie far from each other: each would be waited for longer than it takes to add it.
_AHEAD = 8
# Of the statistics of leaves, which are of all rows: sums of 2**31 rows stay below 2**63.
FINE = 2.0**30


@compiled
def softmax(scores: np.ndarray, probabilities: np.ndarray, start: int, stop: int) -> None:
    """Probabilities of some rows; both arrays are of float32, shape (classes, rows).

    The exponential is a power of two times a short series (Cody and Waite 1980), of a row's highest score and those near it
    within a few units in the last place: additions and multiplications alone, so the bits are the same on every machine,
    whatever its mathematical library is.
    """
    classes = scores.shape[0]
    highest, total, power = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    odds, exponents = np.empty((classes, _BLOCK), np.float32), power.view(np.int32)
    for first in range(start, stop, _BLOCK):
        n = min(_BLOCK, stop - first)
        highest[:n] = scores[0, first : first + n]
        for k in range(1, classes):
            own = scores[k, first : first + n]
            for i in range(n):
                highest[i] = max(highest[i], own[i])
        total[:n] = 0.0
        for k in range(classes):
            own, found = scores[k, first : first + n], odds[k]
            for i in range(n):
                y = max(own[i] - highest[i], _LEAST)
                power[i] = y * _LOG2_E + _ROUND  # the nearest whole number is in its lowest bits
                whole = power[i] - _ROUND
                r = y - whole * _LN2_HIGH - whole * _LN2_LOW
                found[i] = _C0 + r * (_C0 + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6)))))
            bits = found.view(np.int32)
            for i in range(n):
                bits[i] += exponents[i] << _MANTISSA
            for i in range(n):
                total[i] += found[i]
        for k in range(classes):
            found, into = odds[k], probabilities[k, first : first + n]
            for i in range(n):
                into[i] = found[i] / total[i]


@compiled
def of_labels(probabilities: np.ndarray, labels: np.ndarray) -> Any:
    """Each row's probability of its own class."""
    found = np.empty(labels.size)
    for row in range(labels.size):
        found[row] = probabilities[labels[row], row]
    return found


@compiled
def draw_rows(
    probability: np.ndarray, labels: np.ndarray, weights: np.ndarray, marks: np.ndarray, own: int,
    threshold: float, seed: np.uint64, rows: np.ndarray,
) -> Any:
    """Put the rows that a tree is grown from into ``rows``; their number, and the sum of their gradients' sizes times `FINE`.

    A row whose gradient is below the threshold is drawn with a chance in proportion to it, and then stands for those that
    were not: sums keep their expectation (minimal variance sampling, Ibragimov and Gusev, NeurIPS 2019). Chances are of a
    row's mark.
    """
    n: Any = 0
    is_drawn = np.empty(_BLOCK, np.uint8)
    low, high = np.uint32(seed), np.uint32(seed >> np.uint64(32))
    per_chance, label = np.float32(threshold * 2.0**-24), np.uint8(own)
    for start in range(0, labels.size, _BLOCK):
        block = slice(start, min(start + _BLOCK, labels.size))
        likely, known, marked = probability[block], labels[block], marks[block]
        for i in range(likely.size):
            # In 32 bits, of which a processor takes eight rows' at a time.
            hashed = marked[i] ^ low
            hashed = np.uint32(np.uint32(hashed ^ (hashed >> _S16)) * _M1) ^ high
            hashed = np.uint32(np.uint32(hashed ^ (hashed >> _S13)) * _M2)
            hashed = np.uint32(hashed ^ (hashed >> _S16)) >> _S8
            is_drawn[i] = np.float32(hashed) * per_chance < abs(likely[i] - np.float32(known[i] == label))
        for i in range(likely.size):
            # Written anyway, and kept by going on: a processor cannot guess which rows are drawn.
            rows[n] = start + i
            n += np.int64(is_drawn[i])
    total: Any = 0
    for row in rows[:n]:
        size = abs(np.float64(probability[row]) - np.float64(labels[row] == own))
        total += np.int64(np.maximum(size, threshold) * FINE) * weights[row]
    return n, total


@compiled
def encode_rows(
    probability: np.ndarray, labels: np.ndarray, weights: np.ndarray, marks: np.ndarray, own: int,
    threshold: float, unit: float, seed: np.uint64, rows: np.ndarray, codes: np.ndarray,
) -> None:
    """Gradient and curvature of drawn rows, in whole units, in one word each.

    A part of a unit is rounded up with a chance of its size: where rows are so many that a row's gradient is less than a
    unit, sums still keep their expectation (Shi et al. 2022).
    """
    for i in range(rows.size):
        row = rows[i]
        g = np.float64(probability[row]) - np.float64(labels[row] == own)
        size = abs(g)
        h = size * (1.0 - size)
        weight = unit * np.float64(weights[row])
        if size < threshold:
            weight *= threshold / size
        chance = np.float64(mix(~seed ^ np.uint64(marks[row])) >> _S11) * 2.0**-53
        codes[i] = (np.int64(np.floor(g * weight + chance)) << _HALF) + np.int64(np.floor(h * weight + chance))


@compiled
def fill(slab: np.ndarray, table: np.ndarray, rows: np.ndarray, codes: np.ndarray, stride: np.uint32) -> None:
    """Add the words of some rows to the histograms of all features, which lie ``stride`` apart."""
    for i in range(rows.size):
        if i + _AHEAD < rows.size:
            prefetch(table, np.int64(rows[i + _AHEAD]))
        row, code, at = rows[i], codes[i], np.uint32(0)
        for f in range(np.uint32(table.shape[1])):
            slab[at + np.uint32(table[row, f])] += code
            at += stride


@compiled
def best_split(slab: np.ndarray, n_bins: np.ndarray, stride: int, penalty: float, least: float) -> Any:
    """The best split over all features: (score, feature, last bin of the left side, left sums in one word).

    The score is G_left**2 / (H_left + penalty) + G_right**2 / (H_right + penalty). A cut lies in the middle of the empty
    bins between two filled ones. Feature -1 if there is no split.
    """
    best: Any = -1.0
    feature, cut, taken = -1, -1, np.int64(0)
    whole = np.int64(0)
    for b in range(n_bins[0]):
        whole += slab[b]
    for f in range(n_bins.size):
        left, previous = np.int64(0), -1
        for b in range(n_bins[f]):
            here = slab[f * stride + b]
            if here == 0:
                continue
            right = whole - left
            h_left, h_right = np.float64(left & LOW_HALF), np.float64(right & LOW_HALF)
            if h_right < least:
                break
            if previous >= 0 and h_left >= least:
                g_left, g_right = np.float64(left >> _HALF), np.float64(right >> _HALF)
                score = g_left * g_left / (h_left + penalty) + g_right * g_right / (h_right + penalty)
                if score > best:
                    best, feature, cut, taken = score, f, (previous + b - 1) // 2, left
            previous = b
            left += here
    return best, feature, cut, taken


@compiled
def grow_newton_tree(
    table: np.ndarray, columns: np.ndarray, n_bins: np.ndarray, rows: np.ndarray, codes: np.ndarray, depth: int, unit: float,
    penalty: float, least: float,
) -> Any:
    """Grow one tree; rows and codes are put into the order of its leaves.

    Parameters
    ----------
    table : ndarray of uint8, shape (all rows, features)
        Bins, row by row, as histograms want them.
    columns : ndarray of uint8, shape (features, all rows)
        The same, feature by feature, as dividing rows wants them.
    n_bins : ndarray of int64, shape (features,)
    rows : ndarray of uint32, shape (rows,)
    codes : ndarray of int64, shape (rows,)
        Gradient in the upper half, curvature in the lower, both in units of ``1 / unit``.
    depth : int
        Deepest level; 0 is the root alone.
    penalty, least : float
        Added to the curvature of a side (L2), and least curvature of a side.

    Returns
    -------
    feature, cut, right : ndarray of int32, shape (nodes,)
        In pre-order: the left child of node i is i + 1. A leaf has feature -1. Bins up to the cut go left.
    """
    most, stride = 2 ** (depth + 1), n_bins.max()
    feature, cut, right = np.full(most, -1, np.int32), np.full(most, -1, np.int32), np.full(most, -1, np.int32)
    # Histograms of both children of a node; while the left one's are grown, the right one's stay as they are.
    slabs = np.empty((depth + 1, 2, n_bins.size * stride), np.int64)
    spare, spare_codes = np.empty_like(rows), np.empty_like(codes)
    # Waiting nodes: rows from, to; level; side; parent if a right child, else -1; sums in one word.
    waiting = np.zeros((depth + 2, 6), np.int64)
    waiting[0, 1], waiting[0, 4], waiting[0, 5] = rows.size, -1, codes.sum()
    slabs[0, 0] = 0
    fill(slabs[0, 0], table, rows, codes, np.uint32(stride))
    nodes, top = 0, 1
    while top > 0:
        top -= 1
        start, stop, level, side, parent, whole = waiting[top]
        node = nodes
        nodes += 1
        if parent >= 0:
            right[parent] = node
        if level == depth or np.float64(whole & LOW_HALF) < 2 * least * unit:
            continue
        slab = slabs[level, side]
        score, f, b, left = best_split(slab, n_bins, stride, penalty * unit, max(least * unit, 1.0))
        g, h = np.float64(whole >> _HALF), np.float64(whole & LOW_HALF)
        if f < 0 or score - g * g / (h + penalty * unit) <= 1e-6 * unit:
            continue
        feature[node], cut[node] = f, b
        middle = start + divide(columns[f], b, rows[start:stop], codes[start:stop], spare, spare_codes)
        if level + 1 < depth:
            small = np.int64(middle - start > stop - middle)
            here = slice(middle, stop) if small else slice(start, middle)
            slabs[level + 1, small] = 0
            fill(slabs[level + 1, small], table, rows[here], codes[here], np.uint32(stride))
            slabs[level + 1, 1 - small] = slab - slabs[level + 1, small]
        _wait(waiting, top, middle, stop, level + 1, 1, node, whole - left)
        _wait(waiting, top + 1, start, middle, level + 1, 0, -1, left)
        top += 2
    return feature[:nodes].copy(), cut[:nodes].copy(), right[:nodes].copy()


@compiled
def _wait(waiting: np.ndarray, at: int, start: int, stop: int, level: int, side: int, parent: int, whole: int) -> None:
    waiting[at, 0], waiting[at, 1], waiting[at, 2] = start, stop, level
    waiting[at, 3], waiting[at, 4], waiting[at, 5] = side, parent, whole


@compiled
def leaf_statistics(
    leaves: np.ndarray, probability: np.ndarray, labels: np.ndarray, weights: np.ndarray, own: int, nodes: int
) -> Any:
    """Of all rows of each leaf: their number, and sums of residual, its square and curvature, these three times `FINE`.

    Returns
    -------
    ndarray of int64, shape (nodes, 4)
        A residual is what a row's label is more than its probability. 0 at nodes that are no leaves.
    """
    sums = np.zeros((nodes, 4), np.int64)
    for row in range(leaves.size):
        residual = np.float64(labels[row] == own) - np.float64(probability[row])
        square, size = residual * residual, abs(residual)
        node, weight = leaves[row], weights[row]
        sums[node, 0] += weight
        sums[node, 1] += np.int64(residual * FINE) * weight
        sums[node, 2] += np.int64(square * FINE) * weight
        sums[node, 3] += np.int64((size - square) * FINE) * weight
    return sums


@compiled
def add_values(scores: np.ndarray, leaves: np.ndarray, values: np.ndarray) -> None:
    """Move each row's score by its leaf's value."""
    for row in range(leaves.size):
        scores[row] += values[leaves[row]]
