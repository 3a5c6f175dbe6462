import dataclasses
from contextlib import nullcontext

import pytest
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_SCORES, SILVER_FLOWS
from iomt_ids.runtime.tables import Warehouse
from tests.builders import bronze, gold


@pytest.fixture(params=["delta", "parquet"])
def warehouse(request, tmp_path):
    return Warehouse(tmp_path / "ward 7, 50%20 full" / "warehouse", request.param)


def test_a_table_is_read_as_it_was_written_with_every_double_to_the_last_bit(spark, warehouse):
    flows = bronze(spark, {"ttl_mean": 169402747.0784912}, {"ttl_mean": 0.1 + 0.2, "attack": "DoS-TCP"})
    warehouse.overwrite(flows, BRONZE_FLOWS)
    again = warehouse.read(spark, BRONZE_FLOWS)
    assert again.schema.fieldNames() == BRONZE_FLOWS.schema.fieldNames()
    assert sorted(again.collect(), key=str) == sorted(flows.collect(), key=str)


def test_a_table_is_partitioned_by_split_and_category(spark, warehouse):
    warehouse.overwrite(bronze(spark, {}, {"attack": "DoS-TCP", "split": "test"}), BRONZE_FLOWS)
    folders = {p.parent.relative_to(warehouse.path(BRONZE_FLOWS)).as_posix() for p in warehouse.root.rglob("*.parquet")
               if "_delta_log" not in p.parts}
    assert folders == {"split=train/category=Benign", "split=test/category=DoS"}


def test_writing_twice_leaves_the_same_rows(spark, warehouse):
    flows = bronze(spark, {}, {})
    for _ in range(2):
        warehouse.overwrite(flows, BRONZE_FLOWS)
        assert warehouse.rows(spark, BRONZE_FLOWS) == 2
    assert warehouse.read(spark, BRONZE_FLOWS).count() == 2


def test_a_partition_is_replaced_and_the_others_stay(spark, warehouse):
    def scores(run, value):
        row = run, "forest", "attack", "all", "test", "all", "rows", None, "mcc", value
        return spark.createDataFrame([row], GOLD_SCORES.schema)

    for run, value in (("a", 0.1), ("b", 0.2), ("b", 0.3)):
        warehouse.overwrite(scores(run, value), GOLD_SCORES, where={"run": run})
    rows = warehouse.read(spark, GOLD_SCORES)
    assert {(r.run, r.value) for r in rows.collect()} == {("a", 0.1), ("b", 0.3)}


def test_a_table_of_an_older_version_takes_the_declared_shape(spark, warehouse):
    fields = [f for f in SILVER_FLOWS.schema if f.name != "copies_all"]
    old = dataclasses.replace(SILVER_FLOWS, schema=T.StructType(fields))
    rows = gold(spark, ["Benign"], rows=3)
    warehouse.overwrite(rows, old)
    with pytest.raises(ContractError, match="column 'copies_all' is missing") if warehouse.format == "delta" else nullcontext():
        warehouse.read(spark, SILVER_FLOWS)
    warehouse.overwrite(rows, SILVER_FLOWS)
    assert [r.copies_all for r in warehouse.read(spark, SILVER_FLOWS).collect()] == [1, 1, 1]


def test_scores_of_an_older_version_stay_and_lack_what_it_did_not_know(spark, tmp_path):
    warehouse = Warehouse(tmp_path, "delta")
    old = dataclasses.replace(GOLD_SCORES, schema=T.StructType([f for f in GOLD_SCORES.schema if f.name != "counted"]))
    row = ("forest", "attack", "all", "test", "all")
    warehouse.overwrite(spark.createDataFrame([("a", *row, None, "mcc", 0.1)], old.schema), old, where={"run": "a"})
    newer = spark.createDataFrame([("b", *row, "rows", None, "mcc", 0.2)], GOLD_SCORES.schema)
    warehouse.overwrite(newer, GOLD_SCORES, where={"run": "b"})
    assert {(r.run, r.counted) for r in warehouse.read(spark, GOLD_SCORES).collect()} == {("a", None), ("b", "rows")}


def test_rows_that_lack_a_column_are_refused_and_the_table_stays(spark, warehouse):
    warehouse.overwrite(bronze(spark, {}), BRONZE_FLOWS)
    wrong = bronze(spark, {}, {}).drop("weight").withColumn("ttl_mean", F.lit("1"))
    with pytest.raises(ContractError, match=r"flows: column 'ttl_mean' is string, wanted double; column 'weight' is missing"):
        warehouse.overwrite(wrong, BRONZE_FLOWS)
    assert warehouse.read(spark, BRONZE_FLOWS).count() == 1


def test_a_write_that_dies_leaves_the_old_rows(spark, warehouse):
    warehouse.overwrite(bronze(spark, {}), BRONZE_FLOWS)
    broken = bronze(spark, {}, {}).withColumn("ttl_mean", F.raise_error(F.lit("disk on fire")).cast("double"))
    with pytest.raises(Exception, match="disk on fire"):
        warehouse.overwrite(broken, BRONZE_FLOWS)
    assert warehouse.read(spark, BRONZE_FLOWS).count() == 1


def test_a_table_that_is_not_there_is_named_with_its_place(spark, warehouse):
    with pytest.raises(ConfigError, match=r"there is no table bronze.flows at .*bronze/flows; run the job"):
        warehouse.read(spark, BRONZE_FLOWS)


def test_a_delta_table_travels_back_and_can_be_restored(spark, tmp_path):
    warehouse = Warehouse(tmp_path / "ward 7, 50%20 full", "delta")
    first = warehouse.overwrite(bronze(spark, {}), BRONZE_FLOWS)
    warehouse.overwrite(bronze(spark, {}, {}), BRONZE_FLOWS)
    assert warehouse.read(spark, BRONZE_FLOWS, version=first).count() == 1
    warehouse.restore(spark, BRONZE_FLOWS, first)
    assert warehouse.read(spark, BRONZE_FLOWS).count() == 1
    warehouse.restore(spark, BRONZE_FLOWS, None)
    assert not warehouse.exists(BRONZE_FLOWS)
    assert warehouse.versions() == {}
