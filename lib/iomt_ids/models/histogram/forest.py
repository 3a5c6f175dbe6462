"""A forest as flat arrays: grown from bins, tree by tree; importances as MLlib defines them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.models.histogram.grow import bootstrap_rows, grow_tree, mix
from iomt_ids.models.histogram.memory import Memory, first_of

MOST_WEIGHT = 2**31 - 1
_SEEN, _DRAWN = 1, 2


class _Own(threading.local):
    """A thread's memory for trees."""

    def __init__(self) -> None:
        self.memory = Memory()


_OWN = _Own()


@dataclass(frozen=True)
class Splits:
    """The nodes of a tree in pre-order: the left child of node i is i + 1.

    Attributes
    ----------
    feature : ndarray of int32, shape (nodes,)
        -1 at a leaf.
    threshold : ndarray of float64, shape (nodes,)
        At or below goes left.
    right : ndarray of int32, shape (nodes,)
        The right child, -1 at a leaf.
    """

    feature: np.ndarray
    threshold: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Tree(Splits):
    """One tree of a forest.

    Attributes
    ----------
    counts : ndarray of int64, shape (nodes, classes)
        Weighted rows of each class.
    gain : ndarray of float64, shape (nodes,)
        Decrease of the Gini impurity, -1 at a leaf.
    """

    counts: np.ndarray
    gain: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Weighted rows of each node."""
        return self.counts.sum(axis=1)

    @property
    def stats(self) -> np.ndarray:
        """What MLlib keeps of each node's rows: counts of classes."""
        return self.counts.astype(np.float64)

    @property
    def impurity(self) -> np.ndarray:
        """Gini impurity of each node."""
        return 1.0 - (self.stats**2).sum(axis=1) / self.stats.sum(axis=1) ** 2

    @property
    def prediction(self) -> np.ndarray:
        """The most frequent class of each node."""
        return self.counts.argmax(axis=1).astype(np.float64)


@dataclass(frozen=True)
class Forest:
    """Trees over the same features and classes."""

    trees: tuple[Tree, ...]
    features: int
    classes: int

    @property
    def nodes(self) -> int:
        """Nodes of all trees."""
        return sum(tree.feature.size for tree in self.trees)

    def importances(self) -> np.ndarray:
        """Share of each feature: gain times weight, each tree summing to 1, averaged (MLlib's definition)."""
        return importances_of([[tree] for tree in self.trees], self.features)


@dataclass(frozen=True)
class Shape:
    """Limits of a forest; see `models.random_forest.Params`."""

    trees: int
    depth: int
    bins: int
    features_per_node: str
    rows_per_leaf: int

    def __post_init__(self) -> None:
        if not (self.trees >= 1 and 0 <= self.depth <= 30 and 2 <= self.bins <= 256 and self.rows_per_leaf >= 1):
            raise ConfigError(
                f"random_forest: wanted trees >= 1, depth 0 to 30, bins 2 to 256, rows_per_leaf >= 1, not {self}"
            )


@dataclass(frozen=True)
class Binned:
    """Rows in bins.

    Attributes
    ----------
    columns : ndarray of uint8, shape (features, rows)
    labels : ndarray of uint8, shape (rows,)
    weights : ndarray of int64, shape (rows,)
        How many equal rows each stands for.
    marks : ndarray of uint32, shape (rows,)
        What each is drawn by, see `grow.marks_of`; nothing depends on the order of rows.
    edges : list of ndarray of float64
        Thresholds between the bins of each feature.
    classes : int
    """

    columns: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    marks: np.ndarray
    edges: Sequence[np.ndarray]
    classes: int

    @cached_property
    def table(self) -> np.ndarray:
        """The same bins row by row, for what wants all of a row at once; of shape (rows, features), made when first wanted."""
        return np.ascontiguousarray(self.columns.T)


def importances_of(groups: Sequence[Sequence[Any]], features: int) -> np.ndarray:
    """Share of each feature: gain times weight, each group of trees summing to 1, averaged.

    MLlib's definition; a group is a tree of a forest, or all trees of a boosted model.
    """
    total = np.zeros(features)
    for trees in groups:
        own = np.zeros(features)
        for tree in trees:
            inner = tree.feature >= 0
            own += np.bincount(tree.feature[inner], weights=tree.gain[inner] * tree.rows[inner], minlength=features)
        total += own / own.sum() if own.sum() > 0 else own
    return total / total.sum() if total.sum() > 0 else total


def features_wanted(strategy: str, features: int) -> int:
    """How many features a node looks at, by MLlib's names: auto, sqrt, log2, onethird, all, a share or a number.

    Examples
    --------
    >>> features_wanted("0.3", 42), features_wanted("sqrt", 42), features_wanted("5", 42)
    (13, 7, 5)
    """
    named = {
        "auto": math.ceil(math.sqrt(features)), "sqrt": math.ceil(math.sqrt(features)), "all": features,
        "log2": max(1, math.ceil(math.log2(features))), "onethird": math.ceil(features / 3),
    }
    if strategy in named:
        return named[strategy]
    if strategy.isdigit() and int(strategy) > 0:
        return min(int(strategy), features)
    try:
        share = float(strategy)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"features_per_node is {strategy!r}: {', '.join(named)}, a share up to 1 or a number")
    return math.ceil(share * features)


def grow(binned: Binned, shape: Shape, seed: int, wanted: Iterable[int]) -> list[Tree]:
    """Grow some trees of a forest; which others there are changes nothing.

    Parameters
    ----------
    wanted : iterable of int
        Indices of the trees.
    """
    n_bins = np.array([e.size + 1 for e in binned.edges], np.int64)
    per_node = features_wanted(shape.features_per_node, len(binned.edges))
    room, grown = _OWN.memory.room(binned.labels.size), []
    for index in wanted:
        bag, drawn = seeds_of(seed, index)
        n, total, most = bootstrap_rows(binned.labels, binned.weights, binned.marks, bag, *room[:2])
        if total > MOST_WEIGHT or most >= 2**24:
            raise ContractError("random_forest: more than 2**31 - 1 rows, or one row more than 2**24 times")
        feature, cut, right, found, gain = grow_tree(
            binned.columns, n_bins, first_of(room, n), binned.classes, shape.depth, per_node, shape.rows_per_leaf, drawn,
            np.uint64(1),
        )
        threshold = thresholds_of(binned.edges, feature, cut)
        grown.append(Tree(feature, threshold, right, found.astype(np.int64), gain))
    return grown


def grow_threaded(binned: Binned, shape: Shape, seed: int, threads: int) -> Forest:
    """A whole forest in this process."""
    with ThreadPoolExecutor(threads) as pool:
        grown = pool.map(lambda index: grow(binned, shape, seed, [index])[0], range(shape.trees))
        return Forest(tuple(grown), len(binned.edges), binned.classes)


def seeds_of(seed: int, index: int) -> tuple[np.uint64, np.uint64]:
    """Of a tree's bootstrap, and of the features of its nodes."""
    return tree_seed(seed, index, _SEEN), tree_seed(seed, index, _DRAWN)


def tree_seed(seed: int, index: int, purpose: int) -> np.uint64:
    """The seed of one tree for one purpose, from these numbers and nothing else."""
    hashed = np.uint64(seed % 2**64)
    for part in (index, purpose):
        hashed = np.uint64(mix(hashed)) ^ np.uint64(part)
    return hashed


def thresholds_of(edges: Sequence[np.ndarray], feature: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The value that each node compares with; 0 at leaves."""
    threshold = np.zeros(feature.size)
    starts = np.concatenate([[0], np.cumsum([e.size for e in edges])])[:-1]
    inner = feature >= 0
    threshold[inner] = np.concatenate(edges)[starts[feature[inner]] + cut[inner]]
    return threshold


def cuts_of(edges: Sequence[np.ndarray], feature: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """The last bin of the left side of each node; -1 at leaves: the inverse of `thresholds_of`."""
    cut = np.full(feature.size, -1, np.int32)
    for f in np.unique(feature[feature >= 0]):
        here = feature == f
        cut[here] = np.searchsorted(edges[f], threshold[here])
    return cut
