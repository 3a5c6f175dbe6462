"""Rows scored again with one feature shuffled, for each feature, and counted: what permutation importance is arithmetic on.

Breiman, "Random forests", Machine Learning 45, 2001, https://doi.org/10.1023/A:1010933404324. The rows are read once. Each task
holds its own as one matrix, shuffles a column of it, scores it, counts, and puts the column back; what leaves a task is counts.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.models.histogram.score import Scorer, broadcast_once, matrix

# A feature is shuffled among the rows of a task: enough of them for its values to be those of all rows.
ROWS_PER_TASK = 8_192


def count_permuted(rows: DataFrame, problem: Problem, scorer: Scorer, *, repeats: int, seed: int) -> np.ndarray:
    """Confusion matrices of rows as they are, and with each feature shuffled.

    Parameters
    ----------
    rows : DataFrame
        Rows of `gold.features` that the model has not learnt from, with its features.
    repeats : int
        How often each feature is shuffled.
    seed : int
        Of the shuffles.

    Returns
    -------
    ndarray of int64, shape (repeats, features + 1, classes, classes)
        Row is the true class, column the predicted one; a row counts as often as it has copies. The last of the features is none:
        nothing is shuffled. The same for the same rows, however they are spread: they are spread anew, by a hash of their `flow_id`
        over a number of tasks that depends on how many there are, and sorted by it.

    Raises
    ------
    ContractError
        If there are no rows; in the task, if a feature is missing.
    """
    copies = F.col(problem.copies_column)
    # Read once, for their number and for the pass.
    held = rows.filter(copies > 0).select(
        "flow_id", F.col(problem.label_column).alias("label"), copies.alias("copies"), *problem.features
    ).persist()
    try:
        number = held.count()
        if not number:
            raise ContractError("there are no validation rows to shuffle features of")
        spread = held.repartition(max(1, round(number / ROWS_PER_TASK)), "flow_id").sortWithinPartitions("flow_id")
        shared = broadcast_once(rows.sparkSession.sparkContext, scorer)
        told = spread.mapInArrow(_counting(shared, problem, repeats, seed), "counts binary").toArrow().column("counts")
        return sum((_unpacked(row.as_py()) for row in told), np.zeros((), np.int64))
    finally:
        held.unpersist()


def confusion_of_shuffled(
    scorer: Scorer, problem: Problem, rows: np.ndarray, truth: np.ndarray, weights: np.ndarray, *, repeats: int,
    seed: tuple[int, ...],
) -> np.ndarray:
    """What `count_permuted` counts, of the rows of one task.

    Parameters
    ----------
    rows : ndarray of float64, shape (rows, features)
        As they were when it returns.
    truth, weights : ndarray of int64, shape (rows,)
        True class, and how often a row counts.
    repeats : int
    seed : tuple of int
        A shuffle is drawn from it, the number of the repeat and the place of the feature.
    """
    counts = np.zeros((repeats, rows.shape[1] + 1, problem.n_classes, problem.n_classes), np.int64)
    labels = np.array(problem.labels)

    def confusion() -> np.ndarray:
        matrix = np.zeros(counts.shape[2:], np.int64)
        np.add.at(matrix, (truth, labels[scorer.probabilities(rows)[1]]), weights)
        return matrix

    counts[:, -1] = confusion()
    for place in range(rows.shape[1]):
        kept = rows[:, place].copy()
        for repeat in range(repeats):
            rows[:, place] = np.random.default_rng((*seed, repeat, place)).permutation(kept)
            counts[repeat, place] = confusion()
        rows[:, place] = kept
    return counts


def _counting(
    shared: Any, problem: Problem, repeats: int, seed: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if not held:
            return
        rows = np.concatenate([matrix(batch, problem.features) for batch in held])
        truth, weights = (
            np.concatenate([b.column(n).to_numpy(zero_copy_only=False) for b in held]).astype(np.int64) for n in ("label", "copies")
        )
        task = TaskContext.get().partitionId()  # type: ignore[union-attr]
        counts = confusion_of_shuffled(shared.value, problem, rows, truth, weights, repeats=repeats, seed=(seed, task))
        yield pa.RecordBatch.from_pydict({"counts": pa.array([_packed(counts)], pa.binary())})

    return count


def _packed(counts: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, counts=counts)
    return packed.getvalue()


def _unpacked(packed: bytes) -> np.ndarray:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return arrays["counts"]
