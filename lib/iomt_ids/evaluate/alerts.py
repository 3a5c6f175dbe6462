"""Predictions to alerts: what a ward reads."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels, class_names
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import ALERTS


def name_verdicts(scored: DataFrame, *, problem: Problem, model: str) -> DataFrame:
    """Say each row's verdict by name.

    Parameters
    ----------
    scored : DataFrame
        Rows with a `flow_id`, where they come from, and the model's `prediction` and `probability`.
    model : str
        ``<run>/<model>``, so that an alert can be traced to what raised it.

    Returns
    -------
    DataFrame
        Schema `contract.tables.ALERTS`, a row for every row.
    """
    names = F.array(*[F.lit(name) for name in class_names(problem.task)])
    return scored.withColumns({
        "verdict": names[F.col("prediction")],
        "probability": F.col("probability")[F.col("prediction")],
        "is_alert": ~F.col("prediction").isin(*benign_labels(problem.task)),
        "model": F.lit(model),
    }).select(*ALERTS.fieldNames())
