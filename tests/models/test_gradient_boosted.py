"""Boosted models are MLlib's on disk, the same however rows are spread, and scored as MLlib scores them."""

import dataclasses

import numpy as np
import pytest
from pyspark.ml.classification import GBTClassificationModel
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.models.gradient_boosted import DETECTOR, Params
from iomt_ids.models.histogram import share
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.layout import read_asked, read_boosting, write_boosting
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.score import BoostingScorer
from tests.builders import gold, problem
from tests.models.stock_spark import require_same_verdicts, stock_spark
from tests.models.test_histogram_layout import FACTS

PROBLEM = problem("attack", [0, 1, 11])
SHAPE = BoostShape(5, 4, 16, 0.3, sampling_threshold=0.3)
ASKED = {"maxIter": 5, "maxDepth": 4, "maxBins": 16, "stepSize": 0.3, "seed": 8}
COLUMNS = {"featuresCol": "features", "labelCol": "label", "probabilityCol": "probability", "predictionCol": "prediction"}


@pytest.fixture(scope="module")
def flows(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=200, gap=0.6).cache()


def boosted(classes):
    dice = np.random.default_rng(3)
    labels = dice.integers(classes, size=2000)
    values = dice.normal(size=(2000, 5)) + labels[:, None] * np.array([1.0, 0.5, 0.0, 0.2, 0.0])
    values[:, 3] = np.round(values[:, 3])
    return values, boost(bin_all(values, labels, classes, 16), SHAPE, 8, threads=2)[0]


def written(boosting, folder):
    folder.mkdir()
    write_boosting(boosting, folder, asked=ASKED, columns=COLUMNS, spark_version="4.2.0")
    return folder


def as_bytes(boosting):
    names = [field.name for field in dataclasses.fields(boosting.trees[0][0])]
    trees = [[getattr(tree, name).tobytes() for name in names] for trees in boosting.trees for tree in trees]
    return trees, [weights.tobytes() for weights in boosting.weights]


def test_stock_spark_without_our_package_says_the_same(tmp_path):
    two, three = boosted(2)[1], boosted(3)[1]
    rows = boosted(3)[0]
    one, each = written(two, tmp_path / "two"), written(three, tmp_path / "three")
    folders = [one / "0", *(each / str(i) for i in range(3))]
    halves = []
    for index, (theirs, told) in enumerate(stock_spark(GBTClassificationModel, folders, rows, tmp_path, FACTS)):
        boosting, place = (two, 0) if index == 0 else (three, index - 1)
        # Of one model, whatever the others say: its own probability and label.
        alone = dataclasses.replace(boosting, trees=(boosting.trees[place],), weights=(boosting.weights[place],))
        own, guess = BoostingScorer(alone).probabilities(rows)
        assert np.abs(theirs["probability"] - own).max() <= 1e-12
        assert np.array_equal(theirs["prediction"], guess)
        assert (told["trees"], told["nodes"]) == (5, sum(tree.feature.size for tree in boosting.trees[place]))
        np.testing.assert_allclose(told["importances"], alone.importances(), rtol=1e-12)
        assert as_bytes(read_boosting([folders[index].with_name(f"{place}-again")])) == as_bytes(alone)
        halves.append(theirs["rawPrediction"][:, 1])
    ours, likeliest = BoostingScorer(three).probabilities(rows)
    odds = np.exp(2 * np.array(halves[1:]))
    assert np.abs((odds / odds.sum(axis=0)).T - ours).max() <= 1e-12
    assert np.array_equal(np.argmax(halves[1:], axis=0), likeliest)


def test_reading_is_the_inverse_of_writing_and_bytes_are_the_same(tmp_path):
    _, boosting = boosted(3)
    one, other = (written(boosting, tmp_path / name) for name in ("one", "other"))
    assert as_bytes(read_boosting([one / str(i) for i in range(3)])) == as_bytes(boosting)
    assert read_asked(one / "0") == ASKED
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert [(one / f).read_bytes() for f in files] == [(other / f).read_bytes() for f in files]


@pytest.fixture(scope="module")
def one_partition(flows):
    return share.fit_boosting(flows.coalesce(1), PROBLEM, SHAPE, 3, validation=flows.limit(100))


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_partitions_fetched_or_not(
    flows, one_partition, partitions, monkeypatch
):
    monkeypatch.setattr(share, "_FEW_BYTES", 0)
    spread = flows.repartition(partitions, F.rand(partitions))
    boosting, curves = share.fit_boosting(spread, PROBLEM, SHAPE, 3, validation=flows.limit(100).repartition(partitions))
    assert as_bytes(boosting) == as_bytes(one_partition[0])
    assert curves == one_partition[1]


@pytest.mark.parametrize("few", [0, share._FEW_BYTES])
def test_without_validation_rows_all_rounds_are_kept(flows, few, monkeypatch):
    monkeypatch.setattr(share, "_FEW_BYTES", few)
    boosting, curves = share.fit_boosting(flows, PROBLEM, SHAPE, 3, validation=flows.limit(0))
    assert SHAPE.patience > 0
    assert {len(trees) for trees in boosting.trees} == {len(curves)} == {SHAPE.rounds}


def test_they_are_the_trees_that_one_process_grows_from_the_rows_in_order(flows):
    rows = flows.orderBy("flow_id").toPandas()
    labels = np.searchsorted([0, 1, 11], rows["attack_id"])
    binned = bin_all(rows[list(PROBLEM.features)].to_numpy(), labels, 3, 16, ids=rows["flow_id"].to_numpy())
    shape = dataclasses.replace(SHAPE, patience=0)
    found, _ = share.fit_boosting(flows, PROBLEM, shape, 3, validation=flows.limit(0))
    assert as_bytes(found) == as_bytes(boost(binned, shape, 3, threads=1)[0])


@pytest.mark.parametrize(("task", "labels"), [("attack", [0, 1, 11]), ("binary", [0, 1])])
def test_models_of_mllibs_own_are_read_and_scored_as_mllib_does(spark, flows, tmp_path, task, labels):
    params = Params(engine="mllib", rounds=3, depth=3)
    theirs = DETECTOR.fit(flows, problem(task, labels), params, validation=flows, seed=1, launcher=None)
    theirs.save(tmp_path)
    ours = DETECTOR.load(spark, tmp_path, theirs.problem)
    require_same_verdicts(theirs, ours, flows)
    assert ours.importances == pytest.approx(theirs.importances, rel=1e-9)
    assert ours.facts["nodes"] == theirs.facts["nodes"]


def test_validation_rows_of_classes_that_were_not_learnt_are_left_out(flows):
    fitted = DETECTOR.fit(
        flows.filter("attack_id < 11"), problem("attack", [0, 1]), Params(rounds=3), validation=flows, seed=1, launcher=None
    )
    assert [sorted(point) for point in fitted.curves] == [["epoch", "train_loss", "validation_loss"]] * 3


@pytest.mark.parametrize(("params", "wanted"), [
    (Params(engine="mlib"), "histogram, mllib or xgboost"), (Params(bins=257), "bins 2 to 256"),
])
def test_impossible_parameters_are_refused(flows, params, wanted):
    with pytest.raises(ConfigError, match=wanted):
        DETECTOR.fit(flows, PROBLEM, params, validation=flows, seed=0, launcher=None)


def test_a_single_class_is_refused(flows):
    with pytest.raises(ContractError, match="single class in the train split"):
        DETECTOR.fit(flows, problem("attack", [0]), Params(), validation=flows, seed=0, launcher=None)
