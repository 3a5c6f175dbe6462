"""One decision tree (CART), the simplest thing a reader can follow; a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.ml.classification import DecisionTreeClassificationModel, DecisionTreeClassifier
from pyspark.sql import DataFrame

from iomt_ids.contract.problem import Problem
from iomt_ids.models.detector import Detector
from iomt_ids.models.mllib import COLUMNS, FittedMllib, fit_mllib, load_mllib
from iomt_ids.models.vectors import WEIGHT


@dataclass(frozen=True)
class Params:
    """Hyperparameters."""

    depth: int = 12
    bins: int = 64
    rows_per_leaf: int = 2


# What `--tune` chooses from.
SPACE: dict[str, tuple[Any, ...]] = {"depth": (6, 9, 12, 16, 20), "bins": (32, 64, 128), "rows_per_leaf": (1, 2, 5)}


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedMllib:
    """Fit a tree; validation rows and launcher are not used."""
    estimator = DecisionTreeClassifier(
        **COLUMNS, weightCol=WEIGHT, maxDepth=params.depth, maxBins=params.bins, minInstancesPerNode=params.rows_per_leaf, seed=seed
    )
    return fit_mllib(estimator, flows, problem, scaled=False, facts=_facts)


def _facts(model: DecisionTreeClassificationModel) -> dict[str, Any]:
    return {"depth": model.depth, "nodes": model.numNodes}


DETECTOR = Detector(
    Params, fit, load_mllib(DecisionTreeClassificationModel, scaled=False), "one decision tree of MLlib; a baseline", space=SPACE
)
