"""Areas and curves are scikit-learn's: exactly where scores sit on bins, closely where they lie inside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from iomt_ids.contract.attacks import TASKS, class_names
from iomt_ids.evaluate.curves import average_precision, describe_curves, roc_auc, spread_out
from iomt_ids.evaluate.score_counts import UNSEEN
from tests.evaluate.simulated import counted, simulated

TEST = UNSEEN.index("test")
PAIRS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=400)


def binned(pairs):
    places, own = (np.array(column) for column in zip(*pairs, strict=True))
    return np.bincount(places[~own], minlength=13), np.bincount(places[own], minlength=13), places, own


@given(PAIRS)
def test_areas_of_scores_on_bins_are_scikit_learns(pairs):
    others, own, places, is_own = binned(pairs)
    if own.any() and others.any():
        assert roc_auc(others, own) == pytest.approx(roc_auc_score(is_own, places), abs=1e-12)
        assert average_precision(others, own) == pytest.approx(average_precision_score(is_own, places), abs=1e-12)
    else:
        assert roc_auc(others, own) is None


@pytest.mark.parametrize("task", TASKS)
def test_areas_of_any_scores_are_scikit_learns_to_the_width_of_a_bin(task):
    rows = simulated(task, 5000)
    mine = rows["split"] == TEST
    found = describe_curves(counted(task, rows).rest[TEST], class_names(task))
    for c, name in enumerate(class_names(task)):
        own, score = rows["label"][mine] == c, rows["probability"][c, mine]
        assert found[name]["rows"] == own.sum()
        assert found[name]["roc_auc"] == pytest.approx(roc_auc_score(own, score), abs=2e-3)
        assert found[name]["average_precision"] == pytest.approx(average_precision_score(own, score), abs=5e-3)


@given(PAIRS)
def test_every_point_of_a_curve_is_one_of_scikit_learns(pairs):
    others, own, places, is_own = binned(pairs)
    curve = describe_curves(np.array([[others, own]]), ["a"])["a"]
    if not own.any() or not others.any():
        assert set(curve) == {"rows", "roc_auc", "average_precision"}
        return
    false, recall, _ = roc_curve(is_own, places, drop_intermediate=False)
    assert curve["false_positive_rate"] == pytest.approx(false[1:], abs=1e-5)
    assert curve["recall"] == pytest.approx(recall[1:], abs=1e-5)
    precision, recall, _ = precision_recall_curve(is_own, places)
    theirs = list(zip(recall[:-1], precision[:-1], strict=True))[::-1]
    assert curve["precision"] == pytest.approx([p for _, p in theirs], abs=1e-5)


def test_a_curve_is_thinned_without_its_ends_or_steps():
    curve = describe_curves(counted("binary", simulated("binary", 5000)).rest[TEST], ("Benign", "Attack"))["Attack"]
    points = np.array([curve["false_positive_rate"], curve["recall"], curve["precision"]])
    assert 50 < points.shape[1] <= 100
    assert points[:2, -1].tolist() == [1, 1]
    assert np.abs(np.diff(points)).sum(axis=0).max() < 0.1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(2, 50))
def test_thinning_keeps_both_ends_and_no_more_than_was_asked(steps, points):
    kept = spread_out(np.cumsum(steps)[None, :], points)
    assert len(kept) <= points + 1 and kept[-1] == len(steps) - 1 and (np.diff(kept) > 0).all()
