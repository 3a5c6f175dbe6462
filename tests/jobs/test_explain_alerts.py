"""Alerts explained, from tables to the table of explanations and the run's file."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import class_names
from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.contract.flows import feature_names, past_columns
from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_ALERTS, GOLD_EXPLANATIONS, GOLD_FEATURES
from iomt_ids.evaluate.alerts import name_verdicts
from iomt_ids.evaluate.explanations import describe_permutation
from iomt_ids.models import detectors
from iomt_ids.models.histogram.permute import count_permuted
from iomt_ids.prepare.features import fit_preparation, state_problem
from iomt_ids.prepare.label import flow_id
from iomt_ids.prepare.past import add_past, name_past, with_past
from iomt_ids.runtime.clock import derive_seed
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import saved_model, serve, start_run, write_json
from iomt_ids.runtime.tables import Warehouse
from jobs import explain_alerts
from jobs._serving import as_learnt
from tests.builders import ROOT, gold

CLASSES = ["Benign", "ARP_Spoofing", "Recon-VulScan"]
ROWS, FEATURES, PAST = 12, 5, 3
PARAMS = {"random_forest": {"trees": 5, "depth": 8}, "gradient_boosted": {"rounds": 5, "depth": 4}}
# What is explained is a probability of a row alone, or a margin of a row and its past.
SETS = {"random_forest": "leak_free", "gradient_boosted": "past"}


def served_by(spark, detector, folder):
    """A ward whose tables no job wrote: rows, a model that is served, and what it has said of the rows."""
    config = load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={folder}", f"explain.rows={ROWS}", f"explain.features={FEATURES}", "explain.repeats=2",
    ])
    warehouse, names = Warehouse.of(config), feature_names("v1", "leak_free")
    parts = [gold(spark, CLASSES, split=s, seed=i, rows=60, gap=1.0) for i, s in enumerate(("train", "validation"))]
    flows = parts[0].unionAll(parts[1]).withColumn("source_file", F.concat_ws("/", "split", "attack")).withColumn(
        "flow_id", flow_id(F.col("source_file"), F.col("source_line"))
    )
    warehouse.overwrite(flows, BRONZE_FLOWS)
    told = add_past(flows.drop("past", "past_windows", "copies_past"), "v1", PAST) if SETS[detector] == "past" else flows
    warehouse.overwrite(told, GOLD_FEATURES)
    train = warehouse.read(spark, GOLD_FEATURES).filter("split = 'train'")
    past = past_columns(names) if SETS[detector] == "past" else ()
    preparation = fit_preparation(name_past(train, past), (*feature_names("v1", "all"), *past))
    problem = state_problem(train, preparation, task="attack", feature_set=SETS[detector])
    kind, train = detectors()[detector], with_past(train, problem)
    fitted = kind.fit(train, problem, kind.params(**PARAMS[detector]), validation=train, seed=1, launcher=None)
    run = start_run(config.home, "retrain")
    run.save_model("served", detector, problem, fitted.save, {})
    run.finish({"id": run.id, "started": run.started, "job": run.job})
    serve(config.home, run, "served")
    # As score_flows does.
    scored = fitted.transform(as_learnt(warehouse.read(spark, BRONZE_FLOWS), problem, "auto"))
    warehouse.overwrite(name_verdicts(scored, problem=problem, model=f"{run.id}/served"), GOLD_ALERTS)
    return config


@pytest.fixture(scope="module")
def ward(spark, tmp_path_factory):
    """One whose model explains probabilities of rows alone."""
    return served_by(spark, "random_forest", tmp_path_factory.mktemp("ward"))


@pytest.fixture(scope="module")
def outcome(spark, ward):
    """What the job has said of it."""
    return explain_alerts.run(spark, ward)


def model_of(spark, config):
    served = saved_model(next(config.home.glob("runs/*/models/served")))
    return served, detectors()[served.detector].load(spark, served.folder, served.problem)


@pytest.mark.parametrize("detector", SETS)
def test_the_rows_of_an_alert_add_up_to_what_the_served_model_says(spark, tmp_path, ward, outcome, detector):
    config = ward if detector == "random_forest" else served_by(spark, detector, tmp_path)
    outcome = outcome if detector == "random_forest" else explain_alerts.run(spark, config)
    warehouse = Warehouse.of(config)
    found = warehouse.read(spark, GOLD_EXPLANATIONS).toPandas()
    alerts = warehouse.read(spark, GOLD_ALERTS).filter("is_alert").toPandas()
    wanted = alerts.sort_values("flow_id").groupby("verdict").head(ROWS)
    assert set(wanted["verdict"]) == set(CLASSES[1:]) and len(alerts) > len(wanted) == outcome.rows["explained"] == 2 * ROWS
    assert outcome.rows["alerts"] == len(alerts)
    assert set(found["flow_id"]) == set(wanted["flow_id"]) and len(found) == len(wanted) * (FEATURES + 1)

    served, model = model_of(spark, config)
    rows = as_learnt(warehouse.read(spark, BRONZE_FLOWS), served.problem, "auto").toPandas().set_index("flow_id")
    features = list(served.problem.features)
    for flow, own in found.groupby("flow_id"):
        own, alert = own.sort_values("place"), wanted.set_index("flow_id").loc[flow]
        assert (own["verdict"] == alert["verdict"]).all() and (own["model"] == alert["model"]).all()
        assert own["place"].tolist() == list(range(1, FEATURES + 2))
        said = model.scorer.outputs(rows.loc[[flow], features].to_numpy(float))[0]
        output = said[served.problem.labels.index(class_names("attack").index(alert["verdict"]))]
        assert own["output"].tolist() == [output] * (FEATURES + 1)
        assert own["contribution"].sum() + own["base"].iloc[0] == pytest.approx(output, abs=1e-9)
        named = own[own["feature"] != "others"]
        assert len(named) == FEATURES and np.isnan(own["value"].iloc[-1])
        assert named["value"].tolist() == rows.loc[flow, named["feature"]].tolist()
        assert named["contribution"].abs().is_monotonic_decreasing
        if detector == "random_forest":
            assert output == alert["probability"]
    assert set(found["output_kind"]) == {model.explains}

    record = json.loads(Path(outcome.outputs["run"], "run.json").read_text())
    assert (record["id"], record["job"]) == (outcome.run, "explain_alerts")
    content = json.loads(Path(outcome.outputs["explanations"]).read_text())
    assert content["data"]["synthetic"] and content["output_kind"] == model.explains
    assert [(v["verdict"], v["explained"]) for v in content["verdicts"]] == [(name, ROWS) for name in CLASSES[1:]]
    first = content["verdicts"][0]["features"][0]
    assert f"{first['feature']} {first['mean_absolute']:.3f}" in outcome.text
    assert len(content["verdicts"][0]["features"]) == len(features)


def test_features_of_the_validation_rows_are_shuffled_in_the_served_model(spark, ward, outcome):
    told = json.loads(Path(outcome.outputs["explanations"]).read_text())["permutation"]
    served, model = model_of(spark, ward)
    held_out = Warehouse.of(ward).read(spark, GOLD_FEATURES).filter("split = 'validation'")
    counts = count_permuted(held_out, served.problem, model.scorer, repeats=2, seed=derive_seed(ward.seed, "permutation"))
    assert told == describe_permutation(counts, served.problem) and (told["rows"], told["repeats"]) == (180, 2)
    # The feature in which classes differ most.
    assert told["features"][0]["feature"] == "flow_rate_per_s" and told["features"][0]["drop"] > 0.05
    assert "flow_rate_per_s" in outcome.text.split("180 validation rows")[1].splitlines()[1]


def test_run_twice_the_table_is_the_same_and_only_it_has_changed(spark, ward, outcome):
    warehouse = Warehouse.of(ward)

    def table():
        return warehouse.read(spark, GOLD_EXPLANATIONS).orderBy("flow_id", "place").collect()

    before, versions = table(), warehouse.versions()
    explain_alerts.run(spark, ward.with_values(explain={"repeats": 0}))
    changed = {name for name, version in warehouse.versions().items() if version != versions[name]}
    assert table() == before and changed == {GOLD_EXPLANATIONS.name}


def test_new_flows_are_explained_without_the_rows_that_the_model_has_learnt_from(spark, ward, tmp_path):
    other = ward.with_values(output={"folder": str(tmp_path)}, serve={"home": str(ward.home)})
    for table in (BRONZE_FLOWS, GOLD_ALERTS):
        Warehouse.of(other).overwrite(Warehouse.of(ward).read(spark, table), table)
    outcome = explain_alerts.run(spark, other)
    assert outcome.rows["explained"] == 2 * ROWS and Path(outcome.outputs["run"]).is_relative_to(tmp_path)
    assert json.loads(Path(outcome.outputs["explanations"]).read_text())["permutation"]["rows"] == 180


def test_without_an_alert_there_is_nothing_to_explain(spark, ward, tmp_path):
    other, warehouse = ward.with_values(output={"folder": str(tmp_path)}, serve={"home": str(ward.home)}), Warehouse.of(ward)
    quiet = warehouse.read(spark, GOLD_ALERTS).withColumn("is_alert", F.lit(False))
    Warehouse.of(other).overwrite(warehouse.read(spark, BRONZE_FLOWS), BRONZE_FLOWS)
    Warehouse.of(other).overwrite(quiet, GOLD_ALERTS)
    outcome = explain_alerts.run(spark, other.with_values(explain={"repeats": 0}))
    assert outcome.rows == {"alerts": 0, "explained": 0} and "there is no alert" in outcome.text
    assert Warehouse.of(other).read(spark, GOLD_EXPLANATIONS).count() == 0


@pytest.mark.parametrize(("what", "error", "sentence"), [
    ("another model", ConfigError, "gold.alerts is what run/other has said, the served model is .*; run score_flows again"),
    ("rows are gone", ContractError, "has 24 alerts to explain, bronze.flows 12 rows of which the model says so"),
    ("rows are others", ContractError, "has 24 alerts to explain, bronze.flows .* the flows have changed since"),
])
def test_alerts_that_are_not_of_this_model_and_these_rows_are_refused(spark, ward, tmp_path, what, error, sentence):
    other = ward.with_values(output={"folder": str(tmp_path)}, serve={"home": str(ward.home)}, explain={"repeats": 0})
    flows, alerts = (Warehouse.of(ward).read(spark, table) for table in (BRONZE_FLOWS, GOLD_ALERTS))
    if what == "another model":
        alerts = alerts.withColumn("model", F.lit("run/other"))
    elif what == "rows are gone":
        spoofed = alerts.filter("is_alert and verdict = 'ARP_Spoofing'").select("source_file", "source_line")
        flows = flows.join(spoofed, ["source_file", "source_line"], "left_anti")
    else:
        flows = flows.withColumns({name: -F.col(name) for name in feature_names("v1", "leak_free")})
    Warehouse.of(other).overwrite(flows, BRONZE_FLOWS)
    Warehouse.of(other).overwrite(alerts, GOLD_ALERTS)
    with pytest.raises(error, match=sentence):
        explain_alerts.run(spark, other)
    assert not Warehouse.of(other).exists(GOLD_EXPLANATIONS)


def test_a_model_that_cannot_be_explained_is_refused_by_name(spark, ward, tmp_path):
    record = next(ward.home.glob("runs/*/models/served/detector.json"))
    run = start_run(tmp_path, "retrain")
    write_json(run.folder / "models" / "net" / "detector.json", json.loads(record.read_text()) | {"detector": "dense_net"})
    serve(tmp_path, run, "net")
    with pytest.raises(ConfigError, match="of dense_net cannot be explained, only those of gradient_boosted, random_forest"):
        explain_alerts.run(spark, ward.with_values(serve={"home": str(tmp_path)}))
