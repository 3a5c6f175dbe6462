"""models, gold.features -> gold.scores, scores.json, report.html.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/evaluate_detector.py --config conf/local.yaml --set data.raw=DIR2 --set evaluate.run=out/demo
"""

import sys

from pyspark.sql import SparkSession

from iomt_ids.contract.tables import GOLD_FEATURES
from iomt_ids.evaluate.compare import comparison_table, operating_table
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.runs import find_run, start_run
from iomt_ids.runtime.tables import Warehouse
from jobs import _judging, build_features, ingest_flows, refine_flows

OPTIONS = {"--false-alarms-per-million": "evaluate.false_alarms_per_million"}


def run(spark: SparkSession, config: Config) -> Outcome:
    """Judge the models of a run; the tables of data that they were not trained on are made first."""
    trained = find_run(config.home, config.evaluate.run)
    if trained.folder.resolve().parent.parent != config.home.resolve():
        for job in (ingest_flows, refine_flows):
            job.run(spark, config)
        build_features.run(spark, config, past=_judging.summed_past(trained.models()))
    else:
        _judging.require_same_split(Warehouse.of(config).read(spark, GOLD_FEATURES), trained.models())
    into = start_run(config.home, "evaluate_detector")
    content = _judging.judge(spark, config, trained.models(), into)
    into.finish({"judged": trained.id, **content["run"]})
    rows = {split: sum(classes.values()) for split, classes in content["data"]["rows"].items()}
    text = f"{comparison_table(content)}\n{operating_table(content)}\nreport: {into.folder / 'report.html'}"
    return Outcome(rows, into.outputs(), into.id, text)


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("evaluate_detector", run, argv, options=OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
