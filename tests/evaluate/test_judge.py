import json

from pyspark.sql import functions as F

from iomt_ids.contract.tables import SCORES
from iomt_ids.evaluate.judge import describe_data, describe_flows, judge_model, scores_table
from iomt_ids.runtime.config import DataConfig
from tests.builders import gold, problem


def judged(spark, split, copies=1):
    flows = gold(spark, ["Benign", "DoS-TCP", "Bluetooth-DoS"], rows=20, split=split)
    flows = flows.withColumn("copies_leak_free", F.when(F.col("attack_id") == 11, copies).otherwise(1))
    scored = flows.withColumn("prediction", F.when(F.col("attack_id") == 11, 0).otherwise(F.col("attack_id")).cast("int"))
    return judge_model("oracle-attack-leak_free", "oracle", problem("attack", [0, 11, 20]), scored, resamples=100, seed=0)


def test_test_rows_are_scored_together_and_by_protocol(spark):
    rows = [e for e in judged(spark, "test").scores if e["counted"] == "rows"]
    assert [(e["split"], e["scope"], e["rows"]) for e in rows] == [
        ("test", "all", 60), ("test", "wifi_mqtt", 40), ("test", "bluetooth", 20),
    ]
    assert {e["context"] for e in rows} == {"window"}
    whole, wifi, bluetooth = rows
    assert (whole["accuracy"], wifi["accuracy"], bluetooth["accuracy"]) == (2 / 3, 0.5, 1.0)
    assert whole["per_class"]["DoS-TCP"]["recall"] == 0
    assert whole["false_alarm_rate"] == 0


def test_scores_are_given_over_rows_and_over_distinct_vectors(spark):
    # A flood of 20 vectors, each three times, of which none is found.
    rows, distinct = (e for e in judged(spark, "test", copies=3).scores if e["scope"] == "all")
    assert (rows["counted"], rows["rows"], rows["accuracy"]) == ("rows", 100, 0.4)
    assert (distinct["counted"], distinct["rows"], distinct["accuracy"]) == ("distinct", 60, 2 / 3)


def test_a_split_without_rows_has_no_entry(spark):
    assert {(e["split"], e["scope"]) for e in judged(spark, "profile").scores} == {("profile", "all")}


def test_entries_are_json_and_every_number_is_a_row_of_the_table(spark):
    entries = [{**entry, "train_seconds": 1.5} for entry in judged(spark, "test").scores]
    assert json.loads(json.dumps(entries, allow_nan=False)) == entries
    table = scores_table(spark, "run-1", entries)
    assert table.schema == SCORES
    rows = {(r.scope, r.class_name, r.metric): r.value for r in table.filter("counted = 'rows'").collect()}
    assert rows["all", None, "accuracy"] == 2 / 3
    assert rows["all", "DoS-TCP", "precision"] is None
    assert rows["bluetooth", None, "train_seconds"] == 1.5


def test_the_data_says_that_it_is_synthetic_and_how_many_rows_each_class_has(spark):
    flows = gold(spark, ["Benign", "DoS-TCP"], rows=5, split="test")
    data = describe_data(flows, DataConfig("demo", "ciciomt2024", 20000), {"gold.features": 3})
    assert data["synthetic"] and "synthetic demo data" in data["note"]
    assert data["rows"] == {"test": {"Benign": 5, "DoS-TCP": 5}}
    assert not describe_data(flows, DataConfig("ward", "ciciomt2024", 20000), {})["synthetic"]


def test_insight_never_looks_at_columns_that_leak(spark):
    flows = gold(spark, ["Benign", "DoS-TCP"], rows=30).withColumn("iat_epoch_s", F.col("attack_id") * 1e8)
    assert "iat_epoch_s" not in json.dumps(describe_flows(flows, []))
