"""What errors cost, by category: a judgement that a hospital makes, in units of one false alarm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES
from iomt_ids.contract.errors import ContractError

_BENIGN = CATEGORIES.index("Benign")


class Costs(Protocol):
    """What the configuration says of errors."""

    @property
    def false_alarm(self) -> float:
        """Of an alert on a benign row."""

    @property
    def mistaken(self) -> float:
        """Of an alert that names another category of attack than the true one."""

    @property
    def missed(self) -> Mapping[str, float]:
        """By category, of an attack that is taken for benign."""


def cost_matrix(costs: Costs) -> np.ndarray:
    """Costs of a row by its category and the category it is taken for.

    Returns
    -------
    ndarray of float64, shape (categories, categories)
        Row is the true category, column the verdict, in the order of `contract.attacks.CATEGORIES`; 0 on the diagonal.

    Raises
    ------
    ContractError
        If a category of attack has no cost.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> missed = {"Spoofing": 20, "Recon": 5, "MQTT": 20, "DoS": 50, "DDoS": 50}
    >>> cost_matrix(SimpleNamespace(false_alarm=1, mistaken=2, missed=missed))[:3].tolist()
    [[0.0, 1.0, 1.0, 1.0, 1.0, 1.0], [20.0, 0.0, 2.0, 2.0, 2.0, 2.0], [5.0, 2.0, 0.0, 2.0, 2.0, 2.0]]
    """
    if lacking := set(CATEGORIES) - {CATEGORIES[_BENIGN]} - set(costs.missed):
        raise ContractError(f"no cost of a missed attack of category {', '.join(sorted(lacking))}")
    matrix = np.full((len(CATEGORIES), len(CATEGORIES)), float(costs.mistaken))
    matrix[_BENIGN] = costs.false_alarm
    matrix[:, _BENIGN] = [costs.missed.get(category, 0.0) for category in CATEGORIES]
    np.fill_diagonal(matrix, 0.0)
    return matrix


def verdict_costs(matrix: np.ndarray, task: str) -> np.ndarray:
    """Costs of a row by its attack and the kind of the verdict, as `score_counts.kinds_of` numbers kinds.

    The binary task's alert names no category, so none can be mistaken: it costs what the right one would.

    Parameters
    ----------
    matrix : ndarray of float64, shape (categories, categories)
        From `cost_matrix`.

    Returns
    -------
    ndarray of float64, shape (attacks, kinds)
    """
    if task == "binary":
        alert = np.where(np.arange(len(CATEGORIES)) == _BENIGN, matrix[_BENIGN].max(), np.diag(matrix))
        matrix = np.stack([matrix[:, _BENIGN], alert], axis=1)
    return matrix[[CATEGORIES.index(a.category) for a in ATTACKS]]
