"""A model's probabilities counted, once, in Spark: how sure it was, by split and true class.

Each task counts its rows into arrays of a fixed size, which leave it packed, in tens of kilobytes; the driver adds them.
Curves, thresholds, temperatures and costs are arithmetic on the sums. All sums are of whole numbers, so they do not depend
on how rows are spread.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, SPLITS, benign_labels, class_names
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.transform import require_schema

# Rows that no model has learnt from, as places in the arrays.
UNSEEN = tuple(split for split in SPLITS if split != "train")
# Bins of log-odds, 64 a unit from -16 to 16: 1.6 % of a probability wide at either end, which lies at 1e-7.
_STEPS, _REACH = 64, 16
BINS = 2 * _REACH * _STEPS + 2
# The least log-odds of each bin, and past the last one: a threshold at an edge takes in all bins from there on.
EDGES = np.concatenate([[-np.inf], np.arange(-_REACH * _STEPS, _REACH * _STEPS + 1) / _STEPS, [np.inf]])
TEMPERATURES = 2.0 ** (np.arange(-24, 25) / 8)
UNCHANGED = int(np.flatnonzero(TEMPERATURES == 1)[0])
RELIABILITY_EDGES = np.linspace(0, 1, 16)
# Losses and confidences are added in units of 2^-24, because a sum of doubles depends on its order.
UNIT = 2.0**-24
# A row whose class got a probability of 0 costs what scikit-learn's log_loss makes it cost.
_MOST_LOSS = -np.log(np.finfo(np.float64).eps)
_SUM_TOLERANCE = 1e-5
_NEEDED = {"split": T.StringType(), "attack_id": T.IntegerType(), "prediction": T.IntegerType(),
           "probability": T.ArrayType(T.DoubleType())}


@dataclass(frozen=True)
class ScoreCounts:
    """Rows by what a model said of them; the first axis of each array is the split, in the order of `UNSEEN`.

    Attributes
    ----------
    alarm : ndarray of int64, shape (3, attacks, kinds, BINS)
        Rows by true attack, by the kind of the likeliest attack (see `kinds_of`) and by the alarm score's bin.
    rest : ndarray of int64, shape (3, classes, 2, BINS)
        For each class of the task, rows of other classes and its own by the bin of its probability.
    decided : ndarray of int64, shape (3, attacks, classes)
        Rows by true attack and prediction.
    loss : ndarray of int64, shape (3, temperatures)
        Negative log-likelihood at each of `TEMPERATURES`, nats, in units of `UNIT`.
    reliability : ndarray of int64, shape (3, temperatures, 15, 3)
        By bin of the likeliest class's probability: rows, rows predicted right, and the sum of that probability in units
        of `UNIT`.
    """

    alarm: np.ndarray
    rest: np.ndarray
    decided: np.ndarray
    loss: np.ndarray
    reliability: np.ndarray

    @classmethod
    def empty(cls, task: str) -> ScoreCounts:
        """No rows of a task."""
        splits, attacks, classes = len(UNSEEN), len(ATTACKS), len(class_names(task))
        shapes = (
            (splits, attacks, int(kinds_of(task).max()) + 1, BINS), (splits, classes, 2, BINS), (splits, attacks, classes),
            (splits, len(TEMPERATURES)), (splits, len(TEMPERATURES), len(RELIABILITY_EDGES) - 1, 3),
        )
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))

    def as_bytes(self) -> bytes:
        """Packed: most bins of a task's rows are empty."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        return packed.getvalue()

    @classmethod
    def from_bytes(cls, packed: bytes) -> ScoreCounts:
        """The inverse of `as_bytes`."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return cls(**arrays)


def kinds_of(task: str) -> np.ndarray:
    """The kind of attack that each class of a task stands for.

    Returns
    -------
    ndarray of int64, shape (classes,)
        Place in `CATEGORIES`; for the binary task, which names none, 0 for benign and 1 for an attack.

    Examples
    --------
    >>> kinds_of("binary").tolist(), kinds_of("category").tolist()
    ([0, 1], [0, 1, 2, 3, 4, 5])
    """
    if task == "attack":
        return np.array([CATEGORIES.index(a.category) for a in ATTACKS])
    return np.arange(len(class_names(task)))


def count_scores(scored: DataFrame, problem: Problem, *, weight: str | None = None) -> ScoreCounts:
    """Count what a model says of rows that it has not learnt from, in one pass.

    Parameters
    ----------
    scored : DataFrame
        Rows of `gold.features` with the model's `prediction` and `probability`; those of the train split are left out.
    problem : Problem
        What the model was asked to learn.
    weight : str, optional
        A column of int that says for how many equal rows each row stands; without it every row stands for itself.

    Returns
    -------
    ScoreCounts
        The same however rows are ordered and spread.

    Raises
    ------
    ContractError
        If a column is missing or has another type; in the task, if a probability is missing or does not lie between 0 and
        1, or a row's do not sum to 1.
    """
    needed = _NEEDED | {problem.label_column: T.IntegerType()} | ({weight: T.IntegerType()} if weight else {})
    require_schema(scored, T.StructType([T.StructField(n, kind) for n, kind in needed.items()]), "into count_scores")
    rows = scored.filter(F.col("split").isin(*UNSEEN)).select(
        _place_of("split"), F.col("attack_id").alias("attack"), F.col(problem.label_column).alias("label"), "prediction",
        "probability", (F.col(weight) if weight else F.lit(1)).cast("long").alias("weight"),
    )
    counts = ScoreCounts.empty(problem.task)
    for row in rows.mapInArrow(_counting(problem.task), "counts binary").toArrow().column("counts"):
        counts += ScoreCounts.from_bytes(row.as_py())
    return counts


def _place_of(split: str) -> Column:
    return (F.array_position(F.array(*[F.lit(s) for s in UNSEEN]), F.col(split)) - 1).cast("int").alias("split")


def _counting(task: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine, classes = ScoreCounts.empty(task), len(class_names(task))
        for batch in batches:
            names = ("split", "attack", "label", "prediction", "weight")
            columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
            add_rows(mine, task, probability_matrix(batch.column("probability"), classes), *columns)
        if mine.decided.any():
            yield pa.RecordBatch.from_pydict({"counts": pa.array([mine.as_bytes()], pa.binary())})

    return count


def probability_matrix(column: pa.Array, classes: int) -> np.ndarray:
    """A column of arrays as an array.

    Returns
    -------
    ndarray of float64, shape (classes, rows)

    Raises
    ------
    ContractError
        If a row's probabilities are not as many as there are classes, not all between 0 and 1, or do not sum to 1.
    """
    values = column.flatten().to_numpy(zero_copy_only=False)
    if values.size != len(column) * classes or column.null_count:
        raise ContractError(f"{len(column)} rows have {values.size} probabilities; wanted {classes} a row")
    rows = np.ascontiguousarray(values.reshape(-1, classes).T)
    # Written so that a missing value, which compares as false, is refused too.
    if not ((rows >= 0).all() and (np.abs(rows.sum(axis=0) - 1) <= _SUM_TOLERANCE).all()):
        raise ContractError("a row's probabilities do not lie between 0 and 1, or do not sum to 1")
    return rows


def add_rows(
    counts: ScoreCounts, task: str, probability: np.ndarray, split: np.ndarray, attack: np.ndarray, label: np.ndarray,
    prediction: np.ndarray, weight: np.ndarray,
) -> None:
    """Count rows, in place.

    Parameters
    ----------
    probability : ndarray of float64, shape (classes, rows)
        One row or more.
    split, attack, label, prediction : ndarray of int, shape (rows,)
        Place in `UNSEEN`, true attack, true class of the task, the model's answer.
    weight : ndarray of int64, shape (rows,)
        Equal rows that each stands for.
    """
    benign = np.isin(np.arange(len(probability)), benign_labels(task))
    attacks = np.flatnonzero(~benign)
    kind = kinds_of(task)[attacks[probability[attacks].argmax(axis=0)]]
    alarm = bins_of(probability[attacks].sum(axis=0), probability[benign].sum(axis=0))
    add_at(counts.alarm, (split, attack, kind, alarm), weight)
    add_at(counts.decided, (split, attack, prediction), weight)
    total = probability.sum(axis=0)
    for c, own in enumerate(probability):
        add_at(counts.rest, (split, c, label == c, bins_of(own, total - own)), weight)
    _add_temperatures(counts, probability, split, label, label == prediction, weight)


def bins_of(part: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The bin of the log-odds of each `part` against the `other`; both are not negative, and not both 0."""
    with np.errstate(divide="ignore"):
        return bins_of_log_odds(np.log(part) - np.log(np.maximum(other, 0.0)))


def bins_of_log_odds(odds: np.ndarray) -> np.ndarray:
    """The bin of each of some log-odds, which may be infinite."""
    return (np.clip(np.floor(odds * _STEPS), -_REACH * _STEPS - 1, _REACH * _STEPS) + _REACH * _STEPS + 1).astype(np.int64)


def _add_temperatures(
    counts: ScoreCounts, probability: np.ndarray, split: np.ndarray, label: np.ndarray, right: np.ndarray, weight: np.ndarray
) -> None:
    # At temperature T a class has p^(1/T) / sum of p^(1/T). Below the likeliest one, so that nothing overflows.
    with np.errstate(divide="ignore"):
        below = np.log(probability) - np.log(probability.max(axis=0))
    true = below[label, np.arange(below.shape[1])]
    for t, temperature in enumerate(TEMPERATURES):
        sums = np.exp(below / temperature).sum(axis=0)
        loss, confidence = np.minimum(np.log(sums) - true / temperature, _MOST_LOSS), 1 / sums
        place = np.searchsorted(RELIABILITY_EDGES[1:-1], confidence)
        add_at(counts.loss, (split, t), weight * _units(loss))
        for i, amount in enumerate((weight, weight * right, weight * _units(confidence))):
            add_at(counts.reliability, (split, t, place, i), amount)


def _units(values: np.ndarray) -> np.ndarray:
    return np.rint(values / UNIT).astype(np.int64)


def add_at(into: np.ndarray, places: tuple[np.ndarray | int, ...], amounts: np.ndarray | int) -> None:
    """Add to the places of a contiguous array, one index an axis; a place that comes twice gets both amounts."""
    flat: Any = 0
    for place, length in zip(places, into.shape, strict=True):
        flat = flat * length + place
    np.add.at(into.reshape(-1), flat, amounts)
