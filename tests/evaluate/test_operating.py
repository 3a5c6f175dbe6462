"""A threshold keeps its budget on the rows it was picked on, and is reported honestly on those it was not."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pyspark.sql import SparkSession

from iomt_ids.contract.attacks import ATTACKS, TASKS
from iomt_ids.evaluate.compare import operating_table
from iomt_ids.evaluate.intervals import clopper_pearson
from iomt_ids.evaluate.operating import choose_threshold
from iomt_ids.evaluate.score_counts import BINS, UNSEEN, ScoreCounts, bins_of, count_scores
from tests.builders import problem
from tests.evaluate.simulated import BENIGN, alarm_scores, as_frame, counted, described, simulated

VALIDATION, TEST, PROFILE = range(3)


def normal_tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def benign_counts(splits: dict[int, np.ndarray]) -> ScoreCounts:
    """Benign rows of the binary task with these log-odds, and a thousand attacks in the test split."""
    counts = ScoreCounts.empty("binary")
    for split, log_odds in splits.items():
        score = 1 / (1 + np.exp(-log_odds))
        np.add.at(counts.alarm[split, 0, 1], bins_of(score, 1 / (1 + np.exp(log_odds))), 1)
        counts.decided[split, 0, 0] += len(log_odds)
    counts.alarm[TEST, 1, 1, BINS - 1] = counts.decided[TEST, 1, 1] = 1000
    return counts


@pytest.mark.parametrize("task", TASKS)
def test_every_number_at_a_threshold_is_that_of_the_rows(task: str) -> None:
    rows = simulated(task, 4000, sharpness=0.7)
    entry = described(task, counted(task, rows), budget=30_000)
    scores, benign = alarm_scores(task, rows), BENIGN[rows["attack"]]
    sweep = entry["sweep"]
    for i, threshold in enumerate(sweep["threshold"]):
        alert = np.zeros(4000, bool) if threshold is None else scores >= threshold
        for place, split in enumerate(UNSEEN):
            mine = benign & (rows["split"] == place)
            assert sweep[f"false_alarms_{split}"][i] == pytest.approx(alert[mine].mean(), rel=1e-5)
        mine = ~benign & (rows["split"] == TEST)
        assert sweep["recall"][i] == pytest.approx(alert[mine].mean(), rel=1e-5)
        assert [sweep["recall_low"][i], sweep["recall_high"][i]] == pytest.approx(
            clopper_pearson(int(alert[mine].sum()), int(mine.sum())), rel=1e-5)
        for name, found in sweep["recall_by_attack"].items():
            of_attack = mine & (rows["attack"] == next(a.id for a in ATTACKS if a.name == name))
            assert found[i] == pytest.approx(alert[of_attack].mean(), rel=1e-5)
    at = entry["point"]
    assert sweep["threshold"][at] == entry["threshold"]
    assert sweep["false_alarms_test"][at] == pytest.approx(entry["false_alarms"]["test"]["rate"], rel=1e-5)
    assert sweep["recall"][at] == pytest.approx(entry["recall"]["rate"], rel=1e-5)
    assert {n: s[at] for n, s in sweep["recall_by_attack"].items()} == pytest.approx(
        {n: s["rate"] for n, s in entry["recall_by_attack"].items()}, rel=1e-5)


@pytest.mark.parametrize("budget", [1, 5000, 30_000, 200_000, 900_000])
def test_the_threshold_is_the_lowest_that_keeps_the_budget_on_validation_rows(budget: int) -> None:
    rows = simulated("category", 4000, sharpness=0.5)
    entry = described("category", counted("category", rows), budget=budget)
    mine = BENIGN[rows["attack"]] & (rows["split"] == VALIDATION)
    scores, threshold = alarm_scores("category", rows)[mine], entry["threshold"]
    assert (scores >= threshold).mean() <= budget / 1e6
    # A bin is a 64th of a unit of log-odds wide: that much lower, and the budget is broken.
    lower = 1 / (1 + (1 - threshold) / threshold * math.exp(1 / 64))
    assert (scores >= lower - 1e-12).mean() > budget / 1e6
    assert entry["false_alarms"]["validation"]["rate"] == (scores >= threshold).mean()


def test_the_realised_rate_is_near_the_budget_and_its_interval_covers_the_truth() -> None:
    covered, rates = 0, []
    for seed in range(30):
        dice = np.random.default_rng(seed)
        entry = described(
            "binary", benign_counts({VALIDATION: dice.normal(-6, 2, 60_000), TEST: dice.normal(-6, 2, 40_000)}), budget=1000
        )
        threshold, realised = entry["threshold"], entry["false_alarms"]["test"]
        truth = normal_tail((math.log(threshold / (1 - threshold)) + 6) / 2)
        covered += realised["low"] <= truth <= realised["high"]
        rates.append(truth)
        assert entry["certifiable"] and not entry["notes"]
    assert covered >= 27
    assert np.mean(rates) == pytest.approx(1e-3, rel=0.1)


def test_no_test_row_has_a_say_in_temperature_or_threshold(spark: SparkSession) -> None:
    rows = simulated("attack", 800, sharpness=2.0)
    other = {name: values.copy() for name, values in rows.items()}
    moved = rows["split"] != VALIDATION
    other["probability"][:, moved] = rows["probability"][::-1, moved]
    other["prediction"] = other["probability"].argmax(axis=0)
    for name in ("label", "attack"):
        other[name][moved] = (rows[name][moved] + 3) % 21
    before, after = (
        described("attack", count_scores(as_frame(spark, "attack", r), problem("attack", [0, 1])), budget=20_000)
        for r in (rows, other)
    )
    assert before["calibration"]["temperature"] == after["calibration"]["temperature"] != 1
    assert before["threshold"] == after["threshold"]
    assert before["false_alarms"]["validation"] == after["false_alarms"]["validation"]
    assert before["recall"] != after["recall"]
    assert before["calibration"]["test"] != after["calibration"]["test"]


def test_too_few_validation_rows_to_certify_a_budget_are_said() -> None:
    few, enough = (described("binary", benign_counts({VALIDATION: np.full(n, -9.0)}), budget=1000) for n in (2999, 3000))
    assert not few["certifiable"] and enough["certifiable"] and not enough["notes"]
    assert "2,999 benign validation rows are too few to certify 1,000" in few["notes"][0]
    assert "up to 1,000 in a million" in few["notes"][0]


def test_without_validation_rows_no_threshold_is_picked_but_the_sweep_is_there() -> None:
    entry = described("binary", benign_counts({TEST: np.array([-3.0, 1.0])}))
    assert (entry["threshold"], entry["point"], entry["recall"], entry["false_alarms"]) == (None, None, None, {})
    assert entry["notes"] == ["There are no benign validation rows, so no threshold was picked."]
    assert entry["sweep"]["false_alarms_test"] == [1.0, 0.5, 0.0, 0.0]
    assert "false_alarms_validation" not in entry["sweep"]


def test_a_budget_that_no_threshold_keeps_means_never_to_alert() -> None:
    entry = described("binary", benign_counts({VALIDATION: np.full(50, 30.0), TEST: np.full(50, 30.0)}))
    assert entry["threshold"] is None
    assert entry["recall"]["rate"] == entry["false_alarms"]["test"]["rate"] == 0
    assert any("No threshold keeps the budget: 50 of the 50" in note for note in entry["notes"])
    assert " never " in operating_table({"operating": [entry]})


def test_test_rows_beyond_the_budget_are_said_aloud_and_profiles_are_a_second_rate() -> None:
    entry = described(
        "binary",
        benign_counts({VALIDATION: np.linspace(-9, -3, 5000), TEST: np.linspace(-6, 0, 5000), PROFILE: np.full(10, 2.0)}),
    )
    assert entry["notes"] == [
        "On test rows there are more false alarms than on validation rows, and more than chance explains: they differ."
    ]
    assert entry["false_alarms"]["profile"]["alerts"] == 10


def test_a_temperature_that_does_not_carry_over_is_said() -> None:
    easy, hard = simulated("category", 3000, sharpness=0.5), simulated("category", 3000, seed=1, sharpness=2.0)
    mixed = {name: np.concatenate([easy[name], hard[name]], axis=-1) for name in easy}
    mixed["split"] = np.repeat([VALIDATION, TEST], 3000)
    entry = described("category", counted("category", mixed))
    assert entry["calibration"]["test"]["ece_after"] > entry["calibration"]["test"]["ece_before"]
    assert any("temperature does not carry over" in note for note in entry["notes"])
    alike = described("category", counted("category", simulated("category", 6000, sharpness=0.5)))
    assert not any("temperature" in note for note in alike["notes"])


def test_a_single_row_can_be_allowed() -> None:
    assert choose_threshold(np.array([100, 5, 1, 0]), 10_000) == 2
    assert choose_threshold(np.array([100, 5, 1, 0]), 9_999) == 3


@pytest.mark.parametrize("task", TASKS)
def test_an_entry_is_json_and_small(task: str) -> None:
    entry = described(task, counted(task, simulated(task, 3000)))
    text = json.dumps(entry, allow_nan=False)
    assert json.loads(text) == entry
    assert len(text) < 100_000
    assert max(len(c["recall"]) for c in entry["classes"].values()) <= 100
    empty = described(task, ScoreCounts.empty(task))
    assert json.loads(json.dumps(empty, allow_nan=False)) == empty


def test_the_terminal_table_tells_the_same_numbers() -> None:
    entry = described("attack", counted("attack", simulated("attack", 3000)), budget=1000, detector="random_forest")
    lines = operating_table({"operating": [entry, entry | {"features": "all", "detector": "leaky"}]}).splitlines()
    assert max(map(len, lines)) < 120
    assert not any("leaky" in line for line in lines)
    row = next(line for line in lines if line.startswith("random_forest"))
    alarms = entry["false_alarms"]["test"]
    assert f"{alarms['rate'] * 1e6:,.0f} ({alarms['low'] * 1e6:,.0f}-{alarms['high'] * 1e6:,.0f})" in row
    assert f"{entry['threshold']:.4f}" in row and f"{entry['recall']['rate']:.3f}"[1:] in row
    assert " ".join(lines).count("too few to certify") == 1
    assert operating_table({"operating": []}) == ""
