"""Random forest (Breiman 2001), as MLlib trains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.sql import DataFrame

from iomt_ids.contract.problem import Problem
from iomt_ids.models.detector import Detector
from iomt_ids.models.mllib import COLUMNS, FittedMllib, fit_mllib, load_mllib


@dataclass(frozen=True)
class Params:
    """Hyperparameters, chosen on validation rows, see docs/experiments.md."""

    trees: int = 40
    depth: int = 18
    bins: int = 64
    features_per_node: str = "0.3"
    rows_per_leaf: int = 1
    node_memory_mb: int = 1024


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedMllib:
    """Fit a forest; validation rows and launcher are not used."""
    estimator = RandomForestClassifier(
        **COLUMNS, numTrees=params.trees, maxDepth=params.depth, maxBins=params.bins, seed=seed,
        featureSubsetStrategy=params.features_per_node, minInstancesPerNode=params.rows_per_leaf,
        # Statistics of more nodes at a time: fewer passes over the rows.
        maxMemoryInMB=params.node_memory_mb,
    )
    return fit_mllib(estimator, flows, problem, scaled=False, facts=_facts)


def _facts(model: RandomForestClassificationModel) -> dict[str, Any]:
    return {"trees": model.getNumTrees, "nodes": model.totalNumNodes}


DETECTOR = Detector(
    Params, fit, load_mllib(RandomForestClassificationModel, scaled=False), "random forest of MLlib, all classes at once"
)
