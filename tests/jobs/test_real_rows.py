"""The whole chain on real rows, locally and on a standalone cluster."""

import json
import shutil
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_FEATURES, GOLD_PREPARATION, SILVER_FLOWS
from iomt_ids.runtime.config import DataConfig
from iomt_ids.runtime.tables import Warehouse

pytestmark = pytest.mark.slow
FOREST_AND_NET = (
    "train.detectors={random_forest: [attack, category, binary], dense_net: [attack]}", "train.compare_all_features={}"
)
FOREST = ("train.detectors={random_forest: [attack]}", "train.compare_all_features={}")


def retrained(submit, out, raw, *settings, profile):
    done = submit("retrain", f"data.raw={raw}", f"output.folder={out}", *settings, profile=profile)
    assert done.status == 0, done.stderr
    return done.told, json.loads(Path(done.told["outputs"]["scores"]).read_text())


@pytest.fixture(scope="module")
def local(submit, real_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("real-local")
    return out, *retrained(submit, out, real_data, *FOREST_AND_NET, profile="local")


@pytest.fixture(scope="module")
def standalone(submit, real_data, cluster, tmp_path_factory):
    out = tmp_path_factory.mktemp("real-standalone")
    return out, *retrained(submit, out, real_data, *FOREST, profile="standalone")


def entry(scores, detector, task, split="test", scope="all"):
    wanted = (detector, task, split, scope)
    return next(e for e in scores["scores"] if (e["detector"], e["task"], e["split"], e["scope"]) == wanted)


@pytest.mark.parametrize(("task", "least"), [("attack", 0.86), ("category", 0.89), ("binary", 0.975)])
def test_the_forest_without_leaks_scores_at_least(local, task, least):
    assert entry(local[2], "random_forest", task)["features"] == "leak_free"
    assert entry(local[2], "random_forest", task)["f1_macro"] >= least


def test_the_net_is_not_far_behind_the_forest(local):
    forest, net = (entry(local[2], detector, "attack")["f1_macro"] for detector in ("random_forest", "dense_net"))
    assert net >= forest - 0.05


def test_real_rows_are_not_called_synthetic(local):
    assert local[2]["data"]["synthetic"] is False
    assert "synthetic" not in Path(local[1]["outputs"]["report"]).read_text()


def test_every_real_row_is_read(local, real_data):
    lines = sum(path.read_bytes().count(b"\n") - 1 for path in real_data.rglob("*.csv"))
    assert local[1]["rows"] == {"in": lines, "out": lines, "rejected": 0}


def test_the_cluster_writes_the_same_tables(local, standalone, real_data, spark):
    name = DataConfig(str(real_data), "", 0).name
    for table in (BRONZE_FLOWS, SILVER_FLOWS, GOLD_FEATURES, GOLD_PREPARATION):
        digests = []
        for out in (local[0], standalone[0]):
            rows = Warehouse(out / name / "warehouse", "delta").read(spark, table)
            digests.append(rows.agg(F.count("*"), F.sum(F.xxhash64(*rows.columns).cast("decimal(38)"))).first())
        assert digests[0] == digests[1], table.name


def test_the_cluster_gives_the_forest_the_same_scores(local, standalone):
    here, there = (entry(scores, "random_forest", "attack") for scores in (local[2], standalone[2]))
    assert here["confusion"] == there["confusion"]


def test_saved_models_are_judged_on_another_folder(local, submit, real_data, tmp_path):
    other = tmp_path / "other ward"
    for path in real_data.rglob("*_test.pcap.csv"):
        if "Bluetooth" not in path.name:
            target = other / path.relative_to(real_data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    home = local[0] / DataConfig(str(real_data), "", 0).name
    done = submit("evaluate_detector", f"data.raw={other}", f"output.folder={tmp_path}", f"evaluate.run={home}")
    assert done.status == 0, done.stderr
    scores = json.loads(Path(done.told["outputs"]["scores"]).read_text())
    for task in ("attack", "category", "binary"):
        before = entry(local[2], "random_forest", task, scope="wifi_mqtt")
        assert entry(scores, "random_forest", task)["confusion"] == before["confusion"]
