import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.scores import OVERALL, PER_CLASS, Tally, f1_macro, interval, score

CLASSES = tuple("abcdef")
PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=300)


def tally_of(pairs, benign=(0,)):
    matrix = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    for truth, said in pairs:
        matrix[truth, said] += 1
    return Tally(matrix, benign)


def scores_of(pairs, benign=(0,)):
    return score(tally_of(pairs, benign), CLASSES, resamples=100, seed=1)


def close(ours, theirs):
    return math.isclose(ours, theirs, abs_tol=1e-12)


@given(PAIRS)
def test_every_average_equals_scikit_learns(pairs):
    truth, said = map(list, zip(*pairs, strict=True))
    ours, present = scores_of(pairs), sorted(set(truth))
    for average in ("macro", "weighted"):
        theirs = sk.precision_recall_fscore_support(truth, said, labels=present, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
            assert close(ours[f"{name}_{average}"], value), name
    assert close(ours["accuracy"], sk.accuracy_score(truth, said))
    assert close(ours["mcc"], sk.matthews_corrcoef(truth, said))


@given(PAIRS)
def test_every_score_of_a_class_equals_scikit_learns(pairs):
    truth, said = map(list, zip(*pairs, strict=True))
    theirs = sk.precision_recall_fscore_support(truth, said, labels=range(len(CLASSES)), zero_division=np.nan)
    by_class = sk.multilabel_confusion_matrix(truth, said, labels=range(len(CLASSES)))
    scores = scores_of(pairs)
    for i, name in enumerate(CLASSES):
        ours = scores["per_class"][name]
        assert ours["support"] == theirs[3][i]
        (tn, fp), _ = by_class[i]
        assert ours["false_alarm_rate"] is None if tn + fp == 0 else close(ours["false_alarm_rate"], fp / (tn + fp))
        assert ours["precision"] is None if np.isnan(theirs[0][i]) else close(ours["precision"], theirs[0][i])
        assert ours["recall"] is None if np.isnan(theirs[1][i]) else close(ours["recall"], theirs[1][i])
        if ours["support"]:
            assert close(ours["f1"], theirs[2][i])


def test_500_random_matrices_are_scored_as_scikit_learn_scores_them():
    dice, places = np.random.default_rng(5), np.indices((6, 6)).reshape(2, 36)
    for trial in range(500):
        # Up to millions of rows, classes that do not occur, classes that are never predicted.
        matrix = dice.integers(0, 10 ** dice.integers(1, 7), (6, 6)) * (dice.random((6, 1)) < 0.8) * (dice.random((1, 6)) < 0.8)
        matrix[0, 0] += not matrix.any()
        (truth, said), rows = places, matrix.ravel()
        present, ours = np.flatnonzero(matrix.sum(axis=1)), Tally(matrix, (0,))
        for average in ("macro", "weighted"):
            theirs = sk.precision_recall_fscore_support(
                truth, said, labels=present, average=average, zero_division=0, sample_weight=rows
            )
            for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
                assert close(OVERALL[f"{name}_{average}"](ours), value), (trial, name, average)
        assert close(OVERALL["accuracy"](ours), sk.accuracy_score(truth, said, sample_weight=rows)), trial
        assert close(OVERALL["mcc"](ours), sk.matthews_corrcoef(truth, said, sample_weight=rows)), trial
        theirs = sk.precision_recall_fscore_support(truth, said, labels=range(6), zero_division=np.nan, sample_weight=rows)
        for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
            # A class that never occurs has no F1 here, whatever it is taken for.
            where = slice(None) if name != "f1" else present
            np.testing.assert_allclose(PER_CLASS[name](ours)[where], values[where], rtol=0, atol=1e-12, err_msg=f"{trial} {name}")
        (tn, fp) = sk.multilabel_confusion_matrix(truth, said, labels=range(6), sample_weight=rows)[:, 0].T
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(PER_CLASS["false_alarm_rate"](ours), fp / (tn + fp), rtol=0, atol=1e-12)


def test_an_absent_attack_has_no_score():
    absent = scores_of([(0, 0), (1, 1)])["per_class"]["c"]
    assert absent == {"precision": None, "recall": None, "f1": None, "false_alarm_rate": 0.0, "support": 0}


def test_an_absent_attack_that_is_predicted_does_not_count_in_the_average():
    assert scores_of([(0, 0), (0, 2)])["f1_macro"] == pytest.approx(2 / 3)


def test_an_attack_that_is_never_predicted_counts_as_zero():
    scores = scores_of([(0, 0), (1, 0)])
    assert scores["per_class"]["b"]["f1"] == 0
    assert scores["f1_macro"] == pytest.approx((2 / 3) / 2)


def test_a_benign_row_taken_for_another_benign_class_is_no_false_alarm():
    assert scores_of([(0, 1), (0, 0), (1, 2), (1, 1)], benign=(0, 1))["false_alarm_rate"] == 0.25


def test_there_is_no_false_alarm_rate_without_benign_rows():
    assert scores_of([(1, 0), (1, 1)])["false_alarm_rate"] is None


def test_the_interval_holds_the_score_and_narrows_with_rows():
    few, many = tally_of([(0, 0), (0, 1), (1, 1)] * 10), tally_of([(0, 0), (0, 1), (1, 1)] * 1000)
    widths = []
    for tally in (few, many):
        low, high = interval(tally, f1_macro, resamples=400, seed=0)
        assert low < f1_macro(tally) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draw, inside = np.random.default_rng(0), 0
    truth = np.array([[0.4, 0.1], [0.1, 0.4]])
    wanted = f1_macro(Tally((truth * 1e6).astype(int), (0,)))
    for _ in range(200):
        sample = draw.multinomial(300, truth.ravel()).reshape(2, 2)
        low, high = interval(Tally(sample, (0,)), f1_macro, resamples=200, seed=1)
        inside += low <= wanted <= high
    assert 180 <= inside <= 199


def test_without_rows_nothing_has_a_score():
    empty = score(Tally(np.zeros((6, 6), dtype=np.int64), (0,)), CLASSES, resamples=100, seed=0)
    numbers = {name: value for name, value in empty.items() if name not in ("rows", "per_class", "classes", "confusion")}
    assert set(numbers.values()) == {None}


def test_a_matrix_that_is_not_square_is_refused():
    with pytest.raises(ContractError, match="square"):
        Tally(np.zeros((2, 3), dtype=np.int64), (0,))


def test_every_registered_metric_says_what_it_is():
    assert all(metric.__doc__ for metric in (*OVERALL.values(), *PER_CLASS.values()))
