"""What all networks share: how they are trained on ranks, scored in Spark, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError, LaunchError
from iomt_ids.contract.problem import HISTORY, Problem
from iomt_ids.distributed.architectures import PRECISIONS
from iomt_ids.distributed.export import write_saved_model
from iomt_ids.distributed.launch import Launcher
from iomt_ids.distributed.scoring import probabilities
from iomt_ids.distributed.shards import parquet_files
from iomt_ids.distributed.work import RankResult, Work
from iomt_ids.models.detector import Detector

_WEIGHTS, _SHAPE = "weights.npz", "network.json"
_TRAINED = "iomt_ids.distributed.train:train_rank"


@dataclass(frozen=True)
class TrainingParams:
    """Hyperparameters of the training of any network.

    Attributes
    ----------
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
    clip_norm : float
        Longest gradient, in the Euclidean norm over all weights, after the mean over ranks; 0 leaves it as it is.
    accumulate : int
        Parts in which the rows of a step go through the net, one after the other: less memory, the same step.
    class_weight_power : float
        A class of share p weighs p to minus this power; 0 weighs rows alike, 1 weighs classes alike.
    label_smoothing : float
        Share of a label that is spread over all classes.
    focal_gamma : float
        Of the focal loss: how much less rows count that are told well already; 0 is cross-entropy.
    precision : str
        What layers compute in while they learn, ``float32`` or ``bfloat16``; weights, sums and answers are float32 in both.
    """

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
    clip_norm: float = 0.0
    accumulate: int = 1
    class_weight_power: float = 0.25
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    precision: str = "float32"


class FittedNetwork:
    """A trained net; see `models.detector.FittedDetector`.

    Parameters
    ----------
    network : dict
        Its shape, see `distributed.architectures.build_network`.
    weights : bytes
        As `distributed.network.weights_to_bytes` made them.
    """

    importances: dict[str, float] | None = None

    def __init__(
        self, problem: Problem, network: dict[str, Any], weights: bytes, *,
        curves: list[dict[str, float]], facts: dict[str, Any],
    ) -> None:
        self.problem = problem
        self.network = network
        self.weights = weights
        self.curves = curves
        self.facts = facts

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """See `models.detector.FittedDetector`."""
        likeliest = F.array_position(F.col("probability"), F.array_max(F.col("probability"))) - 1
        scored = flows.withColumn("probability", probabilities(self.problem, self.network, self.weights))
        told = scored.withColumn("prediction", likeliest.cast("int"))
        return told if with_features else told.drop(*self.problem.features)

    def save(self, folder: Path) -> None:
        """Write weights as ``.npz`` and the net's shape as JSON."""
        (folder / _WEIGHTS).write_bytes(self.weights)
        (folder / _SHAPE).write_text(json.dumps(self.network) + "\n", encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Write TensorFlow's SavedModel, which needs neither Spark nor this package; see `distributed.export`."""
        write_saved_model(self.problem, self.network, self.weights, folder)


def network_detector(
    params: type, sentence: str, shape_of: Callable[[Any, Problem], dict[str, Any]], **more: Any
) -> Detector:
    """A detector that is a network.

    Parameters
    ----------
    params : type
        A frozen dataclass, child of `TrainingParams`.
    shape_of : callable
        Its network's shape from its parameters and the problem.
    more : dict
        Other attributes of the `Detector`.
    """

    def fit(
        flows: DataFrame, problem: Problem, params: Any, *, validation: DataFrame, seed: int, launcher: Launcher
    ) -> FittedNetwork:
        shape = {**shape_of(params, problem), "dropout": params.dropout}
        return fit_network(flows, problem, params, shape, validation=validation, seed=seed, launcher=launcher)

    return Detector(params, fit, load, sentence, is_network=True, **more)


def fit_network(
    flows: DataFrame, problem: Problem, params: TrainingParams, network: dict[str, Any], *,
    validation: DataFrame, seed: int, launcher: Launcher,
) -> FittedNetwork:
    """Train on the ranks of a launcher; validation rows choose the epoch.

    Raises
    ------
    ConfigError
        If there is no such precision.
    LaunchError
        If there are fewer slots than ranks, a rank dies, or ranks end with different weights.
    """
    if params.precision not in PRECISIONS:
        raise ConfigError(f"models.{network['kind']}.precision is {params.precision!r}: {' or '.join(PRECISIONS)}")
    sequence = HISTORY if problem.is_sequence else None
    columns = [problem.label_column, problem.copies_column, *([sequence] if sequence else problem.features)]
    with parquet_files(flows, columns) as train, parquet_files(validation, columns) as held_out:
        job = {
            "train": train, "validation": held_out, "features": list(problem.features), "sequence": sequence,
            "label": problem.label_column, "copies": problem.copies_column, "labels": list(problem.labels),
            "scaling": [[s.center, s.scale] for s in problem.scaling], "network": network,
            "seed": seed, "params": asdict(params),
        }
        results = launcher.run(Work(_TRAINED, job), params.ranks)
    _require_equal_weights(results)
    first = results[0]
    return FittedNetwork(problem, network, first.payload, curves=first.facts["curves"], facts=_facts(results))


def load(spark: SparkSession | None, folder: Path, problem: Problem) -> FittedNetwork:
    """Read what `FittedNetwork.save` wrote; no session is needed."""
    network = json.loads((folder / _SHAPE).read_text(encoding="utf-8"))
    # Models of before there were other networks do not say which they are.
    network = {"kind": "dense_net", "dropout": 0.0, **network}
    return FittedNetwork(problem, network, (folder / _WEIGHTS).read_bytes(), curves=[], facts={})


def _require_equal_weights(results: list[RankResult]) -> None:
    hashes = {r.rank: r.facts["weights_sha256"] for r in results}
    if len(set(hashes.values())) > 1:
        raise LaunchError(f"ranks ended with different weights, so gradients were not reduced: {hashes}")


def _facts(results: list[RankResult]) -> dict[str, Any]:
    first = results[0].facts
    return {
        "ranks": len(results),
        "hosts": [r.host for r in results],
        "executors": [r.executor for r in results],
        "weights_sha256": [r.facts["weights_sha256"] for r in results],
        "rows": [r.facts["rows"] for r in results],
        "rank_seconds": [r.seconds for r in results],
        "restarts": first.get("restarts", 0),
        **{name: first[name] for name in ("train_seconds", "epochs", "best_epoch", "steps", "parameters")},
    }
