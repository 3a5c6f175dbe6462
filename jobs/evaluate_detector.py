"""models, gold.features -> gold.scores, scores.json, report.html.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/evaluate_detector.py --config conf/local.yaml --set data.raw=DIR2 --set evaluate.run=out/demo
"""

import sys
import time
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import SPLITS
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.splits import SCHEMES
from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_FEATURES, GOLD_SCORES
from iomt_ids.evaluate.answers import Answers, count_answers, keep_answers
from iomt_ids.evaluate.compare import comparison_table, operating_table
from iomt_ids.evaluate.judge import Verdict, describe_verdicts, judge_model, scores_table
from iomt_ids.evaluate.ledger import describe_ledger
from iomt_ids.evaluate.operating import describe_operating
from iomt_ids.evaluate.report import render_report
from iomt_ids.evaluate.score_counts import count_scores
from iomt_ids.evaluate.split_audit import describe_splits
from iomt_ids.evaluate.time_to_detect import describe_times
from iomt_ids.models import detectors
from iomt_ids.prepare.features import require_complete
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed, seconds_since
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, SavedModel, describe_run, find_run, ledgers_of_other_schemes, start_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs import build_features, ingest_flows, refine_flows

OPTIONS = {"--false-alarms-per-million": "evaluate.false_alarms_per_million"}


def verdict_on(
    spark: SparkSession, config: Config, model: SavedModel, keep: list[Answers] | None = None
) -> tuple[Verdict, dict[str, Any]]:
    """A model's scores and operating points on the rows that no model has learnt from; of equal rows one counts for all.

    Its answers to test rows are added to `keep`, for comparison with those of others.
    """
    log().info("scoring %s", model.name)
    start = time.monotonic()
    flows = with_past(Warehouse.of(config).read(spark, GOLD_FEATURES), model.problem)
    unseen = flows.filter(F.col("split").isin(*SPLITS[1:]) & (F.col(model.problem.copies_column) > 0))
    # build_features has looked at every row; one tells whether they are of the model's release.
    require_complete(unseen.limit(1), model.problem.features)
    scored = detectors()[model.detector].load(spark, model.folder, model.problem).transform(unseen)
    told = scored.drop(*model.problem.features, "past").persist()
    try:
        seed = derive_seed(config.seed, "bootstrap")
        verdict = judge_model(model.name, model.detector, model.problem, told, resamples=config.evaluate.bootstrap, seed=seed)
        seconds = seconds_since(start)
        operating = describe_operating(
            model.name, model.detector, model.problem, count_scores(told, model.problem, weight=model.problem.copies_column),
            false_alarms_per_million=config.evaluate.false_alarms_per_million, costs=config.evaluate.costs,
        )
        if keep is not None:
            # One more look at what is cached still; later it would be scored once more.
            answers = keep_answers(told, model.problem).persist()
            answers.count()
            keep.append(Answers(model.name, model.detector, model.problem, operating["threshold"], answers))
    finally:
        told.unpersist()
    return verdict.with_facts(train_seconds=model.facts["train_seconds"], score_seconds=seconds), operating


def judge(spark: SparkSession, config: Config, models: list[SavedModel], into: Run) -> dict[str, Any]:
    """Score models and write what there is to say of them; returns the content of `scores.json`."""
    warehouse = Warehouse.of(config)
    everything = warehouse.read(spark, GOLD_FEATURES)
    flows = everything.filter(F.col("split").isin(*SPLITS))
    answers: list[Answers] = []
    judged = [verdict_on(spark, config, model, answers) for model in models]
    log().info("describing attacks and devices, looking for leaks")
    content = {
        "run": describe_run(into, config, versions(spark)),
        **describe_verdicts([verdict for verdict, _ in judged], flows, config.data, warehouse.versions()),
        "operating": [operating for _, operating in judged],
        "splits": describe_splits(everything, [config.split_scheme(name) for name in SCHEMES]),
        **compare_models(spark, config, flows, answers, into),
        "models": {model.name: model.facts for model in models},
    }
    into.write("scores.json", content)
    into.write("report.html", render_report(content))
    warehouse.overwrite(scores_table(spark, into.id, content["scores"]), GOLD_SCORES, where={"run": into.id})
    return content


def compare_models(
    spark: SparkSession, config: Config, flows: DataFrame, answers: list[Answers], into: Run
) -> dict[str, Any]:
    """The ledger of scores and the times to detect; scores of this data under other schemes are repeated from earlier runs."""
    if not answers:
        return {"ledger": {}, "time_to_detect": []}
    log().info("comparing %d models row by row", len(answers))
    windows, budget = config.evaluate.stable_windows, config.evaluate.false_alarms_per_million
    captures = count_answers(flows, answers, stable_windows=windows)
    for model in answers:
        model.rows.unpersist()
    ledger = describe_ledger(
        spark, answers, captures, run=into.id, resamples=config.evaluate.bootstrap, seed=derive_seed(config.seed, "bootstrap")
    )
    schemes = {model.problem.split_scheme for model in answers}
    ledger["rows"] += ledgers_of_other_schemes(config.home, schemes, Warehouse.of(config).version(BRONZE_FLOWS))
    times = describe_times(answers, captures, stable_windows=windows, false_alarms_per_million=budget)
    return {"ledger": ledger, "time_to_detect": times}


def require_same_split(spark: SparkSession, config: Config, models: list[SavedModel]) -> None:
    """Refuse models that may have learnt from what are test rows now.

    Raises
    ------
    ContractError
        Naming both ways of cutting.
    """
    first = Warehouse.of(config).read(spark, GOLD_FEATURES).select("split_scheme").first()
    learnt = sorted({model.problem.split_scheme for model in models} - {first["split_scheme"] if first else ""})
    if first and learnt:
        raise ContractError(
            f"the rows are cut as '{first['split_scheme']}', the models have learnt under '{', '.join(learnt)}': test rows of one "
            "are train rows of the other; run refine_flows and build_features with the models' split.scheme, or train again"
        )


def run(spark: SparkSession, config: Config) -> Outcome:
    """Judge the models of a run; the tables of data that they were not trained on are made first."""
    trained = find_run(config.home, config.evaluate.run)
    if trained.folder.resolve().parent.parent != config.home.resolve():
        for job in (ingest_flows, refine_flows):
            job.run(spark, config)
        build_features.run(spark, config, past=max((model.problem.past_windows for model in trained.models()), default=0))
    else:
        require_same_split(spark, config, trained.models())
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
