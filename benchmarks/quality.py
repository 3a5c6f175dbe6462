"""What detectors are worth: every score of a run, and what is left of the past when captures run side by side.

    make bench-quality DATA=folder [SET="key=value ..."]
    PYTHONPATH=lib:. python benchmarks/quality.py [DATA] [--set key=value ...]

Retrains on a folder in the official layout (the demo without one), with the past of each capture and with the leaking columns
beside single windows, and prints the ledger, one JSON line a score of the test split: ``context`` is ``window`` (a row by itself)
or ``past`` (and those before it in its capture), ``low`` and ``high`` are the 95 % interval of macro-F1. Then, for each target, the
leak-free detector that comes nearest. Then the captures of each split and protocol are laid side by side, as on a
network where benign and attacked devices talk at once, and each row's past is that of the stream: ``past_interleaved``, once
for the forest and the sequence net that have learnt from captures one by one, once for those that have learnt from such
streams. Then how many windows the past should have, from train rows alone: forests learn from the first part of each train
capture and are scored on the rest. Last, recall at a budget of false alarms, whose threshold is picked on validation rows,
against scikit-learn's forest on the same rows. The last line names the run's `scores.json`, which holds all but what was
interleaved. Other cuts of the same rows are more runs: with ``--set split.scheme=time`` the ledger has the rows of both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ingest import started_session
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.ensemble import RandomForestClassifier

from iomt_ids.contract.attacks import TASKS
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.problem import HISTORY, Problem, Scaling
from iomt_ids.contract.tables import GOLD_FEATURES, SILVER
from iomt_ids.evaluate.duplicates import LEARNT_FROM
from iomt_ids.evaluate.intervals import clopper_pearson
from iomt_ids.evaluate.judge import Verdict, judge_model
from iomt_ids.models import detectors, random_forest
from iomt_ids.prepare.copies import under_policy
from iomt_ids.prepare.past import add_history, add_past, with_past
from iomt_ids.runtime.clock import derive_seed
from iomt_ids.runtime.config import Config, load_config
from iomt_ids.runtime.runs import find_run
from iomt_ids.runtime.tables import Warehouse
from jobs import retrain
from jobs._training import launcher_for

_ROOT = Path(__file__).resolve().parents[1]
_LEARNT = {
    "random_forest": list(TASKS), "gradient_boosted": list(TASKS), "dense_net": list(TASKS),
    "logistic_regression": list(TASKS), "decision_tree": list(TASKS),
    "conv_net": ["attack"], "attention_net": ["attack"], "sequence_net": ["attack"], "autoencoder": ["binary"],
}
_FOREST = "random_forest"
_PAST = {_FOREST: list(TASKS), "gradient_boosted": list(TASKS)}
_ALL = {name: list(TASKS) for name in (_FOREST, "gradient_boosted", "dense_net", "logistic_regression", "decision_tree")}
# Task, context and the macro-F1 that is to be reached on leak-free rows of the official test split.
_TARGETS = (("attack", "window", 0.88), ("attack", "past", 0.91), ("category", "window", 0.925), ("binary", "window", 0.986))
_MOST_ECE = 0.02
_WINDOWS, _EARLY = (0, 4, 9, 19, 39), 0.85


def say(**line: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps({"bench": "quality", **line}) + "\n")
    sys.stdout.flush()


def say_score(entry: dict[str, Any], **more: Any) -> None:
    """A score of the test split."""
    wanted = ("detector", "task", "features", "counted", "rows", "accuracy", "f1_macro", "f1_weighted", "false_alarm_rate")
    say(**{name: entry[name] for name in wanted}, low=entry["f1_macro_low"], high=entry["f1_macro_high"], **more)


def say_ledger(content: dict[str, Any]) -> None:
    """Every row of the ledger, those of other cuts of the same rows too."""
    for row in content["ledger"]["rows"]:
        few = [c["class"] for c in row["uncertain"]]
        say(what="ledger", **{name: value for name, value in row.items() if name not in ("model", "uncertain")},
            low=row["f1_macro_low"], high=row["f1_macro_high"], few_rows=few)


def say_targets(content: dict[str, Any]) -> None:
    """How near the best detector comes to each target, without columns that leak."""
    ece = {e["model"]: e["calibration"]["test"]["ece_before"] for e in content["operating"]}
    for task, context, wanted in _TARGETS:
        rows = [r for r in content["ledger"]["rows"] if (r["run"], r["counted"]) == (content["run"]["id"], "rows")
                and (r["task"], r["context"]) == (task, context) and r["features"] != "all"]
        if best := max(rows, key=lambda r: r["f1_macro"], default=None):
            say(what="target", task=task, context=context, wanted=wanted, detector=best["detector"], f1_macro=best["f1_macro"],
                low=best["f1_macro_low"], high=best["f1_macro_high"], is_met=best["f1_macro"] >= wanted,
                ece=ece[best["model"]], ece_wanted=_MOST_ECE)


def side_by_side(flows: DataFrame) -> tuple[DataFrame, dict[str, Any]]:
    """The rows of `gold.features`, and a stream in which all captures of a split and protocol run at once."""
    # From start to end of each: a long capture sends more windows meanwhile than a short one.
    lengths = flows.groupBy("source_file").agg(F.max("source_line").alias("_last"))
    placed = flows.select(*SILVER.fieldNames()).join(lengths, "source_file")
    stream = F.concat_ws("-", F.when(F.col("split") == "validation", "train").otherwise(F.col("split")), "protocol")
    return placed, {"stream": stream, "order": F.struct(F.col("source_line") / F.col("_last"), "flow_id")}


def interleaved(flows: DataFrame, windows: int) -> DataFrame:
    """The rows of `gold.features` with the past of such a stream, summed up."""
    placed, how = side_by_side(flows)
    return add_past(placed, flows.select("release").first()["release"], windows, **how)  # type: ignore[index]


def judge_sequences(spark: SparkSession, config: Config) -> None:
    """What is left of a sequence of windows where captures run at once."""
    run = find_run(config.home, "latest")
    model = next(m for m in run.models() if m.detector == "sequence_net")
    placed, how = side_by_side(Warehouse.of(config).read(spark, GOLD_FEATURES))
    mixed = add_history(placed.withColumn(model.problem.copies_column, F.lit(1)), model.problem, **how).persist()
    train, validation, test = (mixed.filter(F.col("split") == s) for s in ("train", "validation", "test"))
    kind, seed = detectors()[model.detector], derive_seed(config.seed, model.name)
    by_streams = kind.fit(
        train, model.problem, kind.params(), validation=validation, seed=seed,
        launcher=launcher_for(spark, config, run),
    )
    run.forget_checkpoints()
    for learnt, net in (("captures", kind.load(spark, model.folder, model.problem)), ("streams", by_streams)):
        scored = net.transform(test).drop(HISTORY)
        verdict = judge_model(
            model.name, model.detector, model.problem, scored, resamples=config.evaluate.bootstrap, seed=config.seed
        )
        say_all(verdict, context="past_interleaved", learnt_from=learnt)


def say_all(verdict: Verdict, **more: Any) -> None:
    """What a verdict says of all rows, counted as rows."""
    for entry in verdict.scores:
        if (entry["scope"], entry["counted"]) == ("all", "rows"):
            say_score(entry, **more)


def judge_streams(spark: SparkSession, config: Config) -> None:
    """What is left of the past where captures run at once."""
    flows = Warehouse.of(config).read(spark, GOLD_FEATURES)
    models = {model.name: model for model in find_run(config.home, "latest").models()}
    mixed = interleaved(flows, config.features.past_windows).persist()
    for task in TASKS:
        model = models[f"{_FOREST}-{task}-past"]
        problem, params = model.problem, random_forest.Params()
        train, validation, test = (with_past(mixed.filter(F.col("split") == s), problem) for s in ("train", "validation", "test"))
        seed = derive_seed(config.seed, model.name)
        by_streams = random_forest.fit(train, problem, params, validation=validation, seed=seed, launcher=None)
        fitted = {"captures": random_forest.load(spark, model.folder, problem), "streams": by_streams}
        for learnt, forest in fitted.items():
            verdict = judge_model(
                model.name, _FOREST, problem, forest.transform(test), resamples=config.evaluate.bootstrap, seed=config.seed
            )
            say_all(verdict, context="past_interleaved", learnt_from=learnt)


def compare_windows(spark: SparkSession, config: Config) -> None:
    """Macro-F1 on the ends of train captures, by how many windows before a row count."""
    learnt = Warehouse.of(config).read(spark, GOLD_FEATURES).filter(F.col("split").isin(*LEARNT_FROM))
    lengths = learnt.groupBy("source_file").agg(F.max("source_line").alias("_last"))
    placed = learnt.select(*SILVER.fieldNames()).join(lengths, "source_file").persist()
    base = next(m.problem for m in find_run(config.home, "latest").models() if m.name == f"{_FOREST}-attack-leak_free")
    release = placed.select("release").first()["release"]  # type: ignore[index]
    for windows in _WINDOWS:
        features = feature_names(release, "past" if windows else "leak_free")
        # A forest scales nothing.
        problem = dataclasses.replace(
            base, features=features, feature_set="past" if windows else "leak_free", past_windows=windows,
            scaling=tuple(Scaling(name, 0.0, 1.0) for name in features),
        )
        # Copies are counted over whole captures, which are cut in two here.
        rows = under_policy(with_past(add_past(placed, release, windows), problem), problem.copies_column, "keep")
        is_early = F.col("source_line") < _EARLY * F.col("_last")
        early, late = rows.filter(is_early), rows.filter(~is_early)
        seed = derive_seed(config.seed, "windows")
        forest = random_forest.fit(early, problem, random_forest.Params(), validation=late, seed=seed, launcher=None)
        scored = forest.transform(late.withColumn("split", F.lit("validation")))
        verdict = judge_model("windows", _FOREST, problem, scored, resamples=config.evaluate.bootstrap, seed=config.seed)
        entry = next(e for e in verdict.scores if (e["scope"], e["counted"]) == ("all", "rows"))
        say_score(entry, what="on the ends of train captures", past_windows=windows)


def compare_budget(spark: SparkSession, config: Config, content: dict[str, Any]) -> None:
    """Recall at the budget of false alarms, ours and that of scikit-learn's forest."""
    run = find_run(config.home, "latest")
    problem = next(m.problem for m in run.models() if m.name == f"{_FOREST}-binary-leak_free")
    flows = Warehouse.of(config).read(spark, GOLD_FEATURES)
    rows = {split: _arrays(flows.filter(F.col("split") == split), problem) for split in ("train", "validation", "test")}
    forest = RandomForestClassifier(random_forest.Params().trees, n_jobs=2, random_state=config.seed).fit(*rows["train"])
    scores = {split: forest.predict_proba(values)[:, 1] for split, (values, _) in rows.items()}
    benign = np.sort(scores["validation"][rows["validation"][1] == 0])[::-1]
    allowed = int(config.evaluate.false_alarms_per_million * benign.size // 1_000_000)
    alerts = scores["test"] > benign[allowed]
    attacks = rows["test"][1] == 1
    low, high = clopper_pearson(int(alerts[attacks].sum()), int(attacks.sum()))
    for entry in content["operating"]:
        if entry["task"] == "binary" and entry["features"] != "all":
            say(what="recall at a budget of false alarms", peer="scikit-learn", detector=entry["detector"],
                features=entry["features"], budget_per_million=config.evaluate.false_alarms_per_million,
                recall=entry["recall"], false_alarms=entry["false_alarms"].get("test"),
                peer_recall={"rate": float(alerts[attacks].mean()), "low": low, "high": high},
                peer_false_alarm_rate=float(alerts[~attacks].mean()))


def _arrays(flows: DataFrame, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    table = flows.orderBy("flow_id").select(*problem.features, problem.label_column).toArrow()
    return np.column_stack([table[n].to_numpy() for n in problem.features]), table[problem.label_column].to_numpy()


def main(data: str, settings: list[str]) -> int:
    """Retrain and print."""
    config = load_config(_ROOT / "conf" / "local.yaml", [
        f"data.raw={data}", f"train.detectors={json.dumps(_LEARNT)}", f"train.compare_past={json.dumps(_PAST)}",
        f"train.compare_all_features={json.dumps(_ALL)}", *settings,
    ])
    spark = started_session("quality")
    outcome = retrain.run(spark, config)
    content = json.loads(Path(outcome.outputs["scores"]).read_text(encoding="utf-8"))
    say_ledger(content)
    say_targets(content)
    judge_streams(spark, config)
    judge_sequences(spark, config)
    compare_windows(spark, config)
    compare_budget(spark, config, content)
    say(what="all of it", path=outcome.outputs["scores"], synthetic=config.data.is_demo)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    sys.exit(main(given.data, given.set))
