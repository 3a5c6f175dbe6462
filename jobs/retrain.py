"""captured CSV files -> tables, models, scores, report; the new model is served if it is not worse.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/retrain.py --config conf/local.yaml --set data.raw=DIR
"""

import sys

from pyspark.sql import SparkSession

from iomt_ids.contract.splits import OFFICIAL
from iomt_ids.evaluate.compare import comparison_table, operating_table
from iomt_ids.evaluate.gate import Decision, best_model, decide, score_on_test
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import begin_run, has_served, serve, served_model
from jobs import _judging, _training, build_features, evaluate_detector, ingest_flows, refine_flows, train_detector


def run(spark: SparkSession, config: Config) -> Outcome:
    """Run the chain; the record is written last and the pointer switched only after it."""
    # First, so that a pointer to a model that is gone or means other attacks costs no night of training.
    served = served_model(config.home) if has_served(config.home) else None
    read = ingest_flows.run(spark, config)
    refine_flows.run(spark, config)
    # The served model is judged on the same rows, so they must tell of the past if it needs them to.
    past = build_features.past_windows(config) or _judging.summed_past([served] if served else [])
    build_features.run(spark, config, past=past)
    into = begin_run(config.home, "retrain", config)
    _training.train(spark, config, into)
    content = _judging.judge(spark, config, into.models(), into)
    chosen = best_model(content["scores"], task=config.serve.task, features=config.features.set)
    if config.split.scheme == OFFICIAL:
        rival = _judging.scores_of(spark, config, served) if served else []
        decision = decide(
            score_on_test(content["scores"], chosen), score_on_test(rival, served.name if served else None),
            has_served=served is not None, tolerance=config.serve.tolerance,
        )
    else:
        # The served model has learnt from rows that this scheme tests on, or this one from rows that the official one does.
        decision = Decision(False, f"models of split.scheme={config.split.scheme} are for comparison and are not served")
    log().info("%s: %s", chosen, decision.reason)
    gate = {"candidate": chosen, "served": f"{served.run}/{served.name}" if served else None, **decision.as_dict()}
    into.finish({**content["run"], "rows": read.rows, "gate": gate})
    if decision.promote and chosen:
        serve(config.home, into, chosen)
    return Outcome(
        rows=read.rows, outputs={**read.outputs, **into.outputs()}, run=into.id, facts={"gate": gate},
        text="\n".join([
            comparison_table(content), operating_table(content), f"{chosen}: {decision.reason}",
            f"report: {into.folder / 'report.html'}",
        ]),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("retrain", run, argv, options={**evaluate_detector.OPTIONS, **train_detector.OPTIONS})


if __name__ == "__main__":
    sys.exit(main())
