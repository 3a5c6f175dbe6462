"""Averages of many matrices are those of one by one; intervals cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from iomt_ids.evaluate.bootstrap import f1_averages, f1_intervals, resampled_captures, resampled_rows
from iomt_ids.evaluate.scores import OVERALL, Tally

TRUTH = np.array([[300, 20, 5, 0], [30, 90, 10, 2], [4, 8, 60, 6], [0, 1, 9, 25]])


def test_averages_of_many_matrices_are_those_of_each() -> None:
    dice = np.random.default_rng(0)
    # Some classes do not occur, some are never predicted.
    matrices = dice.integers(0, 30, (500, 5, 5)) * (dice.random((500, 5, 1)) < 0.8) * (dice.random((500, 1, 5)) < 0.8)
    for name, values in f1_averages(matrices).items():
        wanted = np.array([OVERALL[name](Tally(m, (0,))) for m in matrices])
        np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-12, equal_nan=True)


def test_rows_drawn_again_are_as_many_and_in_the_same_places() -> None:
    drawn = resampled_rows(TRUTH, 200, seed=3)
    assert (drawn.sum(axis=(1, 2)) == TRUTH.sum()).all()
    assert (drawn[:, TRUTH == 0] == 0).all()
    assert np.abs(drawn.mean(axis=0) - TRUTH).max() < 5
    assert (resampled_rows(TRUTH, 200, seed=3) == drawn).all()


def test_intervals_cover_the_truth_in_93_to_97_of_100_simulated_sets() -> None:
    dice, share = np.random.default_rng(11), TRUTH / TRUTH.sum()
    wanted = f1_averages((share * 1e9).astype(np.int64)[None])
    inside = dict.fromkeys(wanted, 0)
    for seed in range(1000):
        found = f1_intervals(resampled_rows(dice.multinomial(TRUTH.sum(), share.ravel()).reshape(4, 4), 400, seed))
        for average, truth in wanted.items():
            inside[average] += found[f"{average}_low"] <= truth[0] <= found[f"{average}_high"]
    assert all(930 <= n <= 970 for n in inside.values()), inside


def captures(dice: np.random.Generator, n: int, spread: float) -> dict:
    """Two classes; how often the first is found differs from capture to capture."""
    found = {"a": [], "b": []}
    for _ in range(n):
        for label, attack in enumerate(found):
            right = np.clip(0.8 + spread * dice.normal(), 0, 1)
            hits = dice.binomial(200, right)
            found[attack].append((label, np.array([hits, 200 - hits] if label == 0 else [200 - hits, hits])))
    return found


def matrix(found: dict) -> np.ndarray:
    total = np.zeros((2, 2), np.int64)
    for parts in found.values():
        for label, predicted in parts:
            total[label] += predicted
    return total


def test_where_captures_differ_only_intervals_over_captures_cover_the_truth() -> None:
    dice = np.random.default_rng(5)
    wanted, inside = 0.8, np.zeros(2)
    for seed in range(200):
        found = captures(dice, 12, 0.08)
        for i, drawn in enumerate((resampled_rows(matrix(found), 200, seed), resampled_captures(found, 2, 200, seed))):
            ends = f1_intervals(drawn)
            inside[i] += ends["f1_macro_low"] <= wanted <= ends["f1_macro_high"]
    assert inside[0] < 150
    assert 176 <= inside[1] <= 200


def test_of_a_single_capture_only_rows_are_drawn() -> None:
    alone = {"a": [(0, np.array([160, 40]))], "b": [(1, np.array([40, 160]))]}
    drawn = resampled_captures(alone, 2, 300, seed=1)
    assert (drawn.sum(axis=2) == 200).all()
    by_row, by_capture = f1_intervals(resampled_rows(matrix(alone), 3000, 1)), f1_intervals(resampled_captures(alone, 2, 3000, 1))
    assert by_row["f1_macro_low"] == pytest.approx(by_capture["f1_macro_low"], abs=0.006)
