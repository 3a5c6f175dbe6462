"""Predictions to alerts: what a ward reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.attacks import benign_labels, class_names
from iomt_ids.contract.hierarchy import levels_of
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import ALERTS
from iomt_ids.evaluate.answers import alarm_score
from iomt_ids.evaluate.hierarchy_counts import deepest_sure, sum_up
from iomt_ids.evaluate.score_counts import probability_matrix

_SURE = ("sure_level", "sure_verdict", "sure_probability")


def name_verdicts(
    scored: DataFrame, *, problem: Problem, model: str, sure: Mapping[str, Any] | None = None,
    operating: Mapping[str, Any] | None = None,
) -> DataFrame:
    """Say each row's verdict by name.

    Parameters
    ----------
    scored : DataFrame
        Rows with a `flow_id`, where they come from, and the model's `prediction` and `probability`.
    model : str
        ``<run>/<model>``, so that an alert can be traced to what raised it.
    sure : mapping, optional
        The model's entry of ``hierarchy`` in `scores.json`; without it nothing is told of the deepest sure level.
    operating : mapping, optional
        The model's entry of ``operating``: an alert is what reaches its threshold, whatever the verdict. Without it, or where
        no threshold was found (too few benign rows, or none that keeps the budget), an alert is a verdict that is not benign.

    Returns
    -------
    DataFrame
        Schema `contract.tables.ALERTS`, a row for every row.
    """
    names = F.array(*[F.lit(name) for name in class_names(problem.task)])
    threshold, alarm = _threshold(operating), alarm_score(problem)
    is_attack = ~F.col("prediction").isin(*benign_labels(problem.task))
    named = scored.withColumns({
        "verdict": names[F.col("prediction")], "alarm": alarm, "threshold": F.lit(threshold).cast("double"),
        "is_alert": is_attack if threshold is None else alarm >= F.lit(threshold), "model": F.lit(model),
    })
    told = _add_sure(named, problem.task, sure) if sure else named.withColumns({
        name: F.lit(None).cast(ALERTS[name].dataType) for name in _SURE
    })
    return told.withColumn("probability", F.col("probability")[F.col("prediction")]).select(*ALERTS.fieldNames())


def _threshold(operating: Mapping[str, Any] | None) -> float | None:
    """What the alarm has to reach; None where nobody could pick it, or where none keeps the budget: then silence would be worse."""
    return operating["threshold"] if operating else None


def _add_sure(named: DataFrame, task: str, sure: Mapping[str, Any]) -> DataFrame:
    """Add the deepest level that a threshold lets through, its verdict, and that verdict's probability.

    By the same code as counts rows for the scores, so that what is alerted is what was judged.
    """
    least = [math.inf if level["log_odds"] is None else level["log_odds"] for level in sure["levels"]]
    kept = named.select(*[n for n in ALERTS.fieldNames() if n not in (*_SURE, "probability")], "prediction", "probability")
    schema = T.StructType([*kept.schema.fields, *(ALERTS[name] for name in _SURE)])
    return kept.mapInArrow(_answering(task, least), schema)


def _answering(task: str, least: list[float]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    levels, n_classes = levels_of(task), len(class_names(task))
    names = [np.array(class_names(level), object) for level in levels]

    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            told = sum_up(probability_matrix(batch.column("probability"), n_classes), task)
            depth = deepest_sure(told, least)
            columns: list[np.ndarray] = [np.full(batch.num_rows, None, object) for _ in _SURE]
            for place, (level, known) in enumerate(zip(told, names, strict=True)):
                own = depth == place + 1
                columns[0][own] = levels[place]
                columns[1][own] = known[level.answer[own]]
                columns[2][own] = level.probability.max(axis=0)[own]
            types = (pa.string(), pa.string(), pa.float64())
            added = {name: pa.array(values, kind) for name, values, kind in zip(_SURE, columns, types, strict=True)}
            yield pa.RecordBatch.from_pydict({**{n: batch.column(n) for n in batch.schema.names}, **added})

    return answer
