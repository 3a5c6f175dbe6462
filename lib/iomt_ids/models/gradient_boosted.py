"""Gradient-boosted trees (Friedman 2001): from histograms of bytes, or as MLlib trains them; saved as MLlib's models either way.

MLlib boosts binary targets only, so more than two classes are one GBTClassificationModel a class. Ours are boosted
together, by the joint log-loss; ``engine: mllib`` trains each as "this class or another", which costs as many trainings
as there are classes. Either way a class's probability is its model's odds, exp(2 * rawPrediction), divided by all odds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.ml.classification import GBTClassificationModel, GBTClassifier, OneVsRest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import spark_path
from iomt_ids.models.detector import Detector, FittedDetector
from iomt_ids.models.histogram.boost import Boosting, BoostShape
from iomt_ids.models.histogram.layout import ASKED, read_asked, read_boosting, write_boosting
from iomt_ids.models.histogram.score import BoostingScorer, add_verdicts
from iomt_ids.models.histogram.shapley import OutputTree, output_tree
from iomt_ids.models.histogram.share import fit_boosting
from iomt_ids.models.mllib import COLUMNS
from iomt_ids.models.vectors import CLASS, VECTOR, WEIGHT, as_array, training_rows, with_vector, with_verdict
from iomt_ids.models.xgboosting import Distribution, fit_xgboost

ENGINES = ("histogram", "mllib", "xgboost")


@dataclass(frozen=True)
class Params:
    """Hyperparameters, see docs/experiments.md.

    Attributes
    ----------
    engine : str
        ``histogram`` boosts by code of ours, compiled; ``mllib`` by Spark's; ``xgboost`` by XGBoost's, which has to be
        installed. All give MLlib's models.
    rounds, depth, bins : int
        Trees a class (at most, but for ``mllib``), deepest level, most bins of a feature (256 at most, but for ``mllib``).
    learning_rate : float
        What a tree's answer is multiplied by.
    penalty, curvature_per_leaf : float
        Not of ``mllib``: added to a leaf's sum of second derivatives (L2), and the least such sum.
    sampling_threshold : float
        Of ``histogram`` only: rows with a smaller gradient are drawn in proportion to it; 0 grows trees from all rows.
    patience : int
        Not of ``mllib``: rounds without a better log-loss on validation rows before it ends; 0 never ends.
    max_delta_step : float
        Not of ``mllib``: most that a leaf says, before the learning rate, in log-odds; 0 is no bound.
    node_memory_mb, parallel_classes : int
        Of ``mllib`` only.
    sharing : str
        Of ``histogram`` only: see `random_forest.Params`; where there are several executors, bins are always spread.
    workers, class_weight_power : int, float
        Of ``xgboost`` only: see `xgboosting.Distribution`.
    """

    engine: str = "histogram"
    rounds: int = 120
    depth: int = 8
    bins: int = 64
    learning_rate: float = 0.1
    penalty: float = 1.0
    curvature_per_leaf: float = 1.0
    sampling_threshold: float = 0.05
    patience: int = 10
    max_delta_step: float = 8.0
    node_memory_mb: int = 512
    parallel_classes: int = 2
    workers: int = 2
    class_weight_power: float = 0.0
    sharing: str = "auto"

    @property
    def shape(self) -> BoostShape:
        """What of these are limits of boosting, by the same names."""
        return BoostShape(**{field.name: getattr(self, field.name) for field in fields(BoostShape)})


# What `--tune` chooses from.
SPACE: dict[str, tuple[Any, ...]] = {
    "rounds": (60, 120, 240), "depth": (4, 6, 8, 10), "bins": (32, 64, 128, 256), "learning_rate": (0.05, 0.1, 0.2),
    "penalty": (0.3, 1.0, 5.0), "curvature_per_leaf": (0.1, 1.0, 5.0),
}


class FittedBoosting:
    """Boosted trees in arrays; see `models.detector.FittedDetector` and `histogram.shapley.Explained`."""

    explains = "margin"

    def __init__(
        self, boosting: Boosting, problem: Problem, asked: dict[str, Any], curves: list[dict[str, float]], *,
        spark_version: str,
    ) -> None:
        self.boosting = boosting
        self.problem = problem
        self.asked = asked
        self.spark_version = spark_version
        self.scorer = BoostingScorer(boosting)
        self.curves = curves
        self.importances: dict[str, float] | None = dict(
            zip(problem.features, map(float, boosting.importances()), strict=True)
        )
        self.facts: dict[str, Any] = {
            "models": len(boosting.trees), "rounds": max(map(len, boosting.trees)), "nodes": boosting.nodes,
        }

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """See `models.detector.FittedDetector`."""
        return add_verdicts(flows, self.problem, self.scorer, with_features=with_features)

    def trees_of(self, position: int) -> list[OutputTree]:
        """See `histogram.shapley.Explained`."""
        model, sign = (position, 1.0) if len(self.boosting.trees) > 1 else (0, 2.0 * position - 1.0)
        pairs = zip(self.boosting.trees[model], self.boosting.weights[model], strict=True)
        return [output_tree(tree, sign * weight * tree.prediction, tree.stats[:, 0]) for tree, weight in pairs]

    def save(self, folder: Path) -> None:
        """Write each model in MLlib's own layout, ``0``, ``1`` and so on; stock Spark reads them."""
        write_boosting(self.boosting, folder, asked=self.asked, columns=COLUMNS, spark_version=self.spark_version)


class FittedMllibBoosting:
    """MLlib's boosted models, one a class, or one for two classes; see `models.detector.FittedDetector`."""

    def __init__(self, models: list[GBTClassificationModel], problem: Problem) -> None:
        self.models = models
        self.curves: list[dict[str, float]] = []
        self.problem = problem
        shares = np.mean([m.featureImportances.toArray() for m in models], axis=0)
        self.importances: dict[str, float] | None = dict(
            zip(problem.features, map(float, shares / max(shares.sum(), 1e-300)), strict=True)
        )
        self.facts: dict[str, Any] = {"models": len(models), "nodes": sum(m.totalNumNodes for m in models)}

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """See `models.detector.FittedDetector`."""
        scored = with_vector(flows, self.problem, scaled=False)
        halves = [f"_half{index}" for index in range(len(self.models))]
        for half, model in zip(halves, self.models, strict=True):
            # MLlib's OneVsRestModel would go through a row-wise Python udf here; its models are these.
            named = model.copy().setRawPredictionCol(half).setProbabilityCol("_own").setPredictionCol("_guess")
            scored = named.transform(scored).withColumn(half, as_array(half)[1]).drop("_own", "_guess")
        if len(halves) == 1:
            negative = 1.0 / (1.0 + F.exp(2.0 * F.col(halves[0])))
            return with_verdict(
                scored, self.problem, F.array(negative, 1.0 - negative), tuple(halves), with_features=with_features
            )
        highest = F.greatest(*halves)
        odds = [F.exp(2.0 * (F.col(half) - highest)) for half in halves]
        total = sum(odds[1:], odds[0])
        return with_verdict(
            scored, self.problem, F.array(*[o / total for o in odds]), tuple(halves), with_features=with_features
        )

    def save(self, folder: Path) -> None:
        """Write each model in MLlib's own layout, ``0``, ``1`` and so on; stock Spark reads them."""
        for index, model in enumerate(self.models):
            model.write().overwrite().save(spark_path(folder / str(index)))


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedDetector:
    """Boost trees; all engines but MLlib's stop when validation rows say so; finished rounds are kept in the launcher's folder.

    Raises
    ------
    ConfigError
        If there is no such engine, or a parameter is impossible.
    ContractError
        If the train split holds a single class.
    LaunchError
        If bins are to be spread over ranks and these cannot be started.
    """
    if params.engine not in ENGINES:
        raise ConfigError(f"models.gradient_boosted.engine is {params.engine!r}: {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    if len(problem.labels) < 2:
        raise ContractError(f"gradient_boosted: task {problem.task} has a single class in the train split")
    if params.engine == "mllib":
        return FittedMllibBoosting(_fit_mllib(flows, problem, params, seed), problem)
    if params.engine == "xgboost":
        spread = Distribution(params.workers, params.class_weight_power)
        boosting, curves = fit_xgboost(flows, problem, params.shape, spread, seed, validation=validation)
    else:
        boosting, curves = fit_boosting(flows, problem, params.shape, seed, launcher, params.sharing, validation=validation)
    asked = dict(zip(ASKED, (params.rounds, params.depth, params.bins, params.learning_rate, seed), strict=True))
    return FittedBoosting(boosting, problem, asked, curves, spark_version=flows.sparkSession.version)


def load(spark: SparkSession, folder: Path, problem: Problem) -> FittedBoosting:
    """Read what any engine has saved; rows are scored from the arrays."""
    folders = [folder / str(index) for index in range(1 if len(problem.labels) == 2 else len(problem.labels))]
    return FittedBoosting(read_boosting(folders), problem, read_asked(folders[0]), [], spark_version=spark.version)


def _fit_mllib(flows: DataFrame, problem: Problem, params: Params, seed: int) -> list[Any]:
    binary = GBTClassifier(
        featuresCol=VECTOR, labelCol=CLASS, weightCol=WEIGHT, maxIter=params.rounds, maxDepth=params.depth, maxBins=params.bins,
        stepSize=params.learning_rate, maxMemoryInMB=params.node_memory_mb, seed=seed,
    )
    rows = training_rows(flows, problem, scaled=False)
    try:
        if len(problem.labels) == 2:
            return [binary.fit(rows)]
        each = OneVsRest(
            classifier=binary, featuresCol=VECTOR, labelCol=CLASS, weightCol=WEIGHT, parallelism=params.parallel_classes
        )
        return list(each.fit(rows).models)
    finally:
        rows.unpersist()


DETECTOR = Detector(
    Params, fit, load, "gradient-boosted trees, all classes; a GBTClassificationModel of MLlib a class", is_explainable=True,
    space=SPACE,
)
