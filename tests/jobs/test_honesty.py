"""Test rows teach nothing, and where rows lie decides nothing: the jobs from bronze to scores, three times."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.flows import FLOW_COLUMNS
from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.models import detectors
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import start_run
from iomt_ids.runtime.tables import Warehouse
from jobs import _judging, _training, build_features, ingest_flows, refine_flows
from tests.builders import ROOT


def config_of(out, *settings):
    return load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={out}", "data.demo_rows=10000", "evaluate.bootstrap=100", "train.compare_all_features={}",
        *[f"train.detectors.{name}={'[attack]' if name == 'random_forest' else '[]'}" for name in detectors()],
        "models.random_forest={trees: 5, depth: 8}", *settings,
    ])


def perturbed(flows):
    """Other values in every column of every test row, possible ones."""
    is_test = F.col("split") == "test"
    other = {c.name: 1 - F.col(c.name) if c.name.endswith("_fraction") else 3 * F.col(c.name) + 1 for c in FLOW_COLUMNS}
    return flows.withColumns({name: F.when(is_test, value).otherwise(F.col(name)) for name, value in other.items()})


def shuffled(flows):
    return flows.repartition(7, F.rand(3)).sortWithinPartitions(F.rand(4))


def ingest_otherwise(spark, config, captures):
    """The same captures, those with the last names read first, the others a day later, all in blocks of a few lines."""
    folder, files = config.home / captures.name, sorted(file for file in captures.rglob("*") if file.is_file())
    for part in (files[len(files) // 2:], files[:len(files) // 2]):
        for file in part:
            (folder / file.relative_to(captures)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.relative_to(captures))
        ingest_flows.run(spark, config)


@pytest.fixture(scope="module")
def judged(spark, tmp_path_factory):
    """What is learnt from the same captures, as they are and changed, and what it is worth."""
    first = tmp_path_factory.mktemp("as-they-are")
    ingest_flows.run(spark, config_of(first))
    found = {}
    for name, change in (("as they are", None), ("perturbed", perturbed), ("shuffled", shuffled)):
        out = first if change is None else tmp_path_factory.mktemp(name)
        config = config_of(out, *(["ingest.block_bytes=8192"] if change is shuffled else []))
        warehouse = Warehouse.of(config)
        if change is shuffled:
            ingest_otherwise(spark, config, ingest_flows.raw_folder(config_of(first)))
        elif change:
            shutil.copytree(config_of(first).home / "warehouse" / "bronze", config.home / "warehouse" / "bronze")
        if change:
            # Held, because a table cannot be read while it is overwritten.
            rows = change(warehouse.read(spark, BRONZE_FLOWS)).persist()
            rows.count()
            warehouse.overwrite(rows, BRONZE_FLOWS)
            rows.unpersist()
        refine_flows.run(spark, config)
        build_features.run(spark, config)
        into = start_run(config.home, "retrain")
        _training.train(spark, config, into)
        content = _judging.judge(spark, config, into.models(), into)
        model = into.models()[0]
        flows = warehouse.read(spark, GOLD_FEATURES).orderBy("flow_id")
        held_out = flows.filter("split = 'validation'")
        told = detectors()[model.detector].load(spark, model.folder, model.problem).transform(held_out)
        found[name] = {
            "content": content, "config": config, "model": model, "problem": model.problem,
            "importances": model.facts["importances"],
            "preparation": warehouse.read(spark, GOLD_PREPARATION).orderBy("feature").collect(),
            "told": told.select("flow_id", "probability").orderBy("flow_id").collect(),
            "test": flows.filter("split = 'test'").select("flow_id", "ttl_mean").collect(),
        }
    return found


def test_no_fitted_parameter_changes_if_every_test_row_does(judged):
    one, other = judged["as they are"], judged["perturbed"]
    assert all(a != b for a, b in zip(one["test"], other["test"], strict=True)), "they did change"
    for name in ("problem", "preparation", "importances", "told"):
        assert one[name] == other[name], name
    before, after = (found["content"]["operating"][0] for found in (one, other))
    assert (before["threshold"], before["calibration"]["temperature"]) == (after["threshold"], after["calibration"]["temperature"])
    assert one["content"]["leaks"] == other["content"]["leaks"]
    scores = [found["content"]["scores"] for found in (one, other)]
    assert [s["f1_macro"] for s in scores[0]] != [s["f1_macro"] for s in scores[1]], "only scores did"


def test_scores_are_the_same_wherever_rows_lie(judged):
    def said(content):
        timed = ("train_seconds", "score_seconds")
        return {
            "scores": [{k: v for k, v in s.items() if k not in timed} for s in content["scores"]],
            "ledger": [{k: v for k, v in r.items() if k != "run"} for r in content["ledger"]["rows"]],
            **{name: content[name] for name in ("splits", "time_to_detect", "operating", "duplicates")},
        }

    one, other = (said(judged[name]["content"]) for name in ("as they are", "shuffled"))
    for part, wanted in one.items():
        assert other[part] == wanted, part


def test_the_ledger_repeats_what_the_scores_say_and_names_its_split(judged):
    content = judged["as they are"]["content"]
    assert content["splits"]["in_force"] == "official"
    assert [r["scheme"] for r in content["ledger"]["rows"]] == ["official"] * 2
    for row in content["ledger"]["rows"]:
        entry = next(e for e in content["scores"] if (e["split"], e["scope"], e["counted"]) == ("test", "all", row["counted"]))
        for name in ("rows", "f1_macro", "f1_macro_low", "f1_macro_high", "f1_weighted", "f1_weighted_low", "f1_weighted_high"):
            assert row[name] == pytest.approx(entry[name], abs=1e-12), name
    found = {a["attack"]: a for a in content["time_to_detect"][0]["attacks"]}
    assert found["DDoS-UDP"]["captures"] == 2 and found["DDoS-UDP"]["packets_per_window"] == 100


def test_models_that_have_learnt_from_what_are_test_rows_now_are_refused(judged, spark):
    config, model = judged["as they are"]["config"], judged["as they are"]["model"]
    flows = Warehouse.of(config).read(spark, GOLD_FEATURES)
    _judging.require_same_split(flows, [model])
    other = dataclasses.replace(model, problem=dataclasses.replace(model.problem, split_scheme="random, test 0.2, salt s"))
    with pytest.raises(ContractError, match="cut as 'official', the models have learnt under 'random, test"):
        _judging.require_same_split(flows, [model, other])
