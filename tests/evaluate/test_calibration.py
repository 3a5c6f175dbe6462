"""Losses and calibration errors are scikit-learn's, and a known temperature is found."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from iomt_ids.contract.attacks import TASKS
from iomt_ids.evaluate.calibration import calibration_error, choose_temperature, describe_calibration, negative_log_likelihood
from iomt_ids.evaluate.score_counts import TEMPERATURES, UNCHANGED, UNIT, UNSEEN
from tests.evaluate.simulated import counted, simulated

TEST = UNSEEN.index("test")


def at_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    raised = probability ** (1 / temperature)
    return raised / raised.sum(axis=0)


@pytest.mark.parametrize("task", TASKS)
def test_losses_and_errors_at_every_temperature_are_scikit_learns(task: str) -> None:
    rows = simulated(task, 900, sharpness=1.7)
    rows["probability"][:, :50] = np.eye(len(rows["probability"]))[:, rows["prediction"][:50]]
    counts = counted(task, rows)
    mine = rows["split"] == TEST
    label, right = rows["label"][mine], (rows["label"] == rows["prediction"])[mine]
    for t in (0, UNCHANGED, 30, len(TEMPERATURES) - 1):
        raised = at_temperature(rows["probability"], TEMPERATURES[t])[:, mine]
        theirs = log_loss(label, raised.T, labels=range(len(raised)))
        assert negative_log_likelihood(counts, TEST, t) == pytest.approx(theirs, abs=2 * UNIT)
        confidence = raised.max(axis=0)
        accuracy, mean = calibration_curve(right, confidence, n_bins=15)
        filled = np.histogram(confidence, np.linspace(0, 1, 16))[0]
        theirs = np.abs(accuracy - mean) @ filled[filled > 0] / filled.sum()
        assert calibration_error(counts.reliability[TEST, t]) == pytest.approx(theirs, abs=2 * UNIT)


@pytest.mark.parametrize(("sharpness", "temperature"), [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (0.5, 0.5)])
def test_a_known_temperature_is_found_and_mends_the_error(sharpness: float, temperature: float) -> None:
    entry = describe_calibration(counted("attack", simulated("attack", 12_000, sharpness=sharpness)))
    assert entry["temperature"] == pytest.approx(temperature, rel=0.1)
    for split in ("validation", "test"):
        assert entry[split]["ece_after"] < 0.02
        assert entry[split]["nll_after"] <= entry[split]["nll_before"] + 1e-3
    if sharpness != 1:
        assert entry["test"]["ece_before"] > 3 * entry["test"]["ece_after"]


def test_a_row_whose_class_was_ruled_out_has_no_say() -> None:
    rows = simulated("category", 4000, sharpness=2.0)
    before = choose_temperature(counted("category", rows))
    ruled_out = np.flatnonzero(rows["split"] == 0)[:400]
    rows["probability"][:, ruled_out] = 0
    rows["probability"][(rows["label"][ruled_out] + 1) % 6, ruled_out] = 1
    assert choose_temperature(counted("category", rows)) == pytest.approx(before, abs=1)


def test_without_validation_rows_there_is_no_temperature() -> None:
    rows = simulated("binary", 200)
    entry = describe_calibration(counted("binary", rows | {"split": np.full(200, TEST)}))
    assert entry["temperature"] is None
    assert entry["validation"] == {
        "rows": 0, "nll_before": None, "ece_before": None, "nll_after": None, "ece_after": None,
    }
    assert entry["test"]["ece_before"] is not None and entry["test"]["ece_after"] is None


def test_reliability_bins_hold_all_test_rows() -> None:
    rows = simulated("attack", 1000)
    bins = describe_calibration(counted("attack", rows))["reliability"]
    for when in ("before", "after"):
        assert sum(b["rows"] for b in bins[when]) == np.count_nonzero(rows["split"] == TEST)
        assert all(0 <= b["accuracy"] <= 1 for b in bins[when])
        assert [b["confidence"] for b in bins[when]] == sorted(b["confidence"] for b in bins[when])
