"""gold.features -> models and a run record.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/train_detector.py --config conf/local.yaml --set 'train.detectors={random_forest: [attack]}'
"""

import sys
import time
from dataclasses import asdict

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.models import assignments, detectors
from iomt_ids.prepare.copies import under_policy
from iomt_ids.prepare.features import state_problem
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed, seconds_since
from iomt_ids.runtime.config import Config, detector_params
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, describe_run, start_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs._tuning import last_parts, tune

OPTIONS = {"--tune": "tune.enabled=true"}


def train(spark: SparkSession, config: Config, into: Run) -> dict[str, float]:
    """Train every configured detector on every task it is configured for; returns the seconds of each model."""
    kinds = detectors()
    compared = {"all": config.train.compare_all_features, "past": config.train.compare_past}
    wanted = assignments(config.train.detectors, config.features.set, compared, config.models)
    params = {name: detector_params(name, kinds[name].params, config) for name, _, _ in wanted}
    warehouse = Warehouse.of(config)
    flows, preparation = warehouse.read(spark, GOLD_FEATURES), warehouse.read(spark, GOLD_PREPARATION)
    learnt_from, held_out = (flows.filter(F.col("split") == split) for split in ("train", "validation"))
    seconds = {}
    for detector, task, feature_set in wanted:
        name = f"{detector}-{task}-{feature_set}"
        log().info("training %s", name)
        start = time.monotonic()
        problem = state_problem(learnt_from, preparation, task=task, feature_set=feature_set)
        both, rows, validation = (
            under_policy(with_past(split, problem), problem.copies_column, config.train.duplicates)
            for split in (learnt_from.unionByName(held_out), learnt_from, held_out)
        )
        chosen, tuned = params[detector], None
        if config.tune.enabled:
            chosen, tuned = tune(both, problem, detector, chosen, config, name)
        if config.train.ends_by == "parts":
            rows, validation = last_parts(both, problem, config)
        fitted = kinds[detector].fit(
            rows, problem, chosen, validation=validation,
            seed=derive_seed(config.seed, name), launcher=HorovodLauncher(spark),
        )
        seconds[name] = seconds_since(start)
        facts = {"importances": fitted.importances, "curves": fitted.curves, "facts": fitted.facts,
                 "params": asdict(chosen), "tuning": tuned}
        into.save_model(name, detector, problem, fitted.save, {**facts, "train_seconds": seconds[name]})
        log().info("trained %s in %.1f s", name, seconds[name])
    return seconds


def run(spark: SparkSession, config: Config) -> Outcome:
    """Train into a run of its own."""
    into = start_run(config.home, "train_detector")
    seconds = train(spark, config, into)
    into.finish(describe_run(into, config, versions(spark)))
    rows = Warehouse.of(config).read(spark, GOLD_FEATURES).groupBy("split").count()
    return Outcome(dict(rows.collect()), into.outputs(), into.id, facts={"train_seconds": seconds})


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("train_detector", run, argv, options=OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
