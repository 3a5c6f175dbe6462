"""Parts of captures that settings are chosen on: learnt from one part, scored on another, with a gap between them.

Most attacks have a single capture, so parts of captures are the groups. Rows of one part are neighbours in time and much
alike; rows next to a part that is held out are learnt from by nobody, as they may share a flow, or a past, with it.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.identity import HALVES, vector_key
from iomt_ids.contract.problem import Problem

_PLACE, _LENGTH = "_place", "_length"


def placed_rows(flows: DataFrame, problem: Problem) -> DataFrame:
    """Rows with their place in their capture, from 0, its length in rows, and a key of what a detector sees of them."""
    ends = flows.groupBy("source_file").agg(
        F.min("source_line").alias("_first"), (F.max("source_line") - F.min("source_line") + 1).alias(_LENGTH)
    )
    key = vector_key(problem.features)
    return (
        flows.join(F.broadcast(ends), "source_file", "inner")
        .withColumns({_PLACE: F.col("source_line") - F.col("_first"), **{_key(half): key[half] for half in HALVES}})
        .drop("_first")
    )


def fold_rows(placed: DataFrame, *, fold: int, folds: int, gap: int) -> tuple[DataFrame, DataFrame]:
    """What to learn from and what to score on, of one fold.

    Parameters
    ----------
    placed : DataFrame
        Of `placed_rows`, rows of the train split only.
    fold, folds : int
        Which part of every capture is held out, from 0, of how many parts of equal length.
    gap : int
        Rows before and after the part, in the order of capture, that are neither learnt from nor scored on.

    Returns
    -------
    learnt_from, held_out : DataFrame
        With the columns that `placed_rows` was given. No vector is in both: what is held out is not learnt from elsewhere.
    """
    part = F.floor(F.col(_PLACE) * folds / F.col(_LENGTH))
    begin, end = F.col(_LENGTH) * fold / folds, F.col(_LENGTH) * (fold + 1) / folds
    held_out = placed.filter(part == fold)
    apart = placed.filter((F.col(_PLACE) < begin - gap) | (F.col(_PLACE) >= end + gap))
    keys = [_key(half) for half in HALVES]
    learnt_from = apart.join(held_out.select(*keys).distinct(), keys, "left_anti")
    return learnt_from.drop(_PLACE, _LENGTH, *keys), held_out.drop(_PLACE, _LENGTH, *keys)


def _key(half: str) -> str:
    return f"_vector_{half}"
