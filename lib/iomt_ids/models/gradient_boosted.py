"""Gradient-boosted trees (Friedman 2001) of MLlib, one-vs-rest for more than two classes.

MLlib boosts binary targets only. With more classes, one model a class learns "this class or
another", so training costs as many models as there are classes. A class's probability is its model's
own, divided by the sum over classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.ml.classification import GBTClassificationModel, GBTClassifier, OneVsRest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import spark_path
from iomt_ids.models.detector import Detector
from iomt_ids.models.vectors import CLASS, VECTOR, as_array, training_rows, with_vector, with_verdict


@dataclass(frozen=True)
class Params:
    """Hyperparameters."""

    rounds: int = 20
    depth: int = 5
    bins: int = 64
    learning_rate: float = 0.2
    node_memory_mb: int = 512
    parallel_classes: int = 2


class FittedBoosting:
    """One boosted model a class, or one for two classes; see `models.detector.FittedDetector`."""

    def __init__(self, models: list[GBTClassificationModel], problem: Problem) -> None:
        self.models = models
        self.curves: list[dict[str, float]] = []
        self.problem = problem
        shares = np.mean([m.featureImportances.toArray() for m in models], axis=0)
        self.importances = dict(zip(problem.features, map(float, shares / max(shares.sum(), 1e-300)), strict=True))
        self.facts: dict[str, Any] = {"models": len(models), "nodes": sum(m.totalNumNodes for m in models)}

    def transform(self, flows: DataFrame) -> DataFrame:
        """Add `prediction` and `probability`."""
        scored = with_vector(flows, self.problem, scaled=False)
        positives = []
        for index, model in enumerate(self.models):
            # MLlib's OneVsRestModel would go through a row-wise Python udf here; its models are these.
            raw, own, guess = f"_raw{index}", f"_p{index}", f"_guess{index}"
            scored = model.copy().setRawPredictionCol(raw).setProbabilityCol(own).setPredictionCol(guess).transform(scored)
            scored = scored.withColumn(own, as_array(own)[1]).drop(raw, guess)
            positives.append(own)
        if len(positives) == 1:
            shares = F.array(F.lit(1.0) - F.col(positives[0]), F.col(positives[0]))
        else:
            total = sum((F.col(p) for p in positives[1:]), F.col(positives[0]))
            shares = F.array(*[F.col(p) / total for p in positives])
        return with_verdict(scored, self.problem, shares, tuple(positives))

    def save(self, folder: Path) -> None:
        """Write each model in MLlib's own layout, ``0``, ``1`` and so on; stock Spark reads them."""
        for index, model in enumerate(self.models):
            model.write().overwrite().save(spark_path(folder / str(index)))


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedBoosting:
    """Fit one model a class; validation rows and launcher are not used.

    Raises
    ------
    ContractError
        If the train split holds a single class.
    """
    if len(problem.labels) < 2:
        raise ContractError(f"gradient_boosted: task {problem.task} has a single class in the train split")
    binary = GBTClassifier(
        featuresCol=VECTOR, labelCol=CLASS, maxIter=params.rounds, maxDepth=params.depth, maxBins=params.bins,
        stepSize=params.learning_rate, maxMemoryInMB=params.node_memory_mb, seed=seed,
    )
    rows = training_rows(flows, problem, scaled=False)
    try:
        if len(problem.labels) == 2:
            models = [binary.fit(rows)]
        else:
            each = OneVsRest(classifier=binary, featuresCol=VECTOR, labelCol=CLASS, parallelism=params.parallel_classes)
            models = each.fit(rows).models
    finally:
        rows.unpersist()
    return FittedBoosting(models, problem)


def load(spark: SparkSession, folder: Path, problem: Problem) -> FittedBoosting:
    """Read what `FittedBoosting.save` wrote."""
    count = 1 if len(problem.labels) == 2 else len(problem.labels)
    return FittedBoosting(
        [GBTClassificationModel.load(spark_path(folder / str(index))) for index in range(count)], problem
    )


DETECTOR = Detector(Params, fit, load, f"{GBTClassificationModel.__name__} of MLlib, one-vs-rest for more than two classes")
