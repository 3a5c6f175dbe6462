"""Verdicts of trees inside Spark's Python workers: the same labels and probabilities as MLlib's own `transform`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from pyspark import SparkContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.compiled import compiled
from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.boost import Boosting
from iomt_ids.models.histogram.descend import find_leaves, pack_nodes
from iomt_ids.models.histogram.forest import Forest, Splits
from iomt_ids.models.vectors import VALUES, values_of

# Rows that all trees are added up for: their sums stay in the cache.
_ROWS = 512
# Scorers that have been broadcast, by which context: as long as somebody holds the scorer.
_BROADCAST: WeakKeyDictionary[Scorer, tuple[SparkContext, Any]] = WeakKeyDictionary()


class Scorer(Protocol):
    """Trees laid out for scoring; pickled once for all tasks, and equal to itself alone."""

    def probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each class, and the position of the likeliest.

        Parameters
        ----------
        rows : ndarray of float64, shape (rows, features)

        Returns
        -------
        probabilities : ndarray of float64, shape (rows, classes)
        likeliest : ndarray of int64, shape (rows,)
            The first if several are; by sums of trees, as MLlib does: division may round two of them into a tie.
        """


class AdditiveScorer(Scorer, Protocol):
    """One whose answers are sums over its trees."""

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """What trees add up to for each class: a forest's probability, a boosted model's margin.

        Parameters
        ----------
        rows : ndarray of float64, shape (rows, features)

        Returns
        -------
        ndarray of float64, shape (rows, classes)
        """


class FlatTrees:
    """All trees in one, over bytes: a value's byte is how many thresholds of its feature, in all trees, lie below it.

    A comparison with a threshold is then one of small whole numbers, dozens at a time, with the same outcome.

    Attributes
    ----------
    cuts : list of ndarray of float64
        Thresholds of each feature, ascending.
    nodes : ndarray of int32, shape (nodes, 4)
        See `descend.pack_nodes`.
    starts : ndarray of int64, shape (trees + 1,)
        Where each tree's nodes begin.
    leaves : ndarray of int32, shape (nodes,)
        Row of `values` of a leaf.
    values : ndarray of float64, shape (values, width)
        Of leaves, each once: most leaves of a forest have one class.
    first : ndarray of int64, shape (trees,)
        The first of the sums that a tree adds its values to.
    """

    def __init__(self, trees: Sequence[Splits], values: Sequence[np.ndarray], first: Sequence[int], features: int) -> None:
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        self.cuts = [np.unique(threshold[feature == f]) for f in range(features)]
        sizes = [tree.feature.size for tree in trees]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.nodes = np.concatenate([pack_nodes(t.feature, self._places(t), t.right) for t in trees])
        self.leaves, self.values = _distinct(feature < 0, np.concatenate(values))
        self.first = np.array(first, np.int64)

    def sums(self, rows: np.ndarray, outputs: int) -> np.ndarray:
        """Values of each row's leaves, added tree by tree."""
        columns, sums = bin_rows(np.asarray(rows, np.float64), self.cuts), np.zeros((len(rows), outputs))
        _add_trees(columns, self.nodes, self.starts, self.leaves, self.values, self.first, sums)
        return sums

    def _places(self, tree: Splits) -> np.ndarray:
        places = np.zeros(tree.feature.size, np.int32)
        for f in np.unique(tree.feature[tree.feature >= 0]):
            own = tree.feature == f
            places[own] = np.searchsorted(self.cuts[f], tree.threshold[own])
        return places


class ForestScorer:
    """A forest's class shares, summing to 1 in every tree; see `Scorer`."""

    def __init__(self, forest: Forest) -> None:
        shares = [tree.stats / tree.stats.sum(axis=1, keepdims=True) for tree in forest.trees]
        self.trees = FlatTrees(forest.trees, shares, [0] * len(shares), forest.features)
        self.classes = forest.classes

    def probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`."""
        votes = self.trees.sums(rows, self.classes)
        return votes / _row_sums(votes)[:, None], votes.argmax(axis=1)

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """See `AdditiveScorer`."""
        return self.probabilities(rows)[0]


class BoostingScorer:
    """Boosted models, one a class or one for two classes; see `Scorer`.

    A model's sum of trees is MLlib's `rawPrediction`, half the logarithm of the odds of its class. With one a class, a
    class's probability is its odds divided by the odds of all.
    """

    def __init__(self, boosting: Boosting) -> None:
        trees: list[Splits] = []
        values: list[np.ndarray] = []
        first: list[int] = []
        for index, (own, weights) in enumerate(zip(boosting.trees, boosting.weights, strict=True)):
            trees += own
            values += [weight * tree.prediction[:, None] for tree, weight in zip(own, weights, strict=True)]
            first += [index] * len(own)
        self.trees = FlatTrees(trees, values, first, boosting.features)
        self.models = len(boosting.trees)

    def probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`."""
        halves = self.trees.sums(rows, self.models)
        if self.models == 1:
            negative = 1.0 / (1.0 + np.exp(2.0 * halves[:, 0]))
            return np.column_stack([negative, 1.0 - negative]), (halves[:, 0] > 0).astype(np.int64)
        odds = np.exp(2.0 * (halves - halves.max(axis=1, keepdims=True)))
        return odds / odds.sum(axis=1, keepdims=True), halves.argmax(axis=1)

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """See `AdditiveScorer`; MLlib's `rawPrediction`: of two classes, one has what the other lacks."""
        halves = self.trees.sums(rows, self.models)
        return np.hstack([-halves, halves]) if self.models == 1 else halves


def _distinct(is_leaf: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which row of the second array a leaf has; rows in the order of the leaves that first have them, so a tree's lie together."""
    whole = np.ascontiguousarray(values[is_leaf]).view(np.dtype((np.void, values.itemsize * values.shape[1]))).ravel()
    _, firsts, which = np.unique(whole, return_index=True, return_inverse=True)
    places = np.empty(firsts.size, np.int32)
    places[np.argsort(firsts)] = np.arange(firsts.size, dtype=np.int32)
    leaves = np.zeros(is_leaf.size, np.int32)
    leaves[is_leaf] = places[which.ravel()]
    return leaves, values[is_leaf][np.sort(firsts)]


@compiled
def _add_trees(
    columns: np.ndarray, nodes: np.ndarray, starts: np.ndarray, leaves: np.ndarray, values: np.ndarray, first: np.ndarray,
    sums: np.ndarray,
) -> None:
    # Trees outside, rows of a block inside: a tree stays in the cache. Each row still adds its trees in MLlib's order.
    at = np.empty(_ROWS, np.int32)
    for start in range(0, columns.shape[1], _ROWS):
        block = columns[:, start : start + _ROWS].copy()
        for t in range(first.size):
            find_leaves(block, nodes[starts[t] : starts[t + 1]], at[: block.shape[1]])
            own, into = leaves[starts[t] : starts[t + 1]], sums[start : start + _ROWS, first[t] :]
            for i in range(np.uint32(block.shape[1])):
                leaf = np.uint32(own[np.uint32(at[i])])
                for c in range(np.uint32(values.shape[1])):
                    into[i, c] += values[leaf, c]


@compiled
def _row_sums(votes: np.ndarray) -> Any:
    # One after the other, as MLlib adds them; numpy's pairwise sum may differ in the last bit.
    sums = np.zeros(votes.shape[0])
    for i in range(votes.shape[0]):
        for c in range(votes.shape[1]):
            sums[i] += votes[i, c]
    return sums


def add_verdicts(flows: DataFrame, problem: Problem, scorer: Scorer, *, with_features: bool = True) -> DataFrame:
    """Add `prediction` and `probability`, and leave features out if they are not wanted; a scorer is broadcast once.

    Raises
    ------
    ContractError
        In the task, if a feature is missing or not a number: a missing value never becomes 0.
    """
    added = [T.StructField("probability", T.ArrayType(T.DoubleType())), T.StructField("prediction", T.IntegerType())]
    unwanted = ("probability", "prediction", *(() if with_features else problem.features))
    kept = [f for f in flows.schema.fields if f.name not in unwanted]
    # To Python and back, features are one column.
    packed = [f.name for f in kept if f.name in problem.features and isinstance(f.dataType, T.DoubleType)]
    told = [f for f in kept if f.name not in packed]
    moved = flows.select(*[f.name for f in told], values_of(problem.features))
    if packed:  # what nobody asks for does not come back
        told.append(T.StructField(VALUES, T.ArrayType(T.DoubleType())))
    shared = broadcast_once(flows.sparkSession.sparkContext, scorer)
    scored = moved.mapInArrow(_scoring(shared, problem, [f.name for f in told]), T.StructType([*told, *added]))
    if not packed:
        return scored
    values = {name: F.col(VALUES)[place].alias(name) for place, name in enumerate(problem.features) if name in packed}
    return scored.select(*[values.get(f.name, F.col(f.name)) for f in kept], *[f.name for f in added])


def broadcast_once(context: SparkContext, scorer: Scorer) -> Any:
    """The scorer as tasks get it, whoever asks again: a second copy would stay with every worker as long as the session does."""
    of, shared = _BROADCAST.get(scorer, (None, None))
    if of is not context:
        shared = context.broadcast(scorer)
        _BROADCAST[scorer] = context, shared
    return shared


def _scoring(
    shared: Any, problem: Problem, told: Sequence[str]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    features, labels, n_classes = list(problem.features), np.array(problem.labels), problem.n_classes

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            spread = np.zeros((batch.num_rows, n_classes))
            known, likeliest = shared.value.probabilities(matrix_of(batch.column(VALUES), features))
            spread[:, labels] = known
            offsets = pa.array(np.arange(batch.num_rows + 1, dtype=np.int32) * n_classes)
            verdicts = {
                "probability": pa.ListArray.from_arrays(offsets, pa.array(spread.ravel())),
                "prediction": pa.array(labels[likeliest].astype(np.int32)),
            }
            yield pa.RecordBatch.from_pydict({name: batch.column(name) for name in told} | verdicts)

    return score


def matrix(batch: pa.RecordBatch | pa.Table, features: Sequence[str]) -> np.ndarray:
    """Columns of a batch or a table as rows of doubles, which lie column by column as they did.

    Raises
    ------
    ContractError
        Naming every feature with missing values.
    """
    rows = np.empty((batch.num_rows, len(features)), order="F")
    for place, name in enumerate(features):
        rows[:, place] = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return _complete(rows, features)


def matrix_of(column: pa.ListArray, features: Sequence[str]) -> np.ndarray:
    """The same of a column whose every entry is a row, see `vectors.values_of`."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    return _complete(values.reshape(-1, len(features)), features)


def _complete(rows: np.ndarray, features: Sequence[str]) -> np.ndarray:
    if np.isnan(rows.sum()):  # of infinities too
        missing = {name: n for name, n in zip(features, np.isnan(rows).sum(axis=0).tolist(), strict=True) if n}
        if missing:
            raise ContractError("features are missing: " + ", ".join(f"{name} ({n} rows)" for name, n in missing.items()))
    return rows
