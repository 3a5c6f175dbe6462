"""A dense neural net on centred logarithms, trained by TensorFlow on several ranks through Horovod."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import LaunchError
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.launch import Launcher
from iomt_ids.distributed.network import count_parameters
from iomt_ids.distributed.scoring import probabilities
from iomt_ids.distributed.shards import parquet_files
from iomt_ids.distributed.work import RankResult, Work
from iomt_ids.models.detector import Detector

_WEIGHTS, _SHAPE = "weights.npz", "network.json"


@dataclass(frozen=True)
class Params:
    """Hyperparameters.

    Attributes
    ----------
    layers : tuple of int
        Units of each hidden layer.
    dropout : float
        Share of hidden units left out of a step.
    ranks : int
        Processes that train together, one a slot.
    batch_rows : int
        Rows of one step, per rank.
    steps : int
        Steps to take, rounded to whole epochs between the next two.
    epochs_at_least, epochs_at_most : int
        Limits on epochs, for many and for few rows.
    patience : int
        Epochs without a better validation macro-F1 before training stops.
    learning_rate : float
        Highest rate, per rank.
    warm_up : float
        Share of the steps in which the rate rises.
    weight_decay : float
        Of AdamW.
    class_weight_power : float
        A class of share p weighs p to minus this power; 0 weighs rows alike, 1 weighs classes alike.
    """

    layers: tuple[int, ...] = (256, 128, 64)
    dropout: float = 0.1
    ranks: int = 2
    batch_rows: int = 256
    steps: int = 3000
    epochs_at_least: int = 2
    epochs_at_most: int = 30
    patience: int = 10
    learning_rate: float = 0.002
    warm_up: float = 0.05
    weight_decay: float = 1e-4
    class_weight_power: float = 0.25


# What `--tune` chooses from.
SPACE: dict[str, tuple[Any, ...]] = {
    "layers": ((128, 64), (256, 128, 64), (512, 256, 128)), "dropout": (0.0, 0.1, 0.3), "learning_rate": (0.001, 0.002, 0.004),
    "weight_decay": (1e-5, 1e-4, 1e-3), "class_weight_power": (0.0, 0.25, 0.5),
}


class FittedDenseNet:
    """A trained net; see `models.detector.FittedDetector`."""

    importances: dict[str, float] | None = None

    def __init__(
        self, problem: Problem, layers: tuple[int, ...], weights: bytes, *,
        curves: list[dict[str, float]], facts: dict[str, Any],
    ) -> None:
        self.problem = problem
        self.layers = layers
        self.weights = weights
        self.curves = curves
        self.facts = facts

    def transform(self, flows: DataFrame) -> DataFrame:
        """Add `prediction` and `probability`."""
        likeliest = F.array_position(F.col("probability"), F.array_max(F.col("probability"))) - 1
        scored = flows.withColumn("probability", probabilities(self.problem, self.layers, self.weights))
        return scored.withColumn("prediction", likeliest.cast("int"))

    def save(self, folder: Path) -> None:
        """Write weights as ``.npz`` and the net's shape as JSON."""
        (folder / _WEIGHTS).write_bytes(self.weights)
        (folder / _SHAPE).write_text(json.dumps({"layers": list(self.layers)}) + "\n", encoding="utf-8")


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Launcher
) -> FittedDenseNet:
    """Train on the ranks of a launcher; validation rows choose the epoch.

    Raises
    ------
    LaunchError
        If there are fewer slots than ranks, a rank dies, or ranks end with different weights.
    """
    columns = [problem.label_column, *problem.features]
    with parquet_files(flows, columns) as train, parquet_files(validation, columns) as held_out:
        job = {
            "train": train, "validation": held_out, "features": list(problem.features), "label": problem.label_column,
            "labels": list(problem.labels), "scaling": [[s.center, s.scale] for s in problem.scaling],
            "seed": seed, "params": asdict(params),
        }
        results = launcher.run(Work("iomt_ids.distributed.train:train_rank", job), params.ranks)
    _require_equal_weights(results)
    first = results[0]
    facts = _facts(results, problem, params)
    layers = tuple(params.layers)
    return FittedDenseNet(problem, layers, first.payload, curves=first.facts["curves"], facts=facts)


def load(spark: SparkSession, folder: Path, problem: Problem) -> FittedDenseNet:
    """Read what `FittedDenseNet.save` wrote."""
    layers = tuple(json.loads((folder / _SHAPE).read_text(encoding="utf-8"))["layers"])
    return FittedDenseNet(problem, layers, (folder / _WEIGHTS).read_bytes(), curves=[], facts={})


def _require_equal_weights(results: list[RankResult]) -> None:
    hashes = {r.rank: r.facts["weights_sha256"] for r in results}
    if len(set(hashes.values())) > 1:
        raise LaunchError(f"ranks ended with different weights, so gradients were not reduced: {hashes}")


def _facts(results: list[RankResult], problem: Problem, params: Params) -> dict[str, Any]:
    first = results[0].facts
    return {
        "ranks": len(results),
        "hosts": [r.host for r in results],
        "executors": [r.executor for r in results],
        "weights_sha256": [r.facts["weights_sha256"] for r in results],
        "rows": [r.facts["rows"] for r in results],
        "rank_seconds": [r.seconds for r in results],
        "train_seconds": first["train_seconds"],
        "epochs": first["epochs"],
        "best_epoch": first["best_epoch"],
        "steps": first["steps"],
        "parameters": count_parameters(len(problem.features), len(problem.labels), params.layers),
    }


DETECTOR = Detector(Params, fit, load, "dense net of TensorFlow, trained on several ranks by Horovod", SPACE)
