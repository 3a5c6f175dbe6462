"""At which score to raise an alert: picked on validation rows for a budget of false alarms, reported on test rows.

The alarm score of a row is 1 less the probability of the benign classes. It is taken as the model gives it: a temperature
changes no detector's answers, and is for reading its probabilities.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, class_names
from iomt_ids.contract.problem import Problem
from iomt_ids.evaluate.calibration import describe_calibration
from iomt_ids.evaluate.costs import Costs, cost_matrix, verdict_costs
from iomt_ids.evaluate.curves import at_or_above, describe_curves, rounded, spread_out
from iomt_ids.evaluate.intervals import clopper_pearson
from iomt_ids.evaluate.score_counts import BINS, EDGES, UNSEEN, ScoreCounts, kinds_of

_MILLION = 1_000_000
# Without a false alarm in N rows, the 95 % bound of their rate is 3 / N.
_RULE_OF_THREE = 3
_POINTS = 80
_VALIDATION, _TEST = UNSEEN.index("validation"), UNSEEN.index("test")
_BENIGN = np.array([a.category == "Benign" for a in ATTACKS])


def describe_operating(
    model: str, detector: str, problem: Problem, counts: ScoreCounts, *, false_alarms_per_million: int, costs: Costs
) -> dict[str, Any]:
    """A model's entry of ``operating`` in `scores.json`.

    Parameters
    ----------
    model, detector : str
        Their names.
    problem : Problem
        What it was asked to learn.
    counts : ScoreCounts
        From `count_scores`.
    false_alarms_per_million : int
        The budget: of a million benign rows, how many may raise an alert.
    costs : Costs
        What errors cost.

    Returns
    -------
    dict
        ``calibration`` (see `describe_calibration`), ``false_alarms_per_million``, ``certifiable`` (whether the benign
        validation rows are enough to show that the budget is kept), ``threshold`` (of the alarm score; None: never alert,
        or no rows to pick it on), ``notes`` (what a reader has to know, in sentences), ``false_alarms`` by split, ``recall``
        and ``recall_by_attack`` of the test split as shares with their exact 95 % interval, ``cost``, ``sweep`` with
        ``point``, the place of the threshold in it, and ``classes`` (see `describe_curves`).
    """
    alerts = np.pad(at_or_above(counts.alarm), [(0, 0)] * 3 + [(0, 1)])
    by_attack = alerts.sum(axis=2)
    benign, attacks = by_attack[:, _BENIGN].sum(axis=1), by_attack[:, ~_BENIGN].sum(axis=1)
    at = choose_threshold(benign[_VALIDATION], false_alarms_per_million)
    matrix = cost_matrix(costs)
    verdict = verdict_costs(matrix, problem.task)
    cost = _cost_by_threshold(alerts[_TEST], verdict)
    kept = _sweep_places(benign, attacks, at)
    calibration = describe_calibration(counts)
    false_alarms = {} if at is None else {s: _share(benign[i], at) for i, s in enumerate(UNSEEN) if benign[i, 0]}
    return {
        "model": model, "detector": detector, "task": problem.task, "features": problem.feature_set,
        "calibration": calibration,
        "false_alarms_per_million": false_alarms_per_million,
        "certifiable": bool(false_alarms_per_million * benign[_VALIDATION, 0] >= _RULE_OF_THREE * _MILLION),
        "threshold": None if at is None else _score(at),
        "notes": [
            *_notes_on_threshold(benign[_VALIDATION], at, false_alarms_per_million, false_alarms),
            *_notes_on_temperature(calibration["test"]),
        ],
        "false_alarms": false_alarms,
        "recall": None if at is None or not attacks[_TEST, 0] else _share(attacks[_TEST], at),
        "recall_by_attack": {} if at is None else {
            a.name: _share(by_attack[_TEST, a.id], at) for a in ATTACKS if not _BENIGN[a.id] and by_attack[_TEST, a.id, 0]
        },
        "cost": {
            "categories": list(CATEGORIES), "matrix": matrix.tolist(),
            "per_thousand_argmax": _cost_of_predictions(counts.decided[_TEST], verdict[:, kinds_of(problem.task)]),
            "per_thousand": None if at is None or not np.isfinite(cost[at]) else float(cost[at]),
        },
        "point": None if at is None else int(np.flatnonzero(kept == at)[0]),
        "sweep": _sweep(by_attack, benign, attacks, cost, kept),
        "classes": describe_curves(counts.rest[_TEST], class_names(problem.task)),
    }


def choose_threshold(alerts: np.ndarray, false_alarms_per_million: int) -> int | None:
    """Place in `EDGES` of the lowest threshold that keeps the budget on the rows it is picked on.

    Parameters
    ----------
    alerts : ndarray of int64, shape (BINS + 1,)
        Benign validation rows at or above each edge.

    Returns
    -------
    int or None
        `BINS`, that is never, if more rows than the budget allows have the highest score; None without rows.

    Examples
    --------
    >>> choose_threshold(np.array([1000, 30, 10, 9, 0]), 10_000)
    2
    >>> choose_threshold(np.array([0, 0, 0]), 10_000) is None
    True
    """
    if not alerts[0]:
        return None
    return int(np.argmax(alerts * _MILLION <= false_alarms_per_million * alerts[0]))


def _notes_on_temperature(test: dict[str, Any]) -> list[str]:
    before, after = test["nll_before"], test["nll_after"]
    if before is None or after is None or after <= before:
        return []
    return ["The temperature does not carry over: picked on validation rows, it makes test rows less likely than none would."]


def _notes_on_threshold(validation: np.ndarray, at: int | None, budget: int, realised: dict[str, Any]) -> list[str]:
    rows = int(validation[0])
    if at is None:
        return ["There are no benign validation rows, so no threshold was picked."]
    said = []
    if budget * rows < _RULE_OF_THREE * _MILLION:
        said.append(
            f"{rows:,} benign validation rows are too few to certify {budget:,} false alarms in a million: even if none "
            f"of them raised one, up to {_RULE_OF_THREE * _MILLION / rows:,.0f} in a million would remain possible "
            "(95 % bound)."
        )
    if at == BINS:
        said.append(f"No threshold keeps the budget: {int(validation[-2]):,} of the {rows:,} have the highest score there is.")
    if "test" in realised and realised["test"]["low"] > realised["validation"]["high"]:
        said.append(
            "On test rows there are more false alarms than on validation rows, and more than chance explains: they differ."
        )
    return said


def _share(alerts: np.ndarray, at: int) -> dict[str, Any]:
    rows, hits = int(alerts[0]), int(alerts[at])
    low, high = clopper_pearson(hits, rows)
    return {"rows": rows, "alerts": hits, "rate": hits / rows, "low": low, "high": high}


def _score(at: int) -> float | None:
    """The alarm score at an edge; None: an alert is never raised."""
    return None if at == BINS else float(1 / (1 + math.exp(-EDGES[at]))) if at else 0.0


def _cost_by_threshold(alerts: np.ndarray, verdict: np.ndarray) -> np.ndarray:
    """Expected cost of a thousand test rows at each edge; nan without rows.

    Parameters
    ----------
    alerts : ndarray of int64, shape (attacks, kinds, BINS + 1)
    verdict : ndarray of float64, shape (attacks, kinds)
    """
    by_attack = alerts.sum(axis=1)
    quiet = verdict[:, 0] @ (by_attack[:, :1] - by_attack)
    with np.errstate(invalid="ignore"):
        return 1000 * (np.einsum("akt,ak->t", alerts, verdict) + quiet) / by_attack[:, 0].sum()


def _cost_of_predictions(decided: np.ndarray, prediction: np.ndarray) -> float | None:
    """Expected cost of a thousand rows whose alerts are the predictions; both arrays of shape (attacks, classes)."""
    rows = decided.sum()
    return float(1000 * (decided * prediction).sum() / rows) if rows else None


def _sweep_places(benign: np.ndarray, attacks: np.ndarray, at: int | None) -> np.ndarray:
    """Edges that show how alerts fall as the threshold rises; of those that alert on the same rows, the lowest."""
    seen = np.concatenate([benign, attacks])
    places = np.flatnonzero(np.diff(seen, prepend=-1).any(axis=0))
    # Rates of false alarms matter by their magnitude, down to one in a million.
    with np.errstate(invalid="ignore"):
        rates = np.log10(np.nan_to_num(benign / benign[:, :1])[:, places] + 1e-6) / 6
        path = np.concatenate([rates, np.nan_to_num(attacks / attacks[:, :1])[:, places]])
    kept = places[spread_out(path, _POINTS)]
    return kept if at is None else np.union1d(kept, [at])


def _sweep(
    by_attack: np.ndarray, benign: np.ndarray, attacks: np.ndarray, cost: np.ndarray, kept: np.ndarray
) -> dict[str, Any]:
    """Numbers at each threshold, ascending; of splits and attacks without rows there are none."""
    sweep: dict[str, Any] = {"threshold": [_score(at) for at in kept.tolist()]}
    for i, split in enumerate(UNSEEN):
        if benign[i, 0]:
            sweep[f"false_alarms_{split}"] = rounded(benign[i, kept] / benign[i, 0])
    for name, alerts in (("false_alarms_test", benign[_TEST]), ("recall", attacks[_TEST])):
        if alerts[0]:
            low, high = np.array([clopper_pearson(int(n), int(alerts[0])) for n in alerts[kept]]).T
            sweep |= {name: rounded(alerts[kept] / alerts[0]), f"{name}_low": rounded(low), f"{name}_high": rounded(high)}
    if np.isfinite(cost).all():
        sweep["cost_per_thousand"] = rounded(cost[kept])
    sweep["recall_by_attack"] = {
        a.name: rounded(by_attack[_TEST, a.id, kept] / by_attack[_TEST, a.id, 0])
        for a in ATTACKS if not _BENIGN[a.id] and by_attack[_TEST, a.id, 0]
    }
    return sweep
