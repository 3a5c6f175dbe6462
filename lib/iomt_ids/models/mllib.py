"""What the MLlib detectors with a `probability` column share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import spark_path
from iomt_ids.models.vectors import CLASS, VECTOR, as_array, training_rows, with_vector, with_verdict

_OUTPUTS = ("rawPrediction", "_probability", "_prediction")
COLUMNS: dict[str, Any] = {
    "featuresCol": VECTOR, "labelCol": CLASS, "probabilityCol": "_probability", "predictionCol": "_prediction",
}


class FittedMllib:
    """A fitted MLlib classifier; see `models.detector.FittedDetector`."""

    def __init__(self, model: Any, problem: Problem, *, scaled: bool, facts: dict[str, Any]) -> None:
        self.model = model
        self.problem = problem
        self.scaled = scaled
        self.facts = facts
        self.curves: list[dict[str, float]] = []
        self.importances = _importances(model, problem)

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """See `models.detector.FittedDetector`."""
        scored = self.model.transform(with_vector(flows, self.problem, scaled=self.scaled))
        return with_verdict(scored, self.problem, as_array("_probability"), _OUTPUTS, with_features=with_features)

    def save(self, folder: Path) -> None:
        """Write MLlib's own layout below the folder; stock Spark reads it."""
        self.model.write().overwrite().save(spark_path(folder / "mllib"))


def fit_mllib(
    estimator: Any, flows: DataFrame, problem: Problem, *, scaled: bool, facts: Callable[[Any], dict[str, Any]]
) -> FittedMllib:
    """Fit a classifier on rows of the train split.

    Parameters
    ----------
    estimator : pyspark.ml classifier
        With `COLUMNS` set.
    facts : callable
        ``facts(model) -> dict`` for the run record.
    """
    rows = training_rows(flows, problem, scaled=scaled)
    try:
        model = estimator.fit(rows)
    finally:
        rows.unpersist()
    return FittedMllib(model, problem, scaled=scaled, facts=facts(model))


def load_mllib(kind: Any, *, scaled: bool) -> Callable[[SparkSession, Path, Problem], FittedMllib]:
    """A `Detector.load` for a class of MLlib models."""

    def load(spark: SparkSession, folder: Path, problem: Problem) -> FittedMllib:
        return FittedMllib(kind.load(spark_path(folder / "mllib")), problem, scaled=scaled, facts={})

    return load


def _importances(model: Any, problem: Problem) -> dict[str, float] | None:
    found = getattr(model, "featureImportances", None)
    return None if found is None else dict(zip(problem.features, map(float, found.toArray()), strict=True))
