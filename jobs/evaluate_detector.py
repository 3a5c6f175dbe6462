"""models, gold.features -> gold.scores, scores.json, report.html.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/evaluate_detector.py --config conf/local.yaml --set data.raw=DIR2 --set evaluate.run=out/demo
"""

import sys
import time
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.problem import HISTORY
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_SCORES
from iomt_ids.evaluate.compare import comparison_table, operating_table
from iomt_ids.evaluate.judge import Verdict, describe_verdicts, judge_model, scores_table
from iomt_ids.evaluate.operating import describe_operating
from iomt_ids.evaluate.report import render_report
from iomt_ids.evaluate.score_counts import count_scores
from iomt_ids.models import detectors
from iomt_ids.prepare.features import require_complete
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed, seconds_since
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, SavedModel, describe_run, find_run, start_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs import build_features, ingest_flows, refine_flows

OPTIONS = {"--false-alarms-per-million": "evaluate.false_alarms_per_million"}


def verdict_on(spark: SparkSession, config: Config, model: SavedModel) -> tuple[Verdict, dict[str, Any]]:
    """A model's scores and operating points on the rows that no model has learnt from; of equal rows one counts for all."""
    log().info("scoring %s", model.name)
    start = time.monotonic()
    flows = with_past(Warehouse.of(config).read(spark, GOLD_FEATURES), model.problem)
    unseen = flows.filter((F.col("split") != "train") & (F.col(model.problem.copies_column) > 0))
    # build_features has looked at every row; one tells whether they are of the model's release.
    require_complete(unseen.limit(1), model.problem.features)
    scored = detectors()[model.detector].load(spark, model.folder, model.problem).transform(unseen)
    told = scored.drop(*model.problem.features, "past", HISTORY).persist()
    try:
        seed = derive_seed(config.seed, "bootstrap")
        verdict = judge_model(model.name, model.detector, model.problem, told, resamples=config.evaluate.bootstrap, seed=seed)
        seconds = seconds_since(start)
        operating = describe_operating(
            model.name, model.detector, model.problem, count_scores(told, model.problem, weight=model.problem.copies_column),
            false_alarms_per_million=config.evaluate.false_alarms_per_million, costs=config.evaluate.costs,
        )
    finally:
        told.unpersist()
    return verdict.with_facts(train_seconds=model.facts["train_seconds"], score_seconds=seconds), operating


def summed_past(models: list[SavedModel]) -> int:
    """Windows before a row that `gold.features` has to sum up for these models."""
    return max((model.problem.past_windows for model in models if not model.problem.is_sequence), default=0)


def judge(spark: SparkSession, config: Config, models: list[SavedModel], into: Run) -> dict[str, Any]:
    """Score models and write what there is to say of them; returns the content of `scores.json`."""
    warehouse = Warehouse.of(config)
    flows = warehouse.read(spark, GOLD_FEATURES)
    judged = [verdict_on(spark, config, model) for model in models]
    log().info("describing attacks and devices, looking for leaks")
    content = {
        "run": describe_run(into, config, versions(spark)),
        **describe_verdicts([verdict for verdict, _ in judged], flows, config.data, warehouse.versions()),
        "operating": [operating for _, operating in judged],
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
        for job in (ingest_flows, refine_flows):
            job.run(spark, config)
        build_features.run(spark, config, past=summed_past(trained.models()))
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
