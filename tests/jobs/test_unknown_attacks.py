"""Attacks left out of training, from tables to the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.prepare.features import fit_preparation
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import start_run
from iomt_ids.runtime.tables import Warehouse
from jobs import unknown_attacks
from tests.builders import ROOT, gold

CLASSES = ["Benign", "ARP_Spoofing", "Recon-VulScan", "Recon-OS_Scan"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={tmp_path_factory.mktemp('unknown')}", "unknown.hold_out=[Recon-VulScan, Recon]",
        "models.random_forest={trees: 5}", "models.logistic_regression={iterations: 5}",
        "models.isolation_forest={trees: 20, rows_per_tree: 64}",
        "evaluate.false_alarms_per_million=100000", "evaluate.verdict_error=0.1",
    ])


@pytest.fixture(scope="module")
def warehouse(spark, config):
    """Tables of a small ward; no job wrote them, which saves the time of three."""
    parts = [gold(spark, CLASSES, split=s, seed=i, rows=60) for i, s in enumerate(("train", "validation", "test"))]
    rows = parts[0].unionAll(parts[1]).unionAll(parts[2])
    made = Warehouse.of(config)
    made.overwrite(rows, GOLD_FEATURES)
    made.overwrite(fit_preparation(parts[0], feature_names("v1", "all")), GOLD_PREPARATION)
    return made


def test_what_was_not_learnt_is_told_in_a_run_of_its_own_and_no_table_changes(spark, config, warehouse):
    before = warehouse.versions()
    outcome = unknown_attacks.run(spark, config)
    assert warehouse.versions() == before
    record = json.loads(Path(outcome.outputs["run"], "run.json").read_text())
    assert (record["id"], record["job"]) == (outcome.run, "unknown_attacks")
    content = json.loads(Path(outcome.outputs["unknown_attacks"]).with_suffix(".json").read_text())
    assert [(e["held_out"], e["attacks"], e["rows"]) for e in content["folds"]] == [
        ("Recon-VulScan", ["Recon-VulScan"], 60), ("Recon", ["Recon-VulScan", "Recon-OS_Scan"], 120),
    ]
    for e in content["folds"]:
        assert not {m["class"] for m in e["mistaken_for"]} & set(e["attacks"])
        assert e["recall_learnt"]["rate"] > 0.95, "the same attack, when it has been learnt"
        assert e["recall"]["low"] <= e["recall"]["rate"] <= e["recall"]["high"]
    assert {"isolation_forest"} <= {a["detector"] for a in content["anomaly"]}
    assert set(content["anomaly"][0]["held_out"]) == {"Recon-VulScan", "Recon"}
    assert content["data"]["synthetic"]
    page = Path(outcome.outputs["unknown_attacks"]).with_suffix(".html").read_text()
    assert "Synthetic demo data" in page and 'data-table="novelty"' in page
    assert "Recon-VulScan" in outcome.text and outcome.text.splitlines()[-1].startswith("report: ")


def test_nothing_that_is_fitted_sees_what_is_held_out(spark, config, warehouse):
    flows = warehouse.read(spark, GOLD_FEATURES).localCheckpoint()
    hidden = (F.col("attack_id") == 3) & F.col("split").isin("train", "validation")
    # Of a model that sees centred and scaled columns: they too are fitted.
    turned = flows.withColumns({n: F.when(hidden, F.col(n) * 50 + 7).otherwise(F.col(n)) for n in feature_names("v1", "leak_free")})
    into = start_run(config.home, "unknown_attacks")
    first = unknown_attacks.counts_without(flows, config, into, "logistic_regression", "Recon-VulScan", (3,))
    # Whoever fits the tables sees the attack.
    warehouse.overwrite(fit_preparation(turned.filter("split = 'train'"), feature_names("v1", "all")), GOLD_PREPARATION)
    second = unknown_attacks.counts_without(turned, config, into, "logistic_regression", "Recon-VulScan", (3,))
    assert np.array_equal(first[0].alarm, second[0].alarm) and np.array_equal(first[1].answers, second[1].answers)


def test_who_cannot_be_asked_is_refused(spark, config, warehouse):
    wrong = config.with_values(unknown={"detectors": ["isolation_forest"]})
    with pytest.raises(ConfigError, match="'isolation_forest' cannot learn task 'attack'"):
        unknown_attacks.run(spark, wrong)


def test_ranks_are_joined_by_the_launcher_that_is_configured(spark, config, warehouse):
    wrong = config.with_values(train={"launcher": "smoke_signals"})
    with pytest.raises(ConfigError, match=r"train\.launcher is 'smoke_signals'"):
        unknown_attacks.run(spark, wrong)
