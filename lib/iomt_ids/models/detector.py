"""What every detector is: something that fits rows of `gold.features` and scores them in Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pyspark.sql import DataFrame

from iomt_ids.contract.attacks import TASKS
from iomt_ids.contract.problem import Problem, Scaling

__all__ = ["Detector", "FittedDetector", "Problem", "Scaling"]


class FittedDetector(Protocol):
    """A detector that has learnt.

    Attributes
    ----------
    problem : Problem
        What it has learnt.
    importances : dict of str to float or None
        Share of each feature in the model's decisions, summing to 1; None if the model has none.
    curves : list of dict
        One entry an epoch or round, ``{"epoch": 1, "train_loss": ..., ...}``; may be empty.
    facts : dict
        What else belongs into the run record, e.g. the number of trees or ranks.
    """

    problem: Problem
    importances: dict[str, float] | None
    curves: list[dict[str, float]]
    facts: dict[str, Any]

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """Add ``prediction`` (int, label index) and ``probability`` (array of double, one a class of the task).

        Without ``with_features`` the columns of the problem's features are left out, which saves their way from Python.
        """

    def save(self, folder: Path) -> None:
        """Write the model into an existing, empty folder; the caller makes it visible at once."""


@dataclass(frozen=True)
class Detector:
    """One file of `models/` declares one of these as ``DETECTOR``.

    Attributes
    ----------
    params : type
        Frozen dataclass of hyperparameters with defaults; keys of ``models.<name>`` in the configuration.
    fit : callable
        ``fit(flows, problem, params, *, validation, seed, launcher) -> FittedDetector``. ``flows`` and
        ``validation`` are rows of `gold.features` (split train and validation); ``launcher`` is a
        `distributed.launch.Launcher`: networks, and trees whose rows are spread, learn on its ranks; one that resumes has the
        folder in which finished trees are kept.
    load : callable
        ``load(spark, folder, problem) -> FittedDetector``, the inverse of `FittedDetector.save`.
    sentence : str
        One line for the report: what it is.
    tasks : tuple of str
        The tasks that it can learn.
    is_sequential : bool
        Whether it reads the windows before a row one by one (`prepare.past.add_history`), not a row by itself.
    is_anomaly : bool
        Whether it learns from benign rows alone, so that no attack is known to it.
    is_network : bool
        Whether it is a `models.network.FittedNetwork`, which can be exported.
    is_explainable : bool
        Whether what it loads is a `histogram.shapley.Explained`: trees in arrays, whose verdicts can be taken apart by feature.
    space : mapping of str to sequence
        Parameters that ``train_detector --tune`` chooses, with the values that it may choose from; see `models.tuning`.
    """

    params: type
    fit: Any
    load: Any
    sentence: str
    tasks: tuple[str, ...] = TASKS
    is_sequential: bool = False
    is_anomaly: bool = False
    is_network: bool = False
    is_explainable: bool = False
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict)
