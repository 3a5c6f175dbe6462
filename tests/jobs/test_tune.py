"""Parameters are chosen before a fit, on parts of train captures, and a rerun makes no trial twice."""

import json

import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.models import detectors
from iomt_ids.prepare.features import fit_preparation
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import find_run
from iomt_ids.runtime.tables import Warehouse
from jobs import train_detector
from jobs._tuning import last_parts
from tests.builders import ROOT, gold, problem


def tuned(spark, config):
    train_detector.run(spark, config)
    (model,) = find_run(config.home, "latest").models()
    return model.facts["params"], model.facts["tuning"]


@pytest.fixture(scope="module")
def config(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    config = load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={folder}", "tune.enabled=true", "tune.candidates=3", "tune.folds=2", "features.past_windows=2",
        *[f"train.detectors.{name}={'[binary]' if name == 'decision_tree' else '[]'}" for name in detectors()],
        "train.compare_all_features={}", "models.decision_tree={bins: 16}",
    ])
    flows = gold(spark, ["Benign", "DoS-TCP"], gap=0.5)
    for seed, split in enumerate(("validation", "test"), start=1):
        flows = flows.unionByName(gold(spark, ["Benign", "DoS-TCP"], rows=20, split=split, seed=seed))
    warehouse = Warehouse.of(config)
    warehouse.overwrite(flows, GOLD_FEATURES)
    warehouse.overwrite(fit_preparation(flows.filter("split = 'train'"), feature_names("v1", "all")), GOLD_PREPARATION)
    return config


def test_what_is_chosen_is_fitted_and_a_rerun_finds_every_trial(spark, config):
    params, record = tuned(spark, config)
    best, *others = record["candidates"]
    assert params == {**params, **record["chosen"], "bins": 16}
    assert (best["params"], len(best["folds"]), len(others)) == (record["chosen"], 2, 2)
    assert set(record["chosen"]) == {"depth", "rows_per_leaf"}
    # All three on the first part; on the second the default and the better half, which it may be one of.
    tried = sum(len(c["folds"]) for c in record["candidates"])
    assert record["trials_made"] == len(list((config.home / "tuning").iterdir())) == tried
    assert best["mean"] >= next(c["mean"] for c in record["candidates"] if c["is_default"])

    # The same rows in another version of the table and other rows of the test split: nothing is tried again.
    warehouse = Warehouse.of(config)
    flows = spark.createDataFrame(warehouse.read(spark, GOLD_FEATURES).collect(), GOLD_FEATURES.schema)
    is_test = F.col("split") == "test"
    warehouse.overwrite(flows.withColumn("ttl_mean", F.when(is_test, F.lit(9.0)).otherwise(F.col("ttl_mean"))), GOLD_FEATURES)
    again, found = tuned(spark, config)
    assert (again, found["candidates"]) == (params, record["candidates"])
    assert (found["trials_made"], found["trials_found"]) == (0, record["trials_made"])

    # One train row that is another makes them other trials.
    first = json.loads(next((config.home / "tuning").iterdir()).read_text())["key"]
    is_one = (F.col("split") == "train") & (F.col("source_line") == 2)
    warehouse.overwrite(flows.withColumn("ttl_mean", F.when(is_one, F.lit(9.0)).otherwise(F.col("ttl_mean"))), GOLD_FEATURES)
    assert tuned(spark, config)[1]["trials_found"] == 0
    assert first["rows"] == 2 * (60 + 20)


def test_a_fit_can_be_ended_by_the_last_part_of_each_capture(spark, config):
    rows = Warehouse.of(config).read(spark, GOLD_FEATURES).filter("split != 'test'")
    parts = last_parts(rows, problem("binary", [0, 1]), config)
    learnt_from, held_out = (part.select("split", "source_line").collect() for part in parts)
    # Lines 2 to 61 of one file, in two parts, with a gap of two rows.
    assert {r.split for r in learnt_from} == {"train"}
    assert sorted({r.source_line for r in learnt_from}) == list(range(2, 30))
    assert sorted({r.source_line for r in held_out}) == list(range(32, 62))
