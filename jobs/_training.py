"""What `train_detector` and `retrain` share: each detector fitted on each task it is configured for."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.distributed.launch import launcher_of
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.models import assignments, detectors
from iomt_ids.models.detector import FittedDetector
from iomt_ids.prepare.copies import under_policy
from iomt_ids.prepare.features import as_sequence, state_problem
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed, seconds_since
from iomt_ids.runtime.config import Config, detector_params
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run
from iomt_ids.runtime.tables import Warehouse
from jobs._tuning import last_parts, tune


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
    launcher = launcher_for(spark, config, into)
    there = {model.name: model for model in into.models()}
    seconds = {}
    for detector, task, feature_set in wanted:
        name = f"{detector}-{task}-{feature_set}"
        start = time.monotonic()
        problem = _problem(flows, preparation, detector, task, feature_set, config)
        # A run that goes on may have found other rows: then what it has learnt is learnt again.
        if name in there and there[name].problem == problem:
            seconds[name] = there[name].facts["train_seconds"]
            log().info("%s is trained already", name)
            continue
        log().info("training %s", name)
        fitted, settled = _fit(flows, problem, detector, params[detector], config, name, launcher)
        seconds[name] = seconds_since(start)
        facts = {"importances": fitted.importances, "curves": fitted.curves, "facts": fitted.facts, **settled}
        into.save_model(name, detector, problem, fitted.save, {**facts, "train_seconds": seconds[name]})
        into.forget_checkpoints()
        log().info("trained %s in %.1f s", name, seconds[name])
    return seconds


def _problem(
    flows: DataFrame, preparation: DataFrame, detector: str, task: str, feature_set: str, config: Config
) -> Problem:
    is_sequential = detectors()[detector].is_sequential
    learnt_from = flows.filter(F.col("split") == "train")
    problem = state_problem(learnt_from, preparation, task=task, feature_set="leak_free" if is_sequential else feature_set)
    return as_sequence(problem, config.features.past_windows) if is_sequential else problem


def _fit(
    flows: DataFrame, problem: Problem, detector: str, params: Any, config: Config, name: str, launcher: ResumingLauncher
) -> tuple[FittedDetector, dict[str, Any]]:
    """A detector that has learnt, and the parameters that it has learnt with."""
    told = under_policy(with_past(flows, problem), problem.copies_column, config.train.duplicates)
    rows, validation = (told.filter(F.col("split") == split) for split in ("train", "validation"))
    both, tuned = told.filter(F.col("split").isin("train", "validation")), None
    if config.tune.enabled:
        params, tuned = tune(both, problem, detector, params, config, name)
    if config.train.ends_by == "parts":
        rows, validation = last_parts(both, problem, config)
    fitted = detectors()[detector].fit(
        rows, problem, params, validation=validation, seed=derive_seed(config.seed, name), launcher=launcher
    )
    return fitted, {"params": asdict(params), "tuning": tuned}


def launcher_for(spark: SparkSession, config: Config, into: Run) -> ResumingLauncher:
    """What joins the ranks of networks, as the configuration says; it goes on from the run's checkpoints after a death."""
    wanted = config.train
    endurance = Endurance(wanted.checkpoint_steps, wanted.restarts, wanted.replacement_wait_s, wanted.ranks_at_least)
    return ResumingLauncher(launcher_of(wanted.launcher, spark), into.checkpoints, endurance, log().warning)
