"""What each detector learns, and what is picked for it afterwards, from the same rows with other test rows beside them."""

from __future__ import annotations

import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import SPLITS
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION, SILVER, SILVER_FLOWS
from iomt_ids.evaluate.hierarchy import describe_hierarchy
from iomt_ids.evaluate.hierarchy_counts import count_hierarchy
from iomt_ids.evaluate.operating import describe_operating
from iomt_ids.evaluate.score_counts import count_scores
from iomt_ids.models import detectors
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import start_run
from iomt_ids.runtime.tables import Warehouse
from jobs import _training, build_features
from tests.builders import ROOT, gold

CLASSES = ["Benign", "ARP_Spoofing", "DoS-TCP"]
# Networks share their training, and differ in what they are trained for: one that tells classes apart, one that gives rows back.
KINDS = {name: kind for name, kind in detectors().items() if not kind.is_network or name in ("dense_net", "autoencoder")}
MAIN = {name: kind.tasks[-1] for name, kind in KINDS.items()}
# Fitted is fitted, however little.
LITTLE = {
    "random_forest": "{trees: 3, depth: 4}", "gradient_boosted": "{rounds: 3, depth: 3}", "decision_tree": "{depth: 4}",
    "logistic_regression": "{iterations: 5}", "isolation_forest": "{trees: 5, rows_per_tree: 32}",
}
ONE_EPOCH = "{ranks: 1, batch_rows: 64, steps: 1, epochs_at_least: 1, epochs_at_most: 1}"


def config_of(out):
    params = {name: ONE_EPOCH if kind.is_network else LITTLE[name] for name, kind in KINDS.items()}
    return load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={out}", "train.launcher=in_process", "train.compare_all_features={}", "features.past_windows=3",
        "train.compare_past={random_forest: [attack]}", *[f"train.detectors.{name}=[{task}]" for name, task in MAIN.items()],
        *[f"models.{name}={given}" for name, given in params.items()],
    ])


def ward(spark):
    """Rows of three classes, a little apart; train and validation rows of a class take turns in one capture."""
    parts = [gold(spark, CLASSES, split=s, seed=i, rows=60, gap=0.5) for i, s in enumerate(("train", "validation", "test"))]
    rows = parts[0].unionAll(parts[1]).unionAll(parts[2])
    return rows.withColumns({
        "source_file": F.concat("source_split", "attack"),
        "source_line": 2 * F.col("source_line") + (F.col("split") == "train").cast("int"),
    }).select(*SILVER.fieldNames())


def perturbed(rows):
    """Other values in every column of every test row."""
    is_test = F.col("split") == "test"
    return rows.withColumns({
        name: F.when(is_test, F.col(name) * 50 + 7).otherwise(F.col(name)) for name in feature_names("v1", "all")
    })


def picked(config, model, told):
    """Thresholds, temperature, levels and sets, and what they are worth on test rows."""
    named = model.name, model.detector, model.problem
    counts = count_scores(told, model.problem)
    operating = describe_operating(*named, counts, false_alarms_per_million=100_000, costs=config.evaluate.costs)
    found = {
        "threshold": operating["threshold"], "temperature": operating["calibration"]["temperature"],
        "false_alarms": operating["false_alarms"]["validation"],
    }
    if model.problem.task == "attack":
        levels = describe_hierarchy(*named, count_hierarchy(told, model.problem), error=0.3, resamples=10, seed=1)
        found |= {"levels": [e["threshold"] for e in levels["levels"]], "sets": [e["threshold"] for e in levels["sets"]]}
    return found, operating["sweep"]


@pytest.fixture(scope="module")
def learnt(spark, tmp_path_factory):
    """By what test rows are like: the preparation, and of each model its problem, answers and thresholds."""
    found = {}
    for name, change in (("as they are", lambda rows: rows), ("perturbed", perturbed)):
        config = config_of(tmp_path_factory.mktemp(name))
        warehouse, into = Warehouse.of(config), start_run(config.home, "train_detector")
        warehouse.overwrite(change(ward(spark)), SILVER_FLOWS)
        build_features.run(spark, config)
        _training.train(spark, config, into)
        flows = warehouse.read(spark, GOLD_FEATURES)
        models = {}
        for model in into.models():
            models[model.name] = {name: model.facts[name] for name in ("importances", "curves")} | {"problem": model.problem}
            kind = KINDS[model.detector]
            # A net is its weights, to the byte; what MLlib writes holds the time as well, so its answers speak for it.
            if kind.is_network:
                models[model.name] |= {file.name: file.read_bytes() for file in model.folder.iterdir()}
                continue
            fitted = kind.load(spark, model.folder, model.problem)
            told = fitted.transform(with_past(flows, model.problem).filter(F.col("split").isin(*SPLITS[1:]))).persist()
            answers = told.filter("split = 'validation'").select("flow_id", "probability").orderBy("flow_id").collect()
            chosen, on_test = picked(config, model, told)
            models[model.name] |= {"answers": answers, **chosen, "on test": on_test}
            told.unpersist()
        found[name] = {"preparation": warehouse.read(spark, GOLD_PREPARATION).orderBy("feature").collect(), "models": models}
    return found


@pytest.mark.slow
def test_nothing_that_any_detector_has_fitted_changes_if_every_test_row_does(learnt):
    one, other = learnt["as they are"], learnt["perturbed"]
    assert one["preparation"] == other["preparation"]
    assert {m.split("-")[0] for m in one["models"]} == set(KINDS) and "random_forest-attack-past" in one["models"]
    for name, before in one["models"].items():
        after = other["models"][name]
        for part in before:
            assert (before[part] == after[part]) == (part != "on test"), (name, part)
