import math

import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.flows import feature_names
from iomt_ids.prepare.features import fit_preparation, order_flows, require_complete, state_problem
from tests.builders import bronze, gold

ALL = feature_names("v1", "all")


def test_the_same_rows_are_written_in_the_same_order_however_they_came(spark, tmp_path):
    flows = gold(spark, ["Benign", "DoS-TCP"], rows=50)
    orders = []
    for name, shuffled in {"one": flows.coalesce(1), "many": flows.orderBy(F.desc("flow_id")).repartition(7)}.items():
        ordered = shuffled.transform(order_flows, rows=100)
        ordered.write.partitionBy("split", "category").parquet(str(tmp_path / name))
        files = sorted((tmp_path / name).rglob("*.parquet"), key=lambda f: f.parent.name)
        orders.append([[r.flow_id for r in spark.read.parquet(str(f)).collect()] for f in files])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 2  # one file a partition: a net's shards depend on nothing else


def test_centre_and_scale_are_those_of_the_signed_logarithm(spark):
    flows = bronze(spark, {"ttl_mean": 0.0}, {"ttl_mean": math.e - 1}, {"ttl_mean": 1 - math.e})
    fitted = {r.feature: r for r in fit_preparation(flows, ALL).collect()}
    assert fitted["ttl_mean"].center == pytest.approx(0.0, abs=1e-12)
    assert fitted["ttl_mean"].scale == pytest.approx(math.sqrt(2 / 3))
    assert (fitted["syn_fraction"].scale, fitted["syn_fraction"].rows) == (1.0, 3)


def test_a_feature_that_is_missing_is_named_with_its_rows(spark):
    flows = bronze(spark, {"ttl_mean": None}, {"ttl_mean": None, "weight": None}, {})
    with pytest.raises(ContractError, match=r"ttl_mean \(2 rows\), weight \(1 rows\)"):
        require_complete(flows, ALL)
    require_complete(bronze(spark, {}), ALL)


def test_a_problem_names_the_classes_of_the_train_split_only(spark):
    train = gold(spark, ["DoS-TCP", "Benign"], rows=3)
    asked = state_problem(train, fit_preparation(train, ALL), task="attack", feature_set="leak_free")
    assert asked.labels == (0, 11)
    assert asked.features == feature_names("v1", "leak_free") == tuple(s.feature for s in asked.scaling)


def test_a_problem_says_how_rows_were_cut_and_is_of_no_sequence(spark):
    train = gold(spark, ["Benign"], rows=3).withColumn("split_scheme", F.lit("random, test 0.2, salt s"))
    asked = state_problem(train, fit_preparation(train, ALL), task="attack", feature_set="leak_free")
    assert (asked.split_scheme, asked.is_sequence, asked.past_windows) == ("random, test 0.2, salt s", False, 0)


def test_nothing_can_be_learnt_without_train_rows(spark):
    none = gold(spark, ["Benign"], rows=3).filter("split = 'elsewhere'")
    with pytest.raises(ContractError, match="the train split has no rows"):
        state_problem(none, fit_preparation(none, ALL), task="attack", feature_set="leak_free")
