"""models, gold.features -> gold.scores, scores.json, report.html.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/evaluate_detector.py --config conf/local.yaml --set data.raw=DIR2 --set evaluate.run=out/demo
"""

import sys
import time
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_SCORES
from iomt_ids.evaluate.compare import comparison_table, operating_table
from iomt_ids.evaluate.judge import Verdict, describe_verdicts, judge_model, scores_table
from iomt_ids.evaluate.operating import describe_operating
from iomt_ids.evaluate.report import render_report
from iomt_ids.evaluate.score_counts import count_scores
from iomt_ids.models import detectors
from iomt_ids.prepare.features import require_complete
from iomt_ids.runtime.clock import derive_seed, seconds_since
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, SavedModel, describe_run, find_run, start_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs import build_features, ingest_flows, refine_flows

OPTIONS = {"--false-alarms-per-million": "evaluate.false_alarms_per_million"}


def scored_rows(spark: SparkSession, config: Config, model: SavedModel) -> DataFrame:
    """The rows that no model has learnt from, with what a model says of them."""
    unseen = Warehouse.of(config).read(spark, GOLD_FEATURES).filter(F.col("split") != "train")
    # build_features has looked at every row; one tells whether they are of the model's release.
    require_complete(unseen.limit(1), model.problem.features)
    return detectors()[model.detector].load(spark, model.folder, model.problem).transform(unseen)


def verdict_on(spark: SparkSession, config: Config, model: SavedModel) -> Verdict:
    """A model's scores on those rows."""
    log().info("scoring %s", model.name)
    start = time.monotonic()
    scored = scored_rows(spark, config, model)
    seed = derive_seed(config.seed, "bootstrap")
    verdict = judge_model(model.name, model.detector, model.problem, scored, resamples=config.evaluate.bootstrap, seed=seed)
    return verdict.with_facts(train_seconds=model.facts["train_seconds"], score_seconds=seconds_since(start))


def operating_point(spark: SparkSession, config: Config, model: SavedModel) -> dict[str, Any]:
    """When a model should raise an alert; a pass of its own, so that `score_seconds` stays what scoring takes."""
    log().info("counting probabilities of %s", model.name)
    counts = count_scores(scored_rows(spark, config, model), model.problem)
    return describe_operating(
        model.name, model.detector, model.problem, counts,
        false_alarms_per_million=config.evaluate.false_alarms_per_million, costs=config.evaluate.costs,
    )


def judge(spark: SparkSession, config: Config, models: list[SavedModel], into: Run) -> dict[str, Any]:
    """Score models and write what there is to say of them; returns the content of `scores.json`."""
    warehouse = Warehouse.of(config)
    flows = warehouse.read(spark, GOLD_FEATURES)
    verdicts = [verdict_on(spark, config, model) for model in models]
    log().info("describing attacks and devices, looking for leaks")
    content = {
        "run": describe_run(into, config, versions(spark)),
        **describe_verdicts(verdicts, flows, config.data, warehouse.versions()),
        "operating": [operating_point(spark, config, model) for model in models],
        "models": {model.name: model.facts for model in models},
    }
    into.write("scores.json", content)
    into.write("report.html", render_report(content))
    warehouse.overwrite(scores_table(spark, into.id, content["scores"]), GOLD_SCORES, where={"run": into.id})
    return content


def run(spark: SparkSession, config: Config) -> Outcome:
    """Judge the models of a run; the tables of data that they were not trained on are made first."""
    trained = find_run(config.home, config.evaluate.run)
    if trained.folder.resolve().parent.parent != config.home.resolve():
        for job in (ingest_flows, refine_flows, build_features):
            job.run(spark, config)
    into = start_run(config.home, "evaluate_detector")
    content = judge(spark, config, trained.models(), into)
    into.finish({"judged": trained.id, **content["run"]})
    rows = {split: sum(classes.values()) for split, classes in content["data"]["rows"].items()}
    text = f"{comparison_table(content)}\n{operating_table(content)}\nreport: {into.folder / 'report.html'}"
    return Outcome(rows, into.outputs(), into.id, text)


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("evaluate_detector", run, argv, options=OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
