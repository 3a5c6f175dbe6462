"""gold.features -> models and a run record.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/train_detector.py --config conf/local.yaml --set 'train.detectors={random_forest: [attack]}'
"""

import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.distributed.launch import launcher_of
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.models import assignments, detectors
from iomt_ids.prepare.copies import under_policy
from iomt_ids.prepare.features import as_sequence, state_problem
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed, seconds_since
from iomt_ids.runtime.config import Config, detector_params
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, begin_run, describe_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions

OPTIONS = {"--resume": "train.resume=true"}


def train(spark: SparkSession, config: Config, into: Run) -> dict[str, float]:
    """Train every configured detector on every task that the run has no model of; returns the seconds of each model."""
    kinds = detectors()
    compared = {"all": config.train.compare_all_features, "past": config.train.compare_past}
    wanted = assignments(config.train.detectors, config.features.set, compared, config.models)
    params = {name: detector_params(name, kinds[name].params, config) for name, _, _ in wanted}
    warehouse = Warehouse.of(config)
    # One snapshot for every model, whoever writes meanwhile.
    flows = warehouse.read(spark, GOLD_FEATURES, warehouse.version(GOLD_FEATURES))
    preparation = warehouse.read(spark, GOLD_PREPARATION, warehouse.version(GOLD_PREPARATION))
    learnt_from = flows.filter(F.col("split") == "train")
    launcher = _launcher(spark, config, into)
    there = {model.name: model for model in into.models()}
    seconds = {}
    for detector, task, feature_set in wanted:
        name = f"{detector}-{task}-{feature_set}"
        start = time.monotonic()
        is_sequential = kinds[detector].is_sequential
        problem = state_problem(learnt_from, preparation, task=task, feature_set="leak_free" if is_sequential else feature_set)
        if is_sequential:
            problem = as_sequence(problem, config.features.past_windows)
        # A run that goes on may have found other rows: then what it has learnt is learnt again.
        if name in there and there[name].problem == problem:
            seconds[name] = there[name].facts["train_seconds"]
            log().info("%s is trained already", name)
            continue
        log().info("training %s", name)
        told = under_policy(with_past(flows, problem), problem.copies_column, config.train.duplicates)
        rows, validation = (told.filter(F.col("split") == split) for split in ("train", "validation"))
        fitted = kinds[detector].fit(
            rows, problem, params[detector], validation=validation,
            seed=derive_seed(config.seed, name), launcher=launcher,
        )
        seconds[name] = seconds_since(start)
        facts = {"importances": fitted.importances, "curves": fitted.curves, "facts": fitted.facts}
        into.save_model(name, detector, problem, fitted.save, {**facts, "train_seconds": seconds[name]})
        into.forget_checkpoints()
        log().info("trained %s in %.1f s", name, seconds[name])
    return seconds


def _launcher(spark: SparkSession, config: Config, into: Run) -> ResumingLauncher:
    wanted = config.train
    endurance = Endurance(wanted.checkpoint_steps, wanted.restarts, wanted.replacement_wait_s, wanted.ranks_at_least)
    return ResumingLauncher(launcher_of(wanted.launcher, spark), into.checkpoints, endurance, log().warning)


def run(spark: SparkSession, config: Config) -> Outcome:
    """Train into a run of its own, or into the one that is gone on with."""
    into = begin_run(config.home, "train_detector", config)
    seconds = train(spark, config, into)
    into.finish({**describe_run(into, config, versions(spark)), "tables": Warehouse.of(config).versions()})
    rows = Warehouse.of(config).read(spark, GOLD_FEATURES).groupBy("split").count()
    return Outcome(dict(rows.collect()), into.outputs(), into.id, facts={"train_seconds": seconds})


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("train_detector", run, argv, options=OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
