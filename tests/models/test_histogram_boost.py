"""Boosting against a slow reference, against scikit-learn's and XGBoost's on the real rows, and against itself."""

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score, log_loss
from xgboost import XGBClassifier

from iomt_ids.contract.errors import ConfigError
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.newton import FINE, draw_rows, encode_rows, softmax
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.score import BoostingScorer
from tests.models.boost_reference import reference_rounds
from tests.models.test_histogram_forest import DRAWN, SEEDS, real_rows, toy

SHAPE = BoostShape(4, 4, 16, 0.3)


def as_bytes(boosting):
    return [
        getattr(tree, field.name).tobytes()
        for trees in boosting.trees for tree in trees for field in dataclasses.fields(tree)
    ]


def as_dicts(tree):
    return [
        {"feature": int(f), "threshold": float(t), "right": int(r)}
        for f, t, r in zip(tree.feature, tree.threshold, tree.right, strict=True)
    ]


@pytest.mark.parametrize("shape", [
    SHAPE, BoostShape(3, 5, 16, 0.5, sampling_threshold=0.0), BoostShape(3, 3, 16, 0.3, penalty=0.0, curvature_per_leaf=6.0),
    BoostShape(3, 4, 16, 1.0, sampling_threshold=0.6), BoostShape(2, 0, 16, 0.3), BoostShape(3, 4, 16, 0.5, max_delta_step=0.7),
    BoostShape(3, 4, 16, 0.5, max_delta_step=0.0),
], ids=["usual", "all_rows", "large_leaves_without_penalty", "few_rows", "roots_alone", "short_steps", "no_bound"])
@pytest.mark.parametrize("classes", [2, 4])
def test_trees_are_those_of_a_slow_reference(shape, classes):
    binned = toy(rows=250, classes=classes)
    heavy = dataclasses.replace(binned, weights=1 + np.arange(250) % 3)
    boosting, _ = boost(heavy, shape, 11, threads=2)
    wanted = reference_rounds(heavy, shape, 11)
    for k in range(len(boosting.trees)):
        for index, tree in enumerate(boosting.trees[k]):
            slow = wanted[index][k]
            assert as_dicts(tree) == [{name: n[name] for name in ("feature", "threshold", "right")} for n in slow]
            np.testing.assert_allclose(tree.stats, [n["stats"] for n in slow], rtol=1e-6, atol=1e-6)
            if index > 0:  # the first tree also holds where scores start
                np.testing.assert_allclose(tree.prediction, [n["prediction"] for n in slow], rtol=1e-5, atol=1e-7)


def test_the_first_tree_starts_from_the_shares_of_classes():
    binned = toy(rows=300)
    root = BoostShape(1, 0, 16, 0.3)
    shares = np.bincount(binned.labels) / 300
    said = BoostingScorer(boost(binned, root, 0, threads=1)[0]).probabilities(np.zeros((1, 6)))[0][0]
    np.testing.assert_allclose(said, shares, atol=1e-6)


def test_threads_change_no_byte_and_another_seed_does():
    binned, shape = toy(), dataclasses.replace(SHAPE, sampling_threshold=0.5)
    one, three, other = (boost(binned, shape, seed, threads=n)[0] for seed, n in ((2, 1), (2, 3), (3, 2)))
    assert as_bytes(one) == as_bytes(three)
    assert as_bytes(one) != as_bytes(other)


def test_statistics_of_nodes_are_those_of_a_variance():
    for tree in boost(toy(), SHAPE, 1, threads=1)[0].trees[0]:
        inner = np.flatnonzero(tree.feature >= 0)
        np.testing.assert_allclose(tree.stats[inner], tree.stats[inner + 1] + tree.stats[tree.right[inner]], atol=1e-9)
        assert (tree.impurity >= 0).all()
        assert (tree.gain[inner] >= 0).all()
        assert (tree.gain[tree.feature < 0] == -1).all()
        assert (tree.stats[:, 0] >= 1).all()


@pytest.mark.parametrize(("unit", "close"), [(2.0**12, 0.01), (2.0, 0.05)], ids=["fine", "coarser_than_any_gradient"])
def test_drawn_rows_keep_the_sums_of_gradients_and_curvatures(unit, close):
    dice = np.random.default_rng(0)
    probability = dice.uniform(0, 0.05, 200_000).astype(np.float32)
    labels, weights = np.zeros(200_000, np.uint8), np.ones(200_000, np.int64)
    rows, codes = np.empty(200_000, np.uint32), np.empty(200_000, np.int64)
    told = probability, labels, weights, np.arange(200_000, dtype=np.uint32), 1, 0.05
    n, size = draw_rows(*told, np.uint64(5), rows)
    encode_rows(*told, unit, np.uint64(5), rows[:n], codes)
    assert 0.48 < n / 200_000 < 0.52
    assert size == n * int(0.05 * FINE)
    assert (codes[:n] >> 32).sum() / unit == pytest.approx(probability.sum(dtype=float), rel=close)
    curvature = (probability * (1.0 - probability)).sum(dtype=float)
    assert (codes[:n] & 0xFFFFFFFF).sum() / unit == pytest.approx(curvature, rel=close)


def test_probabilities_are_a_softmax_also_far_out():
    scores = np.random.default_rng(0).normal(0, 40, (5, 2000)).astype(np.float32)
    found = np.empty_like(scores)
    softmax(scores, found, 0, 2000)
    odds = np.exp(scores.astype(float) - scores.max(axis=0))
    exact = odds / odds.sum(axis=0)
    # Scores that lie far below the highest are rounded as coarsely as they are told.
    near = scores > scores.max(axis=0) - 8
    np.testing.assert_allclose(found[near], exact[near], rtol=1e-6)
    np.testing.assert_allclose(found, exact, rtol=5e-6, atol=2e-35)


def test_rounds_end_when_unseen_rows_say_so_and_the_best_are_kept():
    binned, unseen = toy(seed=0), toy(seed=1)
    unseen = dataclasses.replace(unseen, edges=binned.edges)
    shape = BoostShape(80, 5, 16, 0.5, patience=3)
    boosting, curves = boost(binned, shape, 1, threads=2, unseen=unseen)
    losses = [c["validation_loss"] for c in curves]
    best = int(np.argmin(losses)) + 1
    assert len(curves) == best + 3 < 80
    assert {len(trees) for trees in boosting.trees} == {best}
    assert curves[-1]["train_loss"] < curves[0]["train_loss"]
    everything, _ = boost(binned, dataclasses.replace(shape, patience=0), 1, threads=2, unseen=unseen)
    assert {len(trees) for trees in everything.trees} == {80}


def test_billions_of_rows_are_learnt_round_by_round():
    # Rare classes that one column tells: far from where scores start, almost without curvature, and in large numbers.
    labels = np.repeat([0, 1, 2], [1900, 60, 40])
    rows = np.random.default_rng(0).normal(size=(2000, 3)) + 3 * np.eye(3)[labels]
    binned = dataclasses.replace(bin_all(rows, labels, 3, 16), weights=np.full(2000, 2_000_000, np.int64))
    losses = [c["train_loss"] for c in boost(binned, BoostShape(20, 4, 16, 0.3), 0, threads=1)[1]]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01


@pytest.mark.parametrize("wrong", [
    {"rounds": 0}, {"depth": 17}, {"bins": 257}, {"learning_rate": 0.0}, {"sampling_threshold": 1.5}, {"penalty": -1.0},
    {"max_delta_step": -1.0},
])
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ConfigError, match="gradient_boosted: wanted rounds >= 1"):
        dataclasses.replace(SHAPE, **wrong)


def test_on_real_rows_it_is_as_good_as_xgboost_and_scikit_learn(real_data):
    known, names = real_rows(real_data, "train")
    unseen, truth = real_rows(real_data, "test")
    classes, labels = np.unique(names, return_inverse=True)
    keep = np.sort(np.random.default_rng(0).permutation(len(labels))[:20_000])
    known, labels, truth = known[keep], labels[keep], np.searchsorted(classes, truth)
    xgboost = XGBClassifier(n_estimators=20, max_depth=5, learning_rate=0.2, max_bin=64, n_jobs=2).fit(known, labels)
    scikit = HistGradientBoostingClassifier(max_iter=20, max_depth=5, learning_rate=0.2, early_stopping=False).fit(known, labels)
    ours = BoostingScorer(boost(bin_all(known, labels, len(classes), 64), BoostShape(20, 5, 64, 0.2), 0, threads=2)[0])
    answers = [ours.probabilities(unseen)[0], xgboost.predict_proba(unseen), scikit.predict_proba(unseen)]
    f1 = [f1_score(truth, p.argmax(axis=1), average="macro") for p in answers]
    loss = [log_loss(truth, p / p.sum(axis=1, keepdims=True)) for p in answers]
    assert f1[0] >= max(f1[1:]) - 0.01
    assert loss[0] <= min(loss[1:]) + 0.01


def test_on_real_rows_it_is_as_good_as_xgboost_over_twenty_seeds(real_data):
    known, names = real_rows(real_data, "train")
    unseen, truth = real_rows(real_data, "test")
    classes, labels = np.unique(names, return_inverse=True)
    truth, shape = np.searchsorted(classes, truth), BoostShape(20, 5, 64, 0.2)

    def marks(model):
        said = model.predict_proba(unseen) if hasattr(model, "predict_proba") else model.probabilities(unseen)[0]
        loss = log_loss(truth, said / said.sum(axis=1, keepdims=True))
        return np.array([f1_score(truth, said.argmax(axis=1), average="macro"), -loss])

    better = []
    for seed in range(SEEDS):
        keep = np.sort(np.random.default_rng(seed).permutation(len(labels))[:DRAWN])
        learnt = known[keep], labels[keep]
        ours = marks(BoostingScorer(boost(bin_all(*learnt, len(classes), 64), shape, seed, threads=2)[0]))
        settings = {"n_estimators": 20, "max_depth": 5, "learning_rate": 0.2, "max_bin": 64}
        better.append(ours - marks(XGBClassifier(**settings, random_state=seed, n_jobs=2).fit(*learnt)))
    assert np.all(np.mean(better, axis=0) >= [-0.003, -0.003]), better
