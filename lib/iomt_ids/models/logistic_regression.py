"""Multinomial logistic regression on centred logarithms; a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.ml.classification import LogisticRegression, LogisticRegressionModel
from pyspark.sql import DataFrame

from iomt_ids.contract.problem import Problem
from iomt_ids.models.detector import Detector
from iomt_ids.models.mllib import COLUMNS, FittedMllib, fit_mllib, load_mllib
from iomt_ids.models.vectors import WEIGHT


@dataclass(frozen=True)
class Params:
    """Hyperparameters."""

    iterations: int = 60
    l2: float = 1e-5


# What `--tune` chooses from.
SPACE: dict[str, tuple[Any, ...]] = {"iterations": (30, 60, 120), "l2": (0.0, 1e-6, 1e-5, 1e-4, 1e-3)}


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedMllib:
    """Fit by L-BFGS, which draws nothing; validation rows, seed and launcher are not used."""
    estimator = LogisticRegression(
        **COLUMNS, weightCol=WEIGHT, family="multinomial", maxIter=params.iterations, regParam=params.l2, standardization=False
    )
    return fit_mllib(estimator, flows, problem, scaled=True, facts=_facts)


def _facts(model: LogisticRegressionModel) -> dict[str, Any]:
    return {"iterations": model.summary.totalIterations}


DETECTOR = Detector(
    Params, fit, load_mllib(LogisticRegressionModel, scaled=True), "multinomial logistic regression of MLlib; a baseline",
    space=SPACE,
)
