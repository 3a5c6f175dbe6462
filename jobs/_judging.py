"""What `evaluate_detector` and `retrain` share: models on the rows that none has learnt from, and all there is to say of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import SPLITS
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import HISTORY
from iomt_ids.contract.splits import SCHEMES
from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_FEATURES, GOLD_SCORES
from iomt_ids.evaluate.answers import Answers, count_answers, keep_answers
from iomt_ids.evaluate.hierarchy import describe_hierarchy
from iomt_ids.evaluate.hierarchy_counts import count_hierarchy
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
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, SavedModel, describe_run, ledgers_of_other_schemes
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions


@dataclass(frozen=True)
class Judged:
    """One model's part of `scores.json`, and its answers to test rows, for comparison with those of others."""

    verdict: Verdict
    operating: dict[str, Any]
    hierarchy: dict[str, Any]
    answers: Answers


@contextmanager
def _unseen(spark: SparkSession, config: Config, model: SavedModel) -> Iterator[DataFrame]:
    """The rows that no model has learnt from with the model's answers, cached; of equal rows one counts for all."""
    log().info("scoring %s", model.name)
    flows = with_past(Warehouse.of(config).read(spark, GOLD_FEATURES), model.problem)
    unseen = flows.filter(F.col("split").isin(*SPLITS[1:]) & (F.col(model.problem.copies_column) > 0))
    # build_features has looked at every row; one tells whether they are of the model's release.
    require_complete(unseen.limit(1), model.problem.features)
    scored = detectors()[model.detector].load(spark, model.folder, model.problem).transform(unseen, with_features=False)
    told = scored.drop("past", HISTORY).persist()
    try:
        yield told
    finally:
        told.unpersist()


def verdict_on(config: Config, model: SavedModel, told: DataFrame) -> Verdict:
    """A model's scores on rows with its answers."""
    start = time.monotonic()
    resamples, seed = config.evaluate.bootstrap, derive_seed(config.seed, "bootstrap")
    verdict = judge_model(model.name, model.detector, model.problem, told, resamples=resamples, seed=seed)
    return verdict.with_facts(train_seconds=model.facts["train_seconds"], score_seconds=seconds_since(start))


def scores_of(spark: SparkSession, config: Config, model: SavedModel) -> list[dict[str, Any]]:
    """A model's scores alone."""
    with _unseen(spark, config, model) as told:
        return verdict_on(config, model, told).scores


def summed_past(models: list[SavedModel]) -> int:
    """Windows before a row that `gold.features` has to sum up for these models."""
    return max((model.problem.past_windows for model in models if not model.problem.is_sequence), default=0)


def _judge_one(spark: SparkSession, config: Config, model: SavedModel) -> Judged:
    settings, named = config.evaluate, (model.name, model.detector, model.problem)
    with _unseen(spark, config, model) as told:
        verdict = verdict_on(config, model, told)
        operating = describe_operating(
            *named, count_scores(told, model.problem, weight=model.problem.copies_column),
            false_alarms_per_million=settings.false_alarms_per_million, costs=settings.costs,
        )
        hierarchy = describe_hierarchy(
            *named, count_hierarchy(told, model.problem), error=settings.verdict_error, resamples=settings.bootstrap,
            seed=derive_seed(config.seed, "bootstrap"),
        ) if model.problem.task == "attack" else {}
        # One more look at what is cached still; later it would be scored once more.
        answers = keep_answers(told, model.problem).persist()
        answers.count()
    return Judged(verdict, operating, hierarchy, Answers(*named, operating["threshold"], answers))


def judge(spark: SparkSession, config: Config, models: list[SavedModel], into: Run) -> dict[str, Any]:
    """Score models and write what there is to say of them; returns the content of `scores.json`."""
    warehouse = Warehouse.of(config)
    everything = warehouse.read(spark, GOLD_FEATURES)
    flows = everything.filter(F.col("split").isin(*SPLITS))
    judged = [_judge_one(spark, config, model) for model in models]
    log().info("describing attacks and devices, looking for leaks")
    content = {
        "run": describe_run(into, config, versions(spark)),
        **describe_verdicts([j.verdict for j in judged], flows, config.data, warehouse.versions()),
        "operating": [j.operating for j in judged],
        "hierarchy": [j.hierarchy for j in judged if j.hierarchy],
        "splits": describe_splits(everything, [config.split_scheme(name) for name in SCHEMES]),
        **_compare(spark, config, flows, [j.answers for j in judged], into),
        "models": {model.name: model.facts for model in models},
    }
    into.write("scores.json", content)
    into.write("report.html", render_report(content))
    warehouse.overwrite(scores_table(spark, into.id, content["scores"]), GOLD_SCORES, where={"run": into.id})
    return content


def _compare(
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


def require_same_split(flows: DataFrame, models: list[SavedModel]) -> None:
    """Refuse models that may have learnt from what are test rows now.

    Parameters
    ----------
    flows : DataFrame
        Of `gold.features`.

    Raises
    ------
    ContractError
        Naming both ways of cutting.
    """
    first = flows.select("split_scheme").first()
    learnt = sorted({model.problem.split_scheme for model in models} - {first["split_scheme"] if first else ""})
    if first and learnt:
        raise ContractError(
            f"the rows are cut as '{first['split_scheme']}', the models have learnt under '{', '.join(learnt)}': test rows of one "
            "are train rows of the other; run refine_flows and build_features with the models' split.scheme, or train again"
        )
