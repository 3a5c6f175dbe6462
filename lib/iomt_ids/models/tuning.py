"""Settings chosen by successive halving (Jamieson and Talwalkar, AISTATS 2016) over folds of train rows.

Each candidate is tried on one fold; the better part of them on the next one too, and so on. A fold is the resource because
what is best for few trees or few rows is not what is best for many. Nothing is drawn while it runs and trials are found
again by what they are of, so that a run that was killed goes on where it was and ends with the same choice.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Candidate = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What tuning has found.

    Attributes
    ----------
    params : dict
        Values of the best candidate, for the parameters of the space.
    scores : list of dict
        One a candidate, best first: ``params``, ``is_default``, ``folds`` (score of each fold it was tried on) and ``mean``.
    """

    params: Candidate
    scores: list[dict[str, Any]]


def candidates_of(space: Mapping[str, Sequence[Any]], default: Any, wanted: int, seed: int) -> list[Candidate]:
    """Some points of a space, without repeats; the first is the default.

    Parameters
    ----------
    space : mapping of str to sequence
        Parameter to the values it may take; see `models.detector.Detector`.
    default : dataclass
        Parameters as they are without tuning.
    wanted : int
        How many at most.

    Examples
    --------
    >>> from iomt_ids.models.decision_tree import Params
    >>> candidates_of({"depth": (5, 12), "rows_per_leaf": (2,)}, Params(), 10, seed=0)
    [{'depth': 12, 'rows_per_leaf': 2}, {'depth': 5, 'rows_per_leaf': 2}]
    """
    first = {name: getattr(default, name) for name in space}
    points = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    others = [point for point in points if point != first]
    drawn = np.random.default_rng(seed).permutation(len(others))[: max(0, wanted - 1)]
    return [first, *(others[i] for i in sorted(drawn))]


def with_params(default: Any, candidate: Candidate) -> Any:
    """A detector's parameters with a candidate's values."""
    return dataclasses.replace(default, **candidate)


def choose(
    candidates: Sequence[Candidate], folds: int, keep: float, measure: Callable[[Candidate, int], float]
) -> Choice:
    """Try candidates on one fold after the other, the better part of them on each next one.

    Parameters
    ----------
    candidates : sequence of dict
        The first is the default. It is tried on every fold, so that the best one is compared with it on the same rows.
    folds : int
    keep : float
        Share of the candidates that goes on to the next fold, above 0 and up to 1.
    measure : callable
        ``measure(candidate, fold)``, higher is better; of a candidate and a fold it always says the same.

    Returns
    -------
    Choice
        The best mean over all folds; of equals the one that comes first.
    """
    scores: list[list[float]] = [[] for _ in candidates]
    alive = list(range(len(candidates)))
    for fold in range(folds):
        for index in alive:
            scores[index].append(measure(candidates[index], fold))
        if fold + 1 < folds:
            # Of equals the first stays: sorting keeps their order.
            ranked = sorted(alive, key=lambda i: -_mean(scores[i]))
            alive = sorted({0, *ranked[: max(1, math.ceil(keep * len(ranked)))]})
    order = sorted(range(len(candidates)), key=lambda i: (-len(scores[i]), -_mean(scores[i]), i))
    told = [
        {"params": candidates[i], "is_default": i == 0, "folds": scores[i], "mean": _mean(scores[i])} for i in order
    ]
    return Choice(candidates[order[0]], told)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
