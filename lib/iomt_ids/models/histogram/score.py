"""A forest's verdicts inside Spark's Python workers: the same labels and probabilities as MLlib's own `transform`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.compiled import compiled
from iomt_ids.models.histogram.forest import Forest

_BLOCK = 256
# All trees in one. The left child is the next node, the right one `skip` further. Nothing is at or below a leaf's
# threshold, nan, and its skip of -1 leads back to the leaf: rows wait there until the last one has arrived.
_NODE = np.dtype([("threshold", "f8"), ("feature", "i4"), ("skip", "i4")])


class Scorer:
    """A forest laid out for scoring.

    Attributes
    ----------
    nodes : ndarray of records
    roots : ndarray of int64, shape (trees,)
    leaves : ndarray of int32, shape (nodes,)
        Row of `shares` of a leaf.
    shares : ndarray of float64, shape (leaves, classes)
        Class shares of every leaf, summing to 1.
    """

    def __init__(self, forest: Forest) -> None:
        sizes = [tree.feature.size for tree in forest.trees]
        self.roots = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        self.nodes, self.leaves = np.zeros(sum(sizes), _NODE), np.zeros(sum(sizes), np.int32)
        shares: list[np.ndarray] = []
        for root, tree in zip(self.roots, forest.trees, strict=True):
            own, inner = self.nodes[root : root + tree.feature.size], tree.feature >= 0
            own["feature"] = np.where(inner, tree.feature, 0)
            own["threshold"] = np.where(inner, tree.threshold, np.nan)
            own["skip"] = np.where(inner, tree.right - np.arange(tree.feature.size) - 1, -1)
            self.leaves[root : root + own.size][~inner] = np.arange(np.count_nonzero(~inner)) + sum(map(len, shares))
            counts = tree.counts[~inner].astype(np.float64)
            shares.append(counts / counts.sum(axis=1, keepdims=True))
        self.shares = np.concatenate(shares)

    def probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each class, and the position of the likeliest.

        Parameters
        ----------
        rows : ndarray of float64, shape (rows, features)

        Returns
        -------
        ndarray of float64, shape (rows, classes)
        ndarray of int64, shape (rows,)
            Taken before dividing by the sum of votes, as MLlib does: division may round two votes into a tie.
        """
        votes = np.zeros((len(rows), self.shares.shape[1]))
        _vote(self.nodes, self.roots, self.leaves, self.shares, np.ascontiguousarray(rows, np.float64), votes)
        return votes / _row_sums(votes)[:, None], votes.argmax(axis=1)


@compiled
def _vote(
    nodes: np.ndarray, roots: np.ndarray, leaves: np.ndarray, shares: np.ndarray, rows: np.ndarray, votes: np.ndarray
) -> None:
    # Trees outside, rows of a block inside: a tree stays in the cache. All rows of a block step down together, without
    # a branch that depends on data. Each row still adds its trees in MLlib's order.
    at = np.empty(_BLOCK, np.int64)
    for start in range(0, rows.shape[0], _BLOCK):
        block = rows[start : start + _BLOCK]
        for root in roots:
            at[:] = root
            moved = True
            while moved:
                moved = _step(nodes, block, at)
            for i in range(block.shape[0]):
                for c in range(votes.shape[1]):
                    votes[start + i, c] += shares[leaves[at[i]], c]


@compiled
def _step(nodes: np.ndarray, block: np.ndarray, at: np.ndarray) -> bool:
    moved = False
    for i in range(block.shape[0]):
        node = nodes[at[i]]
        goes_right = np.int64(not block[i, node.feature] <= node.threshold)
        step = 1 + goes_right * np.int64(node.skip)
        at[i] += step
        moved |= step != 0
    return moved


@compiled
def _row_sums(votes: np.ndarray) -> Any:
    # One after the other, as MLlib adds them; numpy's pairwise sum may differ in the last bit.
    sums = np.zeros(votes.shape[0])
    for i in range(votes.shape[0]):
        for c in range(votes.shape[1]):
            sums[i] += votes[i, c]
    return sums


def add_verdicts(flows: DataFrame, problem: Problem, scorer: Scorer) -> DataFrame:
    """Add `prediction` and `probability`; the scorer is broadcast once.

    Raises
    ------
    ContractError
        In the task, if a feature is missing or not a number: a missing value never becomes 0.
    """
    added = [T.StructField("probability", T.ArrayType(T.DoubleType())), T.StructField("prediction", T.IntegerType())]
    schema = T.StructType([f for f in flows.schema.fields if f.name not in ("probability", "prediction")] + added)
    shared = flows.sparkSession.sparkContext.broadcast(scorer)
    return flows.mapInArrow(_scoring(shared, problem), schema)


def _scoring(shared: Any, problem: Problem) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    features, labels, n_classes = list(problem.features), np.array(problem.labels), problem.n_classes

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            spread = np.zeros((batch.num_rows, n_classes))
            known, likeliest = shared.value.probabilities(matrix(batch, features))
            spread[:, labels] = known
            offsets = pa.array(np.arange(batch.num_rows + 1, dtype=np.int32) * n_classes)
            verdicts = {
                "probability": pa.ListArray.from_arrays(offsets, pa.array(spread.ravel())),
                "prediction": pa.array(labels[likeliest].astype(np.int32)),
            }
            kept = {name: batch.column(name) for name in batch.schema.names if name not in verdicts}
            yield pa.RecordBatch.from_pydict(kept | verdicts)

    return score


def matrix(batch: pa.RecordBatch, features: Sequence[str]) -> np.ndarray:
    """Columns of a batch as rows of doubles.

    Raises
    ------
    ContractError
        Naming every feature with missing values.
    """
    columns = [batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in features]
    missing = {name: int(np.isnan(column).sum()) for name, column in zip(features, columns, strict=True)}
    if any(missing.values()):
        listed = ", ".join(f"{name} ({n} rows)" for name, n in missing.items() if n)
        raise ContractError(f"features are missing: {listed}")
    rows = np.empty((batch.num_rows, len(columns)))
    for place, column in enumerate(columns):
        rows[:, place] = column
    return rows
