"""What `train_detector --tune` does before it fits: settings chosen on parts of train captures; no job by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels
from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.launch import launcher_of
from iomt_ids.evaluate.scores import Tally, f1_macro
from iomt_ids.models import detectors
from iomt_ids.models.detector import Problem
from iomt_ids.models.tuning import Candidate, candidates_of, choose, with_params
from iomt_ids.prepare.folds import fold_rows, placed_rows
from iomt_ids.runtime.clock import derive_seed
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.log import log
from iomt_ids.runtime.trials import Trials

# Rows in a fixed order, for networks, whose steps depend on it.
_TASKS = 8


def tune(
    rows: DataFrame, problem: Problem, detector: str, params: Any, config: Config, name: str
) -> tuple[Any, dict[str, Any] | None]:
    """The best parameters of a detector for a problem, chosen on rows of the splits train and validation.

    Parameters
    ----------
    rows : DataFrame
        Of those splits, with the past and the copies that the detector will learn from. What is scored is of split train.
    params : dataclass
        As configured; what ``models.<detector>`` sets stays as it is.

    Returns
    -------
    params : dataclass
    record : dict or None
        All trials, for the run's folder; None if the detector has nothing to tune.
    """
    kind = detectors()[detector]
    space = {key: values for key, values in kind.space.items() if key not in config.models.get(detector, {})}
    if not space:
        log().info("nothing to tune of %s", name)
        return params, None
    trials = Trials(config.home / "tuning")
    told = _Told(rows, problem, config)
    measured = told.key(detector)

    def measure(candidate: Candidate, fold: int) -> float:
        chosen = with_params(params, candidate)
        key = {**measured, "fold": fold, "params": dataclasses.asdict(chosen), "seed": derive_seed(config.seed, f"{name}-{fold}")}
        found = trials.remember(key, lambda: told.trial(detector, chosen, fold, key["seed"]))
        log().info("fold %d of %s, %s: macro-F1 %.4f", fold, name, candidate, found["f1_macro"])
        return float(found["f1_macro"])

    wanted = candidates_of(space, params, config.tune.candidates, derive_seed(config.seed, f"{name}-candidates"))
    try:
        choice = choose(wanted, config.tune.folds, config.tune.keep, measure)
    finally:
        told.forget()
    log().info("chose %s for %s; %d trials made, %d found", choice.params, name, trials.made, trials.reused)
    record = {"chosen": choice.params, "trials_made": trials.made, "trials_found": trials.reused,
              "folds": config.tune.folds, "gap": config.features.past_windows, "candidates": choice.scores}
    return with_params(params, choice.params), record


def last_parts(rows: DataFrame, problem: Problem, config: Config) -> tuple[DataFrame, DataFrame]:
    """Train rows without the last part of each capture, and that part, which says when a fit ends; a gap between them."""
    folds = config.tune.folds
    learnt_from, held_out = fold_rows(placed_rows(rows, problem), fold=folds - 1, folds=folds, gap=config.features.past_windows)
    # What thresholds are picked on is not learnt from.
    return learnt_from.filter(F.col("split") == "train"), held_out


class _Told:
    """Rows of one fold at a time, in memory."""

    def __init__(self, rows: DataFrame, problem: Problem, config: Config) -> None:
        self.rows, self.problem, self.config = rows, problem, config
        self.placed = placed_rows(rows, problem)
        self.fold = -1
        self.held: list[DataFrame] = []

    def forget(self) -> None:
        """Out of memory with them."""
        for frame in self.held:
            frame.unpersist()

    def key(self, detector: str) -> dict[str, Any]:
        """What every trial depends on beside its parameters: the content of the rows, however they came."""
        told = ["source_file", "source_line", "split", self.problem.label_column, self.problem.copies_column]
        content = self.rows.agg(
            F.count(F.lit(1)).alias("rows"), F.bit_xor(F.xxhash64(*told, *self.problem.features)).alias("hash")
        ).collect()[0]
        return {
            "detector": detector, "problem": self.problem.as_dict(), "rows": content["rows"], "hash": content["hash"],
            "folds": self.config.tune.folds, "gap": self.config.features.past_windows,
            "duplicates": self.config.train.duplicates,
        }

    def trial(self, detector: str, params: Any, fold: int, seed: int) -> dict[str, Any]:
        """Fit on a fold's rows and score what is held out; of equal rows one counts for all."""
        learnt_from, validation, held_out = self._frames(fold)
        labels = tuple(sorted(row[0] for row in learnt_from.select(self.problem.label_column).distinct().collect()))
        problem = dataclasses.replace(self.problem, labels=labels)
        launcher = launcher_of(self.config.train.launcher, learnt_from.sparkSession)
        fitted = detectors()[detector].fit(learnt_from, problem, params, validation=validation, seed=seed, launcher=launcher)
        told = fitted.transform(held_out, with_features=False)
        counted = told.groupBy(problem.label_column, "prediction").agg(F.sum(problem.copies_column))
        matrix = np.zeros((problem.n_classes, problem.n_classes), np.int64)
        for label, prediction, rows in counted.collect():
            matrix[label, prediction] = rows
        if not matrix.any():
            raise ContractError(f"part {fold + 1} of {self.config.tune.folds} of the train captures has no rows to score on")
        return {"f1_macro": f1_macro(Tally(matrix, benign_labels(problem.task))), "rows": int(matrix.sum())}

    def _frames(self, fold: int) -> list[DataFrame]:
        if fold != self.fold:
            self.forget()
            learnt, held_out = fold_rows(
                self.placed, fold=fold, folds=self.config.tune.folds, gap=self.config.features.past_windows
            )
            held_out = held_out.filter((F.col("split") == "train") & (F.col(self.problem.copies_column) > 0))
            parts = [learnt.filter(F.col("split") == split) for split in ("train", "validation")]
            self.held = [
                part.repartition(_TASKS, "flow_id").sortWithinPartitions("flow_id").persist() for part in (*parts, held_out)
            ]
            self.fold = fold
        return self.held
