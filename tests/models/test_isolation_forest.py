"""Scikit-learn's isolation forest, told by our arrays, from benign rows and no others."""

import numpy as np
import pytest
from pyspark.sql import functions as F
from sklearn.ensemble import IsolationForest

from iomt_ids.contract.errors import ContractError
from iomt_ids.models import isolation_forest
from iomt_ids.models.isolation_forest import Params, grow
from tests.builders import gold, problem

QUICK = Params(trees=20, rows_per_tree=64)


@pytest.mark.parametrize("rows_per_tree", [2, 3, 50, 10_000])
def test_a_row_is_as_strange_as_scikit_learn_says(rows_per_tree):
    dice = np.random.default_rng(3)
    logs = dice.normal(size=(400, 6)).round(1)  # ties, and a feature that does not split
    logs[:, 4] = 2.0
    peer = IsolationForest(n_estimators=30, max_samples=min(rows_per_tree, 400), random_state=9).fit(logs.astype(np.float32))
    ours = grow(logs, Params(trees=30, rows_per_tree=rows_per_tree), 9)
    others = dice.normal(scale=3, size=(500, 6))
    for i, tree in enumerate(ours.trees):  # so near a cut that doubles and single precision disagree
        others[i, tree.feature[0]] = tree.threshold[0] + 1e-10
    values = np.sign(others) * np.expm1(np.abs(others))
    # The logarithm is taken back to single precision by both.
    wanted = -peer.score_samples((np.sign(values) * np.log1p(np.abs(values))).astype(np.float32))
    assert np.abs(ours.strangeness(values) - wanted).max() <= 1e-12


def test_attacks_change_nothing_of_what_is_learnt(spark):
    def learnt(flows, held_out):
        fitted = isolation_forest.fit(flows, problem("binary", [0, 1]), QUICK, validation=held_out, seed=4, launcher=None)
        return fitted.scorer

    train, held_out = (gold(spark, ["Benign", "DoS-TCP"], split=s, seed=i, rows=80) for i, s in enumerate(("train", "validation")))
    strange = train.withColumn("ttl_mean", F.when(F.col("binary_id") == 1, 1e6).otherwise(F.col("ttl_mean")))
    benign = [rows.filter("binary_id = 0").repartition(3) for rows in (train, held_out)]
    one, other = learnt(strange, held_out), learnt(*benign)
    assert (one.threshold, one.spread) == (other.threshold, other.spread)
    assert all(np.array_equal(a.threshold, b.threshold) for a, b in zip(one.trees, other.trees, strict=True))
    # One held-out benign row in a hundred is an alert.
    told = isolation_forest.FittedIsolationForest(one, problem("binary", [0, 1])).transform(held_out.filter("binary_id = 0"))
    assert told.filter("prediction = 1").count() == 1


def test_it_is_asked_for_nothing_that_it_cannot_learn(spark):
    flows = gold(spark, ["DoS-TCP"], rows=5)
    with pytest.raises(ContractError, match="cannot learn the task attack"):
        isolation_forest.fit(flows, problem("attack", [0, 11]), QUICK, validation=flows, seed=4, launcher=None)
    with pytest.raises(ContractError, match="needs benign rows"):
        isolation_forest.fit(flows, problem("binary", [0, 1]), QUICK, validation=flows, seed=4, launcher=None)


def test_more_cuts_than_can_be_told_apart_are_refused(monkeypatch):
    monkeypatch.setattr(isolation_forest, "_MOST_CUTS", 50)
    with pytest.raises(ContractError, match="cuts of one feature are too many"):
        grow(np.random.default_rng(0).normal(size=(100, 2)), QUICK, 1)
