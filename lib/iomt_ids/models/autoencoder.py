"""What benign rows look like, learnt from them alone: a row that cannot be given back is an anomaly.

Its alarm score is ``error / (error + threshold)``, where the threshold is the error that a share ``benign_quantile`` of
held-out benign rows stays below. It ranks rows and is no probability of an attack.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.launch import Launcher
from iomt_ids.models.detector import Detector
from iomt_ids.models.network import FittedNetwork, TrainingParams, fit_network, load

_ACCURACY = 1e-4


@dataclass(frozen=True)
class Params(TrainingParams):
    """Hyperparameters.

    Attributes
    ----------
    layers : tuple of int
        Units of each hidden layer on the way down, and in reverse up again.
    code : int
        Numbers that a row is squeezed through.
    benign_quantile : float
        Share of held-out benign rows that are no alert.
    """

    layers: tuple[int, ...] = (64, 32)
    code: int = 8
    benign_quantile: float = 0.99
    dropout: float = 0.0


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Launcher
) -> FittedNetwork:
    """Train on benign rows alone; held-out benign rows choose the epoch and the threshold.

    Raises
    ------
    ContractError
        If no benign row was held out, or the problem has other classes than benign and attack.
    LaunchError
        See `models.network.fit_network`.
    """
    if problem.n_classes != 2:
        raise ContractError(f"an autoencoder tells benign from attack; it cannot learn the task {problem.task}")
    benign, held_out = (
        rows.filter(F.col(problem.label_column).isin(*benign_labels(problem.task))) for rows in (flows, validation)
    )
    shape = {
        "kind": "autoencoder", "layers": list(params.layers), "code": params.code, "dropout": params.dropout, "threshold": 1.0,
    }
    fitted = fit_network(benign, problem, params, shape, validation=held_out, seed=seed, launcher=launcher)
    alarm = fitted.transform(held_out, with_features=False).select(F.col("probability")[1].alias("alarm"))
    found = alarm.approxQuantile("alarm", [params.benign_quantile], _ACCURACY)
    if not found:
        raise ContractError("no benign row was held out for the threshold of an autoencoder")
    threshold = max(found[0] / (1 - found[0]), _ACCURACY**2)
    return FittedNetwork(
        problem, {**shape, "threshold": threshold}, fitted.weights, curves=fitted.curves,
        facts={**fitted.facts, "threshold": threshold},
    )


DETECTOR = Detector(
    Params, fit, load, "autoencoder of TensorFlow that has seen benign rows only: what it cannot give back is an anomaly",
    tasks=("binary",), is_anomaly=True, is_network=True,
)
