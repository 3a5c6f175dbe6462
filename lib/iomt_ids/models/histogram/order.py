"""In which order rows lie in memory: those that trees send the same way side by side.

A node's rows are then almost a piece of each column, and not one byte of every 64 that the processor fetches for it. No
tree depends on it: sums are exact, and what is drawn is drawn by a row's mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.descend import find_leaves, pack_nodes
from iomt_ids.models.histogram.forest import Binned
from iomt_ids.models.histogram.grow import all_seen, grow_tree, marks_of
from iomt_ids.models.histogram.sketch import Sketch

# Of the tree that says which rows belong together: node and class of a row fit into two bytes, which are sorted by counting.
_DEPTH, _SAMPLE = 7, 20_000


def neighbours(blocks: Sequence[np.ndarray], labels: np.ndarray, edges: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Rows by the leaves of a small tree, then by class.

    Parameters
    ----------
    blocks : sequence of ndarray
        Columns of some rows each, at least one.
    labels, edges, classes
        Of all rows, see `forest.Binned`.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Places of the rows.
    """
    every, n_bins = -(-labels.size // _SAMPLE) or 1, np.array([e.size + 1 for e in edges], np.int64)
    ends = np.cumsum([0, *(columns.shape[1] for columns in blocks)]).tolist()
    # Every so many rows of all: none depends on where one block ends.
    some = [columns[:, -first % every :: every] for columns, first in zip(blocks, ends[:-1], strict=True)]
    sampled = np.concatenate(some, axis=1)
    seen = all_seen(labels[::every].astype(np.uint32) | np.uint32(1 << 8))  # each once
    feature, cut, right, *_ = grow_tree(sampled, n_bins, seen, classes, _DEPTH, n_bins.size, 1, np.uint64(0), np.uint64(1))
    leaves = np.empty(labels.size, np.int32)
    nodes = pack_nodes(feature, cut, right)
    for columns, first, last in zip(blocks, ends[:-1], ends[1:], strict=True):
        find_leaves(columns, nodes, leaves[first:last])
    return np.argsort((leaves * classes + labels).astype(np.uint16), kind="stable")


def side_by_side(
    columns: np.ndarray, labels: np.ndarray, weights: np.ndarray, marks: np.ndarray, edges: Sequence[np.ndarray],
    classes: int, *, threads: int = 1,
) -> Binned:
    """Rows in the order of `neighbours`.

    Parameters
    ----------
    columns, labels, weights, marks, edges, classes
        See `forest.Binned`.
    threads : int
        To use; changes nothing else.
    """
    order, ordered = neighbours([columns], labels, edges, classes), np.empty_like(columns)
    with ThreadPoolExecutor(threads) as pool:
        # Places are right; of an array to be filled NumPy makes a copy for as long as it may have to raise.
        list(pool.map(lambda column, into: column.take(order, out=into, mode="clip"), columns, ordered))
    return Binned(ordered, labels[order], weights[order], marks[order], edges, classes)


def bin_all(
    rows: np.ndarray, labels: np.ndarray, classes: int, bins: int, threads: int = 1, ids: np.ndarray | None = None
) -> Binned:
    """Bins of rows that are all here.

    Parameters
    ----------
    rows : ndarray of float64, shape (rows, features)
        Finite values.
    labels : ndarray of int, shape (rows,)
    classes, bins, threads : int
        Number of classes; most bins of a feature; threads to use, which changes nothing else.
    ids : ndarray of int64, shape (rows,), optional
        By which they are drawn; their places, if left out.
    """
    labels, ids = labels.astype(np.uint8), np.arange(labels.size) if ids is None else ids
    edges = Sketch.of(ids, labels, rows, classes, bins, threads=threads).edges(threads=threads)
    columns, weights = bin_rows(rows, edges, threads=threads), np.ones(labels.size, np.int64)
    return side_by_side(columns, labels, weights, marks_of(ids), edges, classes, threads=threads)
