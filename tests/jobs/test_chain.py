"""Each job by spark-submit on synthetic captures: all at once and one after the other; on a cluster all at once, and scoring."""

import json
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import ATTACKS
from iomt_ids.contract.tables import (
    BRONZE_FLOWS,
    GOLD_ALERTS,
    GOLD_EXPLANATIONS,
    GOLD_FEATURES,
    GOLD_PREPARATION,
    GOLD_SCORES,
    SILVER_FLOWS,
)
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.tables import Warehouse
from jobs import evaluate_detector
from tests.jobs.conftest import LESS, ROOT, SMALL

STEPS = ("ingest_flows", "refine_flows", "build_features", "train_detector")


def run_jobs(submit, captures, retrained, jobs, *settings, profile):
    """The folder of a retraining and what it and each of the jobs told."""
    told = {"retrain": retrained.told}
    for job in jobs:
        asked = (*LESS, f"data.raw={captures}", f"output.folder={retrained.home.parent}", *settings)
        done = submit(job, *asked, profile=profile)
        assert done.status == 0, done.stderr
        told[job] = done.told
    return retrained.home, told


@pytest.fixture(scope="session")
def local(submit, captures, retrained):
    """All steps at once, then one by one, then what is done with the model that is served."""
    jobs = (*STEPS, "score_flows", "explain_alerts")
    return run_jobs(submit, captures, retrained, jobs, "explain.rows=2", "explain.repeats=1", profile="local")


@pytest.fixture(scope="session")
def standalone(submit, captures, retrained_on_cluster):
    """All steps at once on a cluster, and new rows scored there."""
    return run_jobs(submit, captures, retrained_on_cluster, ("score_flows",), profile="standalone")


@pytest.fixture(params=["local", pytest.param("standalone", marks=pytest.mark.cluster)])
def chain(request):
    """Either of them."""
    return request.getfixturevalue(request.param)


def scores_of(chain):
    """What the retraining has written of its models."""
    return json.loads(Path(chain[1]["retrain"]["outputs"]["scores"]).read_text())


def test_every_job_ends_with_the_same_kind_of_line(chain):
    for job, told in chain[1].items():
        assert told["job"] == job
        assert told["seconds"] > 0
        assert told["peak_memory_bytes"] > 300_000_000  # Spark's Java process is in it
        assert all(Path(path).exists() for path in told["outputs"].values())


def test_alerts_are_explained_by_what_is_served(local, spark):
    home, told = local
    assert told["explain_alerts"]["rows"]["explained"] > 0
    found = Warehouse(home / "warehouse", "delta").read(spark, GOLD_EXPLANATIONS)
    served = json.loads((home / "served.json").read_text())
    assert found.select("model").distinct().first().model == f"{served['run']}/{served['model']}"


def test_no_row_is_lost_on_the_way(chain, spark):
    home, told = chain
    warehouse = Warehouse(home / "warehouse", "delta")
    for table in (BRONZE_FLOWS, SILVER_FLOWS, GOLD_FEATURES, GOLD_ALERTS):
        assert warehouse.read(spark, table).count() == 10000, table.name
    for job in {"retrain", "ingest_flows"} & set(told):
        assert told[job]["rows"] == {"in": 10000, "out": 10000, "rejected": 0}
    counted = {split: sum(classes.values()) for split, classes in scores_of(chain)["data"]["rows"].items()}
    assert sum(counted.values()) == 10000
    if "train_detector" in told:
        assert told["train_detector"]["rows"] == counted


def test_every_class_is_in_the_tables_of_every_labelled_split(chain, spark):
    flows = Warehouse(chain[0] / "warehouse", "delta").read(spark, GOLD_FEATURES)
    for split in ("train", "validation", "test"):
        found = {r.attack for r in flows.filter(F.col("split") == split).select("attack").distinct().collect()}
        assert found == {a.name for a in ATTACKS}, split


def test_what_is_fitted_is_fitted_on_the_train_split(chain, spark):
    warehouse = Warehouse(chain[0] / "warehouse", "delta")
    train = warehouse.read(spark, GOLD_FEATURES).filter("split = 'train'")
    logs = F.signum("ttl_mean") * F.log1p(F.abs("ttl_mean"))
    mean, rows = train.agg(F.avg(logs), F.count("*")).first()
    fitted = warehouse.read(spark, GOLD_PREPARATION).filter("feature = 'ttl_mean'").first()
    assert (fitted.center, fitted.rows) == (pytest.approx(mean, rel=1e-9), rows)


def test_scores_are_in_the_file_the_last_line_names_and_in_the_table(chain, spark):
    home, scores = chain[0], scores_of(chain)
    forest = next(e for e in scores["scores"] if (e["task"], e["split"], e["scope"]) == ("attack", "test", "all"))
    assert forest["detector"] == "random_forest" and forest["features"] == "leak_free"
    assert forest["rows"] == sum(scores["data"]["rows"]["test"].values())
    rows = Warehouse(home / "warehouse", "delta").read(spark, GOLD_SCORES).filter(F.col("run") == scores["run"]["id"])
    rows = rows.filter("task = 'attack' and split = 'test' and scope = 'all'")
    found = rows.filter("class_name is null and metric = 'f1_macro'").first()
    assert found.value == forest["f1_macro"]


# The cluster's tables and scores are compared with the local ones in test_real_rows.py.
def test_judging_the_same_models_again_gives_the_same_scores(local, captures, spark):
    home, told = local
    config = load_config(ROOT / "conf" / "local.yaml", [
        *SMALL, f"data.raw={captures}", f"output.folder={home.parent}", f"evaluate.run={told['retrain']['run']}",
        "evaluate.false_alarms_per_million=200000",
    ])
    again = evaluate_detector.run(spark, config)
    first, second = (
        [{**entry, "score_seconds": None} for entry in json.loads(Path(outputs["scores"]).read_text())["scores"]]
        for outputs in (told["retrain"]["outputs"], again.outputs)
    )
    assert first == second
    before, after = (
        json.loads(Path(outputs["scores"]).read_text())["operating"] for outputs in (told["retrain"]["outputs"], again.outputs)
    )
    assert [e["model"] for e in after] == ["decision_tree-binary-leak_free", "random_forest-attack-leak_free"]
    for old, new in zip(before, after, strict=True):
        assert (old["false_alarms_per_million"], new["false_alarms_per_million"]) == (1000, 200000)
        assert {k: old[k] for k in ("calibration", "classes")} == {k: new[k] for k in ("calibration", "classes")}
        assert old["false_alarms"]["validation"]["rate"] <= 0.001 and new["false_alarms"]["validation"]["rate"] <= 0.2
        assert old["threshold"] is None or old["threshold"] > new["threshold"]
    assert "at the threshold for 200,000 false alarms in a million" in again.text


def test_the_retrained_model_is_served_and_scores_new_flows(chain, spark):
    home, told = chain
    retrained = told["retrain"]
    assert retrained["gate"]["promote"] is True
    assert json.loads((home / "served.json").read_text())["run"] == retrained["run"] == told["score_flows"]["run"]
    alerts = Warehouse(home / "warehouse", "delta").read(spark, GOLD_ALERTS)
    assert told["score_flows"]["rows"]["alerts"] == alerts.filter("is_alert").count() > 5000
    models = {r.model for r in alerts.select("model").distinct().collect()}
    assert models == {f"{retrained['run']}/random_forest-attack-leak_free"}
    assert alerts.filter("probability <= 0 or probability > 1").count() == 0
