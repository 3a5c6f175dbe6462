"""XGBoost's trees become MLlib's models: the same answers, saved and scored without XGBoost."""

import dataclasses
import sys

import numpy as np
import pytest
from pyspark.ml.classification import GBTClassificationModel
from pyspark.sql import functions as F
from xgboost import XGBClassifier

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.contract.tables import spark_path
from iomt_ids.models.gradient_boosted import DETECTOR, Params
from iomt_ids.models.histogram.score import BoostingScorer
from iomt_ids.models.xgboosting import as_boosting, last_below
from tests.builders import gold, problem

PARAMS = Params(engine="xgboost", rounds=40, depth=3, bins=32, learning_rate=0.5, patience=3)


@pytest.fixture(scope="module")
def flows(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=80, gap=0.7).cache()


@pytest.fixture(scope="module")
def unseen(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=60, gap=0.7, seed=9).cache()


@pytest.fixture(scope="module")
def fitted(flows, unseen):
    return DETECTOR.fit(flows, problem("attack", [0, 1, 11]), PARAMS, validation=unseen, seed=3, launcher=None)


def toy(classes):
    dice = np.random.default_rng(classes)
    labels = dice.integers(classes, size=600)
    rows = dice.normal(size=(600, 5)) + labels[:, None] * np.array([1.0, 0.5, 0.0, 0.2, 0.0])
    # Values that lie between two neighbouring float32, and few distinct ones.
    rows[:, 3] = np.round(rows[:, 3]) / 3
    return rows, labels


@pytest.mark.parametrize("classes", [2, 4])
def test_answers_are_xgboosts(classes):
    rows, labels = toy(classes)
    theirs = XGBClassifier(n_estimators=12, max_depth=4, learning_rate=0.4, max_bin=32, n_jobs=1).fit(rows, labels)
    whole = BoostingScorer(as_boosting(theirs.get_booster().save_raw("json"), 5, 12)).probabilities(rows)
    assert np.abs(whole[0] - theirs.predict_proba(rows)).max() < 1e-6
    assert np.array_equal(whole[1], theirs.predict(rows))
    half = BoostingScorer(as_boosting(theirs.get_booster().save_raw("json"), 5, 6)).probabilities(rows)[0]
    assert np.abs(half - theirs.predict_proba(rows, iteration_range=(0, 6))).max() < 1e-6


def test_a_double_falls_on_the_side_of_its_float32():
    dice = np.random.default_rng(0)
    cuts = (dice.normal(size=20_000) * 10.0 ** dice.integers(-6, 7, 20_000)).astype(np.float32)
    last = last_below(cuts)
    assert (last.astype(np.float32) < cuts).all()
    assert (np.nextafter(last, np.inf).astype(np.float32) >= cuts).all()


def test_importances_are_xgboosts_gain():
    rows, labels = toy(2)
    theirs = XGBClassifier(n_estimators=8, max_depth=4, max_bin=32, n_jobs=1, importance_type="total_gain").fit(rows, labels)
    ours = as_boosting(theirs.get_booster().save_raw("json"), 5, 8).importances()
    assert ours == pytest.approx(theirs.feature_importances_, abs=1e-5)


def test_rounds_end_when_validation_rows_say_so_and_the_best_are_kept(fitted):
    losses = [point["validation_loss"] for point in fitted.curves]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + PARAMS.patience < PARAMS.rounds
    assert fitted.facts["rounds"] == best
    assert fitted.curves[-1]["train_loss"] < fitted.curves[0]["train_loss"]


def test_what_is_saved_is_mllibs_and_says_the_same(spark, fitted, unseen, tmp_path):
    fitted.save(tmp_path)
    again = DETECTOR.load(spark, tmp_path, fitted.problem)
    before, after = (
        [tuple(row) for row in model.transform(unseen).orderBy("flow_id").select("prediction", "probability").collect()]
        for model in (fitted, again)
    )
    assert before == after
    assert sum(p == r.attack_id for (p, _), r in zip(before, unseen.orderBy("flow_id").collect(), strict=True)) > 120
    stock = GBTClassificationModel.load(spark_path(tmp_path / "1"))
    assert stock.getNumTrees == fitted.facts["rounds"]
    assert stock.numFeatures == len(fitted.problem.features)


def test_the_same_seed_gives_the_same_model_however_rows_are_spread(fitted, flows, unseen):
    spread = flows.repartition(5, F.rand(1))
    again = DETECTOR.fit(spread, fitted.problem, PARAMS, validation=unseen, seed=3, launcher=None)
    assert again.curves == fitted.curves
    ours, theirs = (
        [getattr(t, f.name).tobytes() for trees in m.boosting.trees for t in trees for f in dataclasses.fields(t)]
        for m in (again, fitted)
    )
    assert ours == theirs


def test_no_leaf_says_more_than_it_is_asked_to(flows, unseen):
    params = dataclasses.replace(PARAMS, rounds=4, patience=0, workers=1, max_delta_step=0.2)
    model = DETECTOR.fit(flows, problem("attack", [0, 1, 11]), params, validation=unseen, seed=3, launcher=None)
    said = [np.abs(tree.prediction).max() for trees in model.boosting.trees for tree in trees[1:]]
    assert max(said) == pytest.approx(PARAMS.learning_rate * 0.2 / 2, rel=1e-6)  # MLlib's leaves say half of it


def test_rare_classes_weigh_more_if_asked_to(flows, unseen):
    rare = flows.filter("attack_id = 0 OR flow_id % 8 = 0")
    params = dataclasses.replace(PARAMS, rounds=3, patience=0, workers=1)
    found = []
    for power in (0.0, 1.0):
        weighted = dataclasses.replace(params, class_weight_power=power)
        model = DETECTOR.fit(rare, problem("binary", [0, 1]), weighted, validation=unseen, seed=3, launcher=None)
        found.append(model.transform(unseen).agg(F.avg(F.col("probability")[1])).first()[0])
    assert found[1] > found[0] + 0.05


def test_a_batch_may_hold_no_validation_rows(spark, flows, unseen):
    few = unseen.limit(2)
    params = dataclasses.replace(PARAMS, rounds=3, workers=1)
    batch = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "20")
    try:
        model = DETECTOR.fit(flows, problem("binary", [0, 1]), params, validation=few, seed=3, launcher=None)
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch)
    assert [sorted(point) for point in model.curves] == [["epoch", "train_loss", "validation_loss"]] * 3


def test_missing_values_are_refused(flows, unseen):
    holes = flows.withColumn("ttl_mean", F.when(F.col("source_line") > 3, F.col("ttl_mean")))
    with pytest.raises(ContractError, match=r"features are missing: ttl_mean \(6 rows\)"):
        DETECTOR.fit(holes, problem("attack", [0, 1, 11]), PARAMS, validation=unseen, seed=3, launcher=None)


def test_without_the_package_the_message_says_what_to_install(flows, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost.spark", None)
    with pytest.raises(ConfigError, match=r"not installed; .* by `make xgboost` or pip install 'iomt_ids\[xgboost\]'"):
        DETECTOR.fit(flows, problem("attack", [0, 1, 11]), PARAMS, validation=flows, seed=3, launcher=None)
