"""Random forest (Breiman 2001): grown from histograms of bytes, or as MLlib trains it; saved as MLlib's model either way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.problem import Problem
from iomt_ids.models.detector import Detector, FittedDetector
from iomt_ids.models.histogram.forest import Forest, Shape
from iomt_ids.models.histogram.layout import read_forest, read_shape, write_forest
from iomt_ids.models.histogram.score import ForestScorer, add_verdicts
from iomt_ids.models.histogram.shapley import OutputTree, output_tree
from iomt_ids.models.histogram.share import fit_forest
from iomt_ids.models.mllib import COLUMNS, fit_mllib
from iomt_ids.models.vectors import WEIGHT

_MLLIB = "mllib"  # the folder below a saved model's, in the layout of this name
ENGINES = ("histogram", "mllib")


@dataclass(frozen=True)
class Params:
    """Hyperparameters, chosen on validation rows, see docs/experiments.md.

    Attributes
    ----------
    engine : str
        ``histogram`` grows trees by code of ours, compiled; ``mllib`` by Spark's. Both give MLlib's model.
    trees, depth, bins, rows_per_leaf : int
        Trees, deepest level, most bins of a feature (256 at most for ``histogram``), least rows of a leaf.
    features_per_node : str
        Features that a node chooses from, by MLlib's names: auto, all, a share, a number and so on.
    node_memory_mb : int
        Of MLlib's engine only.
    sharing : str
        Of ``histogram`` only: bins of all rows are ``shared`` with every executor, or ``spread`` over ranks that each hold a
        part; ``auto`` spreads more than 800 MiB. The trees are the same.
    """

    engine: str = "histogram"
    trees: int = 40
    depth: int = 18
    bins: int = 64
    features_per_node: str = "0.3"
    rows_per_leaf: int = 1
    node_memory_mb: int = 1024
    sharing: str = "auto"


# What `--tune` chooses from.
SPACE: dict[str, tuple[Any, ...]] = {
    "trees": (20, 40, 80), "depth": (10, 14, 18, 24), "bins": (32, 64, 128, 256),
    "features_per_node": ("sqrt", "0.2", "0.3", "0.5"), "rows_per_leaf": (1, 2, 4),
}


class FittedForest:
    """A forest in arrays; see `models.detector.FittedDetector` and `histogram.shapley.Explained`."""

    explains = "probability"

    def __init__(self, forest: Forest, problem: Problem, shape: Shape, seed: int, *, spark_version: str) -> None:
        self.forest = forest
        self.problem = problem
        self.shape = shape
        self.seed = seed
        self.spark_version = spark_version
        self.scorer = ForestScorer(forest)
        self.curves: list[dict[str, float]] = []
        self.importances: dict[str, float] | None = dict(
            zip(problem.features, map(float, forest.importances()), strict=True)
        )
        self.facts: dict[str, Any] = {"trees": len(forest.trees), "nodes": forest.nodes}

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """See `models.detector.FittedDetector`."""
        return add_verdicts(flows, self.problem, self.scorer, with_features=with_features)

    def trees_of(self, position: int) -> list[OutputTree]:
        """See `histogram.shapley.Explained`."""
        each = len(self.forest.trees)
        return [output_tree(t, t.counts[:, position] / t.rows / each, t.rows) for t in self.forest.trees]

    def save(self, folder: Path) -> None:
        """Write MLlib's own layout below the folder; stock Spark reads it."""
        write_forest(
            self.forest, folder / _MLLIB, shape=self.shape, seed=self.seed, columns=COLUMNS, spark_version=self.spark_version
        )


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedDetector:
    """Fit a forest; validation rows are not used. The launcher's folder holds finished trees.

    Raises
    ------
    ConfigError
        If there is no such engine, or a parameter is impossible.
    LaunchError
        If bins are to be spread over ranks and these cannot be started.
    """
    if params.engine not in ENGINES:
        raise ConfigError(f"models.random_forest.engine is {params.engine!r}: {' or '.join(ENGINES)}")
    if params.engine == "mllib":
        return fit_mllib(_estimator(params, seed), flows, problem, scaled=False, facts=_facts)
    shape = Shape(params.trees, params.depth, params.bins, params.features_per_node, params.rows_per_leaf)
    forest = fit_forest(flows, problem, shape, seed, launcher, params.sharing)
    return FittedForest(forest, problem, shape, seed, spark_version=flows.sparkSession.version)


def load(spark: SparkSession, folder: Path, problem: Problem) -> FittedForest:
    """Read what either engine has saved; rows are scored from the arrays."""
    shape, seed = read_shape(folder / _MLLIB)
    return FittedForest(read_forest(folder / _MLLIB), problem, shape, seed, spark_version=spark.version)


def _estimator(params: Params, seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(
        **COLUMNS, weightCol=WEIGHT, numTrees=params.trees, maxDepth=params.depth, maxBins=params.bins, seed=seed,
        featureSubsetStrategy=params.features_per_node, minInstancesPerNode=params.rows_per_leaf,
        # Statistics of more nodes at a time: fewer passes over the rows.
        maxMemoryInMB=params.node_memory_mb,
    )


def _facts(model: RandomForestClassificationModel) -> dict[str, Any]:
    return {"trees": model.getNumTrees, "nodes": model.totalNumNodes}


DETECTOR = Detector(Params, fit, load, "random forest, all classes at once; a model of MLlib", is_explainable=True, space=SPACE)
