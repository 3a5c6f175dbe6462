"""The exported forest is MLlib's: stock Spark loads it without our package and says the same."""

import numpy as np
import pytest
from pyspark import SparkContext
from pyspark.ml.classification import RandomForestClassificationModel
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import spark_path
from iomt_ids.models.histogram.forest import Shape, grow_threaded
from iomt_ids.models.histogram.layout import read_forest, read_shape, write_forest
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.score import ForestScorer, matrix
from iomt_ids.models.random_forest import DETECTOR, Params
from tests.builders import gold, problem
from tests.models.stock_spark import require_same_verdicts, stock_spark

SHAPE = Shape(7, 9, 32, "sqrt", 1)
COLUMNS = {"featuresCol": "features", "labelCol": "label", "probabilityCol": "probability", "predictionCol": "prediction"}

FACTS = """{
    "trees": model.getNumTrees, "nodes": model.totalNumNodes, "debug": model.toDebugString,
    "importances": model.featureImportances.toArray().tolist(),
}"""


@pytest.fixture(scope="module")
def rows():
    dice = np.random.default_rng(3)
    labels = dice.integers(4, size=3000)
    values = dice.normal(size=(3000, 5)) + labels[:, None] * np.array([1.0, 0.5, 0.0, 0.2, 0.0])
    values[:, 3] = np.round(values[:, 3])
    return values, labels


@pytest.fixture(scope="module")
def forest(rows):
    return grow_threaded(bin_all(rows[0], rows[1], 4, 32), SHAPE, 8, threads=2)


def written(forest, folder):
    write_forest(forest, folder, shape=SHAPE, seed=8, columns=COLUMNS, spark_version="4.2.0")
    return folder


def same(one, other):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one.trees, other.trees, strict=True)
        for name in ("feature", "threshold", "right", "counts", "gain")
    )


def test_stock_spark_without_our_package_says_the_same(forest, rows, tmp_path):
    model = written(forest, tmp_path / "model")
    (theirs, told), = stock_spark(RandomForestClassificationModel, [model], rows[0], tmp_path, FACTS)
    ours, likeliest = ForestScorer(forest).probabilities(rows[0])
    assert np.array_equal(theirs["prediction"], likeliest)
    assert np.abs(theirs["probability"] - ours).max() <= 1e-12
    assert (told["trees"], told["nodes"]) == (7, forest.nodes)
    np.testing.assert_allclose(told["importances"], forest.importances(), rtol=1e-12)
    assert f"<= {forest.trees[0].threshold[0]})" in told["debug"]
    assert same(read_forest(tmp_path / "model-again"), forest)


def test_reading_is_the_inverse_of_writing(forest, tmp_path):
    folder = written(forest, tmp_path / "model")
    assert same(read_forest(folder), forest)
    assert read_shape(folder) == (SHAPE, 8)


def test_the_same_forest_is_written_as_the_same_bytes(forest, tmp_path):
    one, other = (written(forest, tmp_path / name) for name in ("one", "other"))
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert [(one / f).read_bytes() for f in files] == [(other / f).read_bytes() for f in files]


@pytest.fixture(scope="module")
def fitted(spark):
    flows = gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=150, gap=0.7).cache()
    params = Params(engine="mllib", trees=9, depth=6)
    return flows, DETECTOR.fit(flows, problem("attack", [0, 1, 11]), params, validation=flows, seed=1, launcher=None)


def test_a_forest_of_mllibs_own_is_read_and_scored_as_mllib_does(spark, fitted, tmp_path):
    flows, theirs = fitted
    theirs.save(tmp_path)
    ours = DETECTOR.load(spark, tmp_path, theirs.problem)
    require_same_verdicts(theirs, ours, flows)
    assert ours.importances == pytest.approx(theirs.importances, rel=1e-12)
    model = RandomForestClassificationModel.load(spark_path(tmp_path / "mllib"))
    assert model.totalNumNodes == ours.facts["nodes"]


def test_a_missing_value_is_refused_and_never_scored(spark, fitted, tmp_path):
    flows, theirs = fitted
    theirs.save(tmp_path)
    ours = DETECTOR.load(spark, tmp_path, theirs.problem)
    for value in ("null", "double('nan')"):
        holed = flows.selectExpr(*[c for c in flows.columns if c != "ttl_mean"], f"{value} as ttl_mean").limit(3)
        with pytest.raises(Exception, match=r"ContractError: features are missing: ttl_mean \(\d+ rows\)"):
            ours.transform(holed).collect()


def test_a_verdict_leaves_every_column_as_it_was(spark, fitted, tmp_path):
    flows, theirs = fitted
    theirs.save(tmp_path)
    # One feature of another type, and one that is not the first of its row.
    whole = flows.withColumn("ttl_mean", F.col("ttl_mean").cast("float"))
    scored = DETECTOR.load(spark, tmp_path, theirs.problem).transform(whole)
    assert scored.columns == [*whole.columns, "probability", "prediction"]
    assert [f.dataType for f in scored.schema][: len(whole.columns)] == [f.dataType for f in whole.schema]
    assert scored.select(whole.columns).orderBy("flow_id").collect() == whole.orderBy("flow_id").collect()


def test_a_forest_is_broadcast_once_however_often_it_is_asked(spark, fitted, tmp_path, monkeypatch):
    flows, theirs = fitted
    theirs.save(tmp_path)
    sent, broadcast = [], SparkContext.broadcast
    monkeypatch.setattr(SparkContext, "broadcast", lambda self, what: sent.append(what) or broadcast(self, what))
    one, other = (DETECTOR.load(spark, tmp_path, theirs.problem) for _ in range(2))
    found = [model.transform(flows).orderBy("flow_id").collect() for model in (one, one, other)]
    assert sent == [one.scorer, other.scorer] and found[0] == found[1] == found[2]


def test_a_matrix_names_every_missing_feature(spark):
    batch = spark.sql("select 1.0D a, double('nan') b, cast(null as double) c").toArrow().to_batches()[0]
    with pytest.raises(ContractError, match=r"b \(1 rows\), c \(1 rows\)"):
        matrix(batch, ["a", "b", "c"])
