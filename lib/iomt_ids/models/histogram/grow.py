"""One classification tree from bytes (CART, Breiman et al. 1984), compiled; `forest` is its caller.

Rows are columns of bins, weights are whole numbers, so every sum here is exact and no result depends on the order of
adding. Where a node's features and bootstrap counts come from is a hash of (seed, place), never a shared stream: a tree
is the same whoever grows it and in which order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from iomt_ids.distributed.compiled import compiled, inlined
from iomt_ids.models.histogram.memory import Room

# A split must lower the Gini impurity by more than rounding does.
LEAST_GAIN = 1e-12
_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S32, _S30, _S27, _S31, _S11 = np.uint64(32), np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
# Weights are counted modulo 2**32.
PLUS, MINUS = np.uint32(1), np.uint32(2**32 - 1)
# Rows whose draws stay in the nearest cache.
_DRAWN_AT_ONCE = 16384
# P(Poisson(1) <= k) for k = 0..11, in 2**-53; what is left weighs less than 1e-9.
_POISSON = np.ceil(2.0**53 * np.cumsum(np.exp(-1.0) / np.cumprod(np.concatenate([[1.0], np.arange(1.0, 12.0)])))).astype(np.int64)


@compiled
def mix(value: np.uint64) -> Any:
    """A 64-bit hash: one step of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = value + _GOLDEN
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@compiled
def marks_of(ids: np.ndarray) -> Any:
    """Of each row, 32 bits by which it is drawn: a hash of its `flow_id`, which knows nothing of other rows.

    Of n rows some n**2 / 2**33 pairs share a mark, and are drawn together; that moves no expectation.
    """
    marks = np.empty(ids.size, np.uint32)
    for row in range(ids.size):
        marks[row] = mix(np.uint64(ids[row])) >> _S32
    return marks


@inlined
def _drawn(place: np.uint64) -> Any:
    """A Poisson(1) number; all bounds are compared, since a processor cannot guess where to stop."""
    chance, times = np.int64(mix(place) >> _S11), np.uint32(0)
    for bound in _POISSON:
        times += np.uint32(chance >= bound)
    return times


@compiled
def _draw_times(weights: np.ndarray, marks: np.ndarray, seed: np.uint64, times: np.ndarray) -> None:
    # Most rows stand for themselves alone, and a loop without another in it is compiled for several rows at once.
    for i in range(weights.size):
        times[i] = _drawn(mix(seed ^ mix(np.uint64(marks[i])))) * np.uint32(weights[i] > 0)
    for i in range(weights.size):
        if weights[i] > 1:
            place = mix(seed ^ mix(np.uint64(marks[i])))
            for copy in range(1, weights[i]):
                times[i] += _drawn(place + np.uint64(copy))


@compiled
def bootstrap_rows(
    labels: np.ndarray, weights: np.ndarray, marks: np.ndarray, seed: np.uint64, rows: np.ndarray, codes: np.ndarray
) -> Any:
    """Rows that a tree sees: Poisson(1) times for each of the rows that one stands for, drawn by its mark.

    Parameters
    ----------
    labels, weights, marks : ndarray, shape (rows,)
        See `forest.Binned`.
    seed : uint64
        Of the tree's bootstrap.
    rows, codes : ndarray of uint32, shape (rows,)
        Their first places are filled with the rows that are seen, and in one word with how often and their class.

    Returns
    -------
    n, total, most : int
        How many are seen; how often, all together; and the one that is seen most, which is too much from 2**24.
    """
    n: Any = 0
    total: Any = 0
    most = np.uint32(0)
    times = np.empty(_DRAWN_AT_ONCE, np.uint32)
    for start in range(0, labels.size, _DRAWN_AT_ONCE):
        here = slice(start, min(start + _DRAWN_AT_ONCE, labels.size))
        label = labels[here]
        _draw_times(weights[here], marks[here], seed, times)
        for i in range(label.size):
            rows[n], codes[n] = start + i, (times[i] << np.uint32(8)) | np.uint32(label[i])
            n += np.int64(times[i] > 0)
        for i in range(label.size):
            total += np.int64(times[i])
            most = max(most, times[i])
    return n, total, most


@compiled
def draw_features(order: np.ndarray, seed: np.uint64, path: np.uint64, wanted: int) -> None:
    """Shuffle all features into ``order``; the first ``wanted`` are the node's own, ascending."""
    state = mix(seed ^ mix(path))
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1):
        state = mix(state)
        j = i + np.int64(state % np.uint64(order.size - i))
        order[i], order[j] = order[j], order[i]
    order[:wanted].sort()


@compiled
def add_rows(
    slabs: np.ndarray, places: np.ndarray, columns: np.ndarray, features: np.ndarray, rows: np.ndarray, codes: np.ndarray,
    classes: np.uint32, sign: np.uint32,
) -> None:
    """Add weights of some rows to the histograms of these features, which are at these places; or take them away.

    Three features at a time: a row's number and code are read once for them, and more do not fit a processor's registers.
    """
    n: Any = features.size
    for i in range(0, n - 2, 3):
        one, other, third = slabs[places[i]], slabs[places[i + 1]], slabs[places[i + 2]]
        of_one, of_other, of_third = columns[features[i]], columns[features[i + 1]], columns[features[i + 2]]
        for k in range(rows.size):
            row, code = rows[k], codes[k]
            label, weight = code & np.uint32(255), sign * (code >> np.uint32(8))
            one[np.uint32(of_one[row]) * classes + label] += weight
            other[np.uint32(of_other[row]) * classes + label] += weight
            third[np.uint32(of_third[row]) * classes + label] += weight
    for i in range(n - n % 3, n):
        one, of_one = slabs[places[i]], columns[features[i]]
        for k in range(rows.size):
            code = codes[k]
            one[np.uint32(of_one[rows[k]]) * classes + (code & np.uint32(255))] += sign * (code >> np.uint32(8))


@compiled
def best_cut(slab: np.ndarray, bins: Any, totals: np.ndarray, present: np.ndarray, left: np.ndarray, least: int) -> Any:
    """The best split of one feature: (sum of n_left * purity_left + n_right * purity_right, last bin of the left side).

    The cut lies in the middle of the empty bins between two filled ones. Score -1 if there is no split.
    """
    classes = totals.size
    weight, left_weight, left_squares, right_squares = 0, 0, 0, 0
    for c in present:
        left[c] = 0
        weight += totals[c]
        right_squares += totals[c] * totals[c]
    best, cut, previous = -1.0, -1, -1
    for b in range(bins):
        here: Any = 0
        for c in present:
            here += np.int64(slab[b * classes + c])
        if here == 0:
            continue
        if left_weight >= least and weight - left_weight >= least and previous >= 0:
            score = left_squares / left_weight + right_squares / (weight - left_weight)
            if score > best:
                best, cut = score, (previous + b - 1) // 2
        previous = b
        left_weight += here
        if left_weight == weight:
            break
        for c in present:
            n = np.int64(slab[b * classes + c])
            left_squares += n * (2 * left[c] + n)
            right_squares -= n * (2 * (totals[c] - left[c]) - n)
            left[c] += n
    return best, cut


@compiled
def gain_of(score: float, totals: np.ndarray) -> float:
    weight, squares = 0, 0
    for n in totals:
        weight += n
        squares += n * n
    return (score - squares / weight) / weight


@compiled
def best_of(slabs: np.ndarray, bins: np.ndarray, totals: np.ndarray, least: int, ends_at_first: bool) -> Any:
    """The best split of a node by some features, or the first one: (feature's place, last bin of the left side, gain, left counts).

    Parameters
    ----------
    slabs : ndarray of uint32, shape (features, at least bins * classes)
        Weights of the node's rows by bin and class.
    bins : ndarray of int64, shape (features,)
    totals : ndarray of int64, shape (classes,)
    least : int
        Least weight of a side.
    ends_at_first : bool
        Whether the first feature that splits is enough.

    Returns
    -------
    tuple
        Place -1 if there is no split.
    """
    present, left = np.flatnonzero(totals), np.zeros(totals.size, np.int64)
    best, place, cut = -1.0, -1, -1
    for i in range(bins.size):
        score, bin_ = best_cut(slabs[i], bins[i], totals, present, left, least)
        if score > best and gain_of(score, totals) > LEAST_GAIN:
            best, place, cut = score, i, bin_
            if ends_at_first:
                break
    left[:] = 0
    for b in range(cut + 1):
        for c in range(totals.size):
            left[c] += np.int64(slabs[place, b * totals.size + c])
    return place, cut, gain_of(best, totals), left


@compiled
def divide(column: np.ndarray, cut: int, rows: np.ndarray, codes: np.ndarray, spare: np.ndarray, spare_codes: np.ndarray) -> Any:
    """Rows at or below the cut to the front, the others behind them, each side in its old order."""
    left: Any = 0
    right: Any = 0
    for i in range(rows.size):
        row, code = rows[i], codes[i]
        goes_left = np.int64(column[row] <= cut)
        rows[left], codes[left] = row, code
        spare[right], spare_codes[right] = row, code
        left += goes_left
        right += 1 - goes_left
    rows[left:] = spare[:right]
    codes[left:] = spare_codes[:right]
    return left


@compiled
def _find_split(
    columns: np.ndarray, n_bins: np.ndarray, rows: np.ndarray, codes: np.ndarray, span: np.ndarray, kin: np.ndarray,
    slabs: np.ndarray, above: np.ndarray, order: np.ndarray, above_place: np.ndarray, wanted: int, totals: np.ndarray,
    least: int,
) -> Any:
    """(feature, cut, gain, left counts) of the best split; beyond the wanted features only as far as the first that splits."""
    classes = totals.size
    mine, others = slice(span[0], span[1]), slice(kin[0], kin[1])
    has_small_kin = kin[1] - kin[0] < span[1] - span[0]
    # Of features that the parent has looked at, what the sibling leaves over; of others, this node's rows.
    is_left_over = np.zeros(wanted, np.bool_)
    for i in range(wanted):
        f = order[i]
        is_left_over[i] = above_place[f] >= 0 and has_small_kin
        if is_left_over[i]:
            slabs[i, : n_bins[f] * classes] = above[above_place[f], : n_bins[f] * classes]
        else:
            slabs[i, : n_bins[f] * classes] = 0
    fresh, left_over = np.flatnonzero(~is_left_over), np.flatnonzero(is_left_over)
    add_rows(slabs, fresh, columns, order[fresh], rows[mine], codes[mine], np.uint32(classes), PLUS)
    add_rows(slabs, left_over, columns, order[left_over], rows[others], codes[others], np.uint32(classes), MINUS)
    place, cut, gain, left = best_of(slabs[:wanted], n_bins[order[:wanted]], totals, least, False)
    feature = order[place]
    for i in range(wanted, order.size):
        if place >= 0:
            break
        feature, only = order[i], order[i : i + 1]
        slabs[wanted, : n_bins[feature] * classes] = 0
        add_rows(slabs, np.array([wanted]), columns, only, rows[mine], codes[mine], np.uint32(classes), PLUS)
        place, cut, gain, left = best_of(slabs[wanted:], n_bins[only], totals, least, True)
    return feature if place >= 0 else -1, cut, gain, left


def all_seen(codes: np.ndarray) -> Room:
    """All rows that these words are of, for `grow_tree`."""
    return np.arange(codes.size, dtype=np.uint32), codes, np.empty_like(codes), np.empty_like(codes)


@compiled
def class_weights(codes: np.ndarray, classes: int) -> Any:
    """Weighted rows of each class, from the words of `bootstrap_rows`."""
    totals = np.zeros(classes, np.int64)
    for code in codes:
        totals[code & np.uint32(255)] += np.int64(code >> np.uint32(8))
    return totals


@compiled
def put_columns(
    columns: np.ndarray, rows: np.ndarray, ends: np.ndarray, into: np.ndarray, places: np.ndarray, steps: np.ndarray
) -> None:
    """Write bins of the rows of some nodes, of each feature by feature as those of all rows are.

    Three features at a time, as `add_rows`, and of all nodes: they have lines of the cache in common.

    Parameters
    ----------
    columns : ndarray of uint8, shape (features, rows)
    rows : ndarray of uint32
        Of one node after the other.
    ends : ndarray of int64, shape (nodes,)
        Where each node's end.
    into : ndarray of uint8
    places, steps : ndarray of int64, shape (nodes,)
        Where each node's first feature is put, and how many bytes after it the next.
    """
    n: Any = columns.shape[0]
    for f in range(0, n - 2, 3):
        of_one, of_other, of_third = columns[f], columns[f + 1], columns[f + 2]
        start: Any = 0
        for node in range(ends.size):
            mine, at, step = rows[start : ends[node]], places[node], steps[node]
            one, other, third = into[at + f * step :], into[at + (f + 1) * step :], into[at + (f + 2) * step :]
            for i in range(mine.size):
                row = mine[i]
                one[i], other[i], third[i] = of_one[row], of_other[row], of_third[row]
            start = ends[node]
    for f in range(n - n % 3, n):
        start = 0
        for node in range(ends.size):
            mine, last = rows[start : ends[node]], into[places[node] + f * steps[node] :]
            for i in range(mine.size):
                last[i] = columns[f, mine[i]]
            start = ends[node]


@compiled
def grow_tree(
    columns: np.ndarray, n_bins: np.ndarray, seen: Room, classes: int, depth: int, wanted: int, least: int,
    seed: np.uint64, root: np.uint64,
) -> Any:
    """Grow one tree, or what is below a node of one.

    Parameters
    ----------
    columns : ndarray of uint8, shape (features, rows)
    n_bins : ndarray of int64, shape (features,)
    seen : tuple of ndarray of uint32
        The rows, and in one word how often each counts, below 2**24, and its class, as from `bootstrap_rows`; then as much room
        for each. They end up in another order. How often all count together is below 2**31.
    classes, depth, wanted, least : int
        Classes, deepest level (0 is the root alone), features a node, least weight of a leaf.
    seed : uint64
        Of the features of each node.
    root : uint64
        Path of the node to start from, 1 for a whole tree: left children have twice the path, right ones 1 more.

    Returns
    -------
    feature, cut, right : ndarray of int32, shape (nodes,)
        In pre-order: the left child of node i is i + 1. A leaf has feature -1. Bins up to the cut go left.
    counts : ndarray of int32, shape (nodes, classes)
    gain : ndarray of float64, shape (nodes,)
        Decrease of the Gini impurity; -1 at a leaf, as MLlib has it.
    """
    rows, codes, spare, spare_codes = seen
    n_features, most = n_bins.size, max(1, min(2 * rows.size, 2 ** (min(depth, 40) + 1)))
    feature, cut, right = np.full(most, -1, np.int32), np.full(most, -1, np.int32), np.full(most, -1, np.int32)
    counts, gain = np.zeros((most, classes), np.int32), np.full(most, -1.0)
    # One set of histograms a level: while a node's children are grown, its own stay as they are.
    slabs = np.zeros((depth + 1, wanted + 1, n_bins.max() * classes), np.uint32)
    place = np.full((depth + 2, n_features), -1, np.int64)
    order = np.empty(n_features, np.int64)
    # Waiting nodes: rows from, to; sibling's rows from, to; level; parent if a right child, else -1.
    waiting, paths = np.zeros((depth + 2, 6), np.int64), np.ones(depth + 2, np.uint64)
    totals = np.zeros((depth + 2, classes), np.int64)
    totals[0] = class_weights(codes, classes)
    waiting[0, 1], waiting[0, 5], paths[0] = rows.size, -1, root
    nodes, top = 0, 1
    while top > 0:
        top -= 1
        span, kin, level, path = waiting[top, 0:2].copy(), waiting[top, 2:4].copy(), waiting[top, 4], paths[top]
        own = totals[top].copy()
        node = nodes
        nodes += 1
        if waiting[top, 5] >= 0:
            right[waiting[top, 5]] = node
        counts[node] = own
        if level == depth or own.sum() < 2 * least or np.count_nonzero(own) < 2:
            continue
        draw_features(order, seed, path, wanted)
        f, b, lowered, left = _find_split(
            columns, n_bins, rows, codes, span, kin, slabs[level], slabs[level - 1], order, place[level], wanted, own, least
        )
        if f < 0:
            continue
        place[level + 1] = -1
        for i in range(wanted):
            place[level + 1, order[i]] = i
        feature[node], cut[node], gain[node] = f, b, lowered
        here = slice(span[0], span[1])
        middle = span[0] + divide(columns[f], b, rows[here], codes[here], spare, spare_codes)
        _wait(waiting, paths, top, middle, span[1], span[0], middle, level + 1, node, np.uint64(2) * path + np.uint64(1))
        _wait(waiting, paths, top + 1, span[0], middle, middle, span[1], level + 1, -1, np.uint64(2) * path)
        totals[top], totals[top + 1] = own - left, left
        top += 2
    return feature[:nodes].copy(), cut[:nodes].copy(), right[:nodes].copy(), counts[:nodes].copy(), gain[:nodes].copy()


@compiled
def _wait(
    waiting: np.ndarray, paths: np.ndarray, at: int, start: int, end: int, kin_start: int, kin_end: int, level: int,
    parent: int, path: np.uint64,
) -> None:
    waiting[at, 0], waiting[at, 1], waiting[at, 2], waiting[at, 3] = start, end, kin_start, kin_end
    waiting[at, 4], waiting[at, 5], paths[at] = level, parent, path
