"""Costs are what a plain program adds up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, TASKS
from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.costs import cost_matrix, verdict_costs
from iomt_ids.evaluate.score_counts import kinds_of
from tests.evaluate.simulated import COSTS, alarm_scores, counted, described, simulated


def by_hand(attack: int, verdict: int | None, task: str) -> float:
    """Of one row; the verdict is a class of the task, or None for no alert."""
    category = ATTACKS[attack].category
    names = ("Benign", "?") if task == "binary" else CATEGORIES
    said = "Benign" if verdict is None else names[kinds_of(task)[verdict]]
    if category == "Benign":
        return 0.0 if said == "Benign" else COSTS.false_alarm
    if said == "Benign":
        return COSTS.missed[category]
    return 0.0 if said in (category, "?") else COSTS.mistaken


@pytest.mark.parametrize("task", TASKS)
def test_expected_costs_are_those_of_the_rows_one_by_one(task):
    rows = simulated(task, 3000, sharpness=0.6)
    entry = described(task, counted(task, rows), budget=50_000)
    mine = np.flatnonzero(rows["split"] == 1)
    predicted = [by_hand(rows["attack"][i], rows["prediction"][i], task) for i in mine]
    assert entry["cost"]["per_thousand_argmax"] == pytest.approx(1000 * np.mean(predicted))
    scores, attacks = alarm_scores(task, rows), np.flatnonzero(kinds_of(task) > 0)
    for threshold, cost in list(zip(entry["sweep"]["threshold"], entry["sweep"]["cost_per_thousand"], strict=True))[::7]:
        told = [
            by_hand(rows["attack"][i], None if threshold is None or scores[i] < threshold
                    else attacks[rows["probability"][attacks, i].argmax()], task)
            for i in mine
        ]
        assert cost == pytest.approx(1000 * np.mean(told), rel=1e-5)
    assert entry["cost"]["per_thousand"] == pytest.approx(entry["sweep"]["cost_per_thousand"][entry["point"]], rel=1e-5)


def test_a_category_without_a_cost_is_named():
    with pytest.raises(ContractError, match="DDoS, Recon"):
        cost_matrix(SimpleNamespace(false_alarm=1, mistaken=1, missed={"DoS": 1, "MQTT": 1, "Spoofing": 1}))


def test_a_right_verdict_costs_nothing():
    for task in TASKS:
        costs, kinds = verdict_costs(cost_matrix(COSTS), task), kinds_of(task)
        assert [costs[a.id, kinds[LABELS[task](a)]] for a in ATTACKS] == [0.0] * len(ATTACKS)


LABELS = {"attack": lambda a: a.id, "category": lambda a: CATEGORIES.index(a.category),
          "binary": lambda a: int(a.category != "Benign")}
