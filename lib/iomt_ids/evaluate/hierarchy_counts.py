"""How sure a model is at each level of binary, category, attack, counted once in Spark.

One detector's probabilities are summed up the tree of classes, so the levels agree by construction: whatever detector it is, a
category has the probability of its attacks together (decision 16). The answer at a level is its likeliest class, and is as
sure as that class is likely. Counts are arrays of whole numbers of a fixed size, of which a task sends the places that are not
empty; they do not depend on how rows are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.attacks import ATTACKS, class_names
from iomt_ids.contract.hierarchy import labels_above, levels_of
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.transform import require_schema
from iomt_ids.evaluate.score_counts import BINS, UNSEEN, add_at, bins_of, bins_of_log_odds, probability_matrix

OWN, DEEPER = 0, 1
TRUE, ANY = 0, 1
_NEEDED = {"split": T.StringType(), "attack_id": T.IntegerType(), "probability": T.ArrayType(T.DoubleType())}


@dataclass(frozen=True)
class HierarchyCounts:
    """Rows by how sure a model was of them; the first axes are the split, in the order of `UNSEEN`, and the true attack.

    Attributes
    ----------
    answers : ndarray of int64, shape (3, attacks, levels, 2, levels + 1, BINS)
        Rows by level, by how many levels of that level's answer and its ancestors are right, and by the bin of how sure the
        model is: `OWN` at this level, `DEEPER` at the next. A level's answer is right if all of its levels are.
    sets : ndarray of int64, shape (3, attacks, 2, BINS)
        At the deepest level, by the bin of a class's probability: rows by that of their own class (`TRUE`), and pairs of a row
        and a class (`ANY`).
    """

    answers: np.ndarray
    sets: np.ndarray

    @classmethod
    def empty(cls, task: str) -> HierarchyCounts:
        """No rows of a task."""
        depth = len(levels_of(task))
        rows = len(UNSEEN), len(ATTACKS)
        return cls(np.zeros((*rows, depth, 2, depth + 1, BINS), np.int64), np.zeros((*rows, 2, BINS), np.int64))

    @property
    def sure(self) -> np.ndarray:
        """Rows by how sure the model is at each level, of shape (3, attacks, levels, BINS)."""
        return self.answers[:, :, :, OWN].sum(axis=3)

    def __add__(self, other: HierarchyCounts) -> HierarchyCounts:
        return HierarchyCounts(self.answers + other.answers, self.sets + other.sets)


@dataclass(frozen=True)
class Level:
    """What a model says at one level.

    Attributes
    ----------
    probability : ndarray of float64, shape (classes, rows)
        The sums of the probabilities of the classes below.
    answer : ndarray of int64, shape (rows,)
        The likeliest class.
    sure : ndarray of float64, shape (rows,)
        Log-odds of the answer against all others.
    """

    probability: np.ndarray
    answer: np.ndarray
    sure: np.ndarray


def sum_up(probability: np.ndarray, task: str) -> list[Level]:
    """Every level of what a model says, coarsest first.

    Parameters
    ----------
    probability : ndarray of float64, shape (classes, rows)
        Of the classes of the task.

    Notes
    -----
    Classes are added one after the other, so that a row's sums do not depend on the rows around it, and no class is
    likelier than the one above it: an answer is never surer than that of a coarser level.

    Examples
    --------
    >>> coarse, fine = sum_up(np.array([[0.3], [0.1], [0.2], [0.4], [0.0], [0.0]]), "category")
    >>> coarse.probability.ravel().round(9).tolist(), int(coarse.answer[0]), int(fine.answer[0])
    ([0.3, 0.7], 1, 3)
    """
    total = np.zeros(probability.shape[1])
    for own in probability:
        total += own
    levels = []
    for level in levels_of(task):
        sums = np.zeros((len(class_names(level)), probability.shape[1]))
        for label, own in zip(labels_above(task, level), probability, strict=True):
            sums[label] += own
        most = sums.max(axis=0)
        with np.errstate(divide="ignore"):
            sure = np.log(most) - np.log(np.maximum(total - most, 0.0))
        levels.append(Level(sums, sums.argmax(axis=0), sure))
    return levels


def count_hierarchy(scored: DataFrame, problem: Problem) -> HierarchyCounts:
    """Count how sure a model is of rows that it has not learnt from, in one pass.

    Parameters
    ----------
    scored : DataFrame
        Rows of `gold.features` with the model's `probability`, each counted once; those of the train split are left out.
        Given one row of each vector, copies lend no certainty that they do not have.

    Returns
    -------
    HierarchyCounts
        The same however rows are ordered and spread.

    Raises
    ------
    ContractError
        If a column is missing or has another type; in the task, if a row's probabilities are none.
    """
    require_schema(scored, T.StructType([T.StructField(n, kind) for n, kind in _NEEDED.items()]), "into count_hierarchy")
    split = F.array_position(F.array(*[F.lit(s) for s in UNSEEN]), F.col("split")) - 1
    rows = scored.filter(F.col("split").isin(*UNSEEN)).select(
        split.cast("int").alias("split"), F.col("attack_id").alias("attack"), "probability"
    )
    counts = HierarchyCounts.empty(problem.task)
    found = rows.mapInArrow(_counting(problem.task), "part int, place long, rows long").toArrow()
    part, place, amount = (found.column(name).to_numpy() for name in ("part", "place", "rows"))
    for i, into in enumerate((counts.answers, counts.sets)):
        np.add.at(into.reshape(-1), place[part == i], amount[part == i])
    return counts


def _counting(task: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine, classes = HierarchyCounts.empty(task), len(class_names(task))
        for batch in batches:
            split, attack = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("split", "attack"))
            add_rows(mine, task, probability_matrix(batch.column("probability"), classes), split, attack)
        for part, counted in enumerate((mine.answers.reshape(-1), mine.sets.reshape(-1))):
            there = np.flatnonzero(counted)
            yield pa.RecordBatch.from_pydict({
                "part": np.full(there.size, part, np.int32), "place": there, "rows": counted[there],
            })

    return count


def add_rows(counts: HierarchyCounts, task: str, probability: np.ndarray, split: np.ndarray, attack: np.ndarray) -> None:
    """Count rows, in place.

    Parameters
    ----------
    probability : ndarray of float64, shape (classes, rows)
    split, attack : ndarray of int, shape (rows,)
        Place in `UNSEEN`, true attack.
    """
    levels = sum_up(probability, task)
    bins = [bins_of_log_odds(level.sure) for level in levels]
    for depth, level in enumerate(levels):
        right = levels_right(task, depth, level.answer, attack)
        for gate, place in ((OWN, depth), (DEEPER, depth + 1)):
            if place < len(levels):
                add_at(counts.answers, (split, attack, depth, gate, right, bins[place]), 1)
    total = probability.sum(axis=0)
    own = np.array(labels_above("attack", task))[attack]
    for c, likely in enumerate(probability):
        sure, mine = bins_of(likely, total - likely), own == c
        add_at(counts.sets, (split, attack, ANY, sure), 1)
        add_at(counts.sets, (split[mine], attack[mine], TRUE, sure[mine]), 1)


def levels_right(task: str, depth: int, answer: np.ndarray, attack: np.ndarray) -> np.ndarray:
    """How many levels are right, of an answer at the level with the place `depth` and of those above it."""
    levels = levels_of(task)
    right = np.zeros(answer.shape, np.int64)
    for level in levels[: depth + 1]:
        right += _table(levels[depth], level)[answer] == _table("attack", level)[attack]
    return right


@cache
def _table(task: str, level: str) -> np.ndarray:
    return np.array(labels_above(task, level))


def deepest_sure(levels: Sequence[Level], least: Sequence[float]) -> np.ndarray:
    """How many levels deep a model is sure of each row: 0 where it is not even sure of the first.

    Parameters
    ----------
    levels : sequence of Level
        From `sum_up`.
    least : sequence of float
        The log-odds that each level's answer needs, not falling with depth; infinity where no answer is sure enough.
    """
    return np.sum([level.sure >= odds for level, odds in zip(levels, least, strict=True)], axis=0)
