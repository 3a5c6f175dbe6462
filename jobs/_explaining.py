"""What `explain_alerts` does between its tables: alerts meet their rows, and rows that were held out meet the served model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import class_names
from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.contract.tables import GOLD_FEATURES
from iomt_ids.evaluate.explanations import choose_alerts, describe_permutation
from iomt_ids.models.histogram.permute import count_permuted
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import SavedModel
from iomt_ids.runtime.tables import Warehouse
from jobs._judging import require_same_split
from jobs._serving import as_learnt


def alerts_by_verdict(alerts: DataFrame, model: str) -> dict[str, int]:
    """How many alerts there are of each verdict.

    Raises
    ------
    ConfigError
        If another model than this one has raised them.
    """
    found = alerts.groupBy("verdict", "model").agg(F.count_if("is_alert").alias("alerts")).collect()
    others = sorted({row["model"] for row in found} - {model})
    if others:
        raise ConfigError(f"gold.alerts is what {', '.join(others)} has said, the served model is {model}; run score_flows again")
    return {row["verdict"]: row["alerts"] for row in found if row["alerts"]}


@contextmanager
def alerts_with_features(
    alerts: DataFrame, flows: DataFrame, model: Any, config: Config
) -> Iterator[tuple[DataFrame, list[int]]]:
    """The alerts to be explained with the model's features and answers, cached, and the labels of their verdicts.

    Raises
    ------
    ContractError
        If `bronze.flows` holds no longer the rows that the alerts are of.
    """
    names = class_names(model.problem.task)
    chosen = choose_alerts(alerts, rows=config.explain.rows).select("source_file", "source_line", "verdict", "model").persist()
    wanted = {row["verdict"]: row["count"] for row in chosen.groupBy("verdict").count().collect()}
    # Whole captures: a row's past is the rows before it.
    captures = flows.join(F.broadcast(chosen.select("source_file").distinct()), "source_file", "left_semi")
    rows = as_learnt(captures, model.problem, config.features.release)
    slots = flows.sparkSession.sparkContext.defaultParallelism
    # Some tasks a slot: a verdict of a deep model costs a hundred times what one of a shallow model does, and progress is by task.
    met = rows.join(F.broadcast(chosen), ["source_file", "source_line"]).repartition(4 * slots, "flow_id")
    told = model.transform(met).persist()
    try:
        answers = told.withColumn("_said", F.array(*[F.lit(name) for name in names])[F.col("prediction")])
        said = {row["verdict"]: row["count"] for row in answers.filter("_said = verdict").groupBy("verdict").count().collect()}
        if said != wanted:
            raise ContractError(
                f"gold.alerts has {sum(wanted.values())} alerts to explain, bronze.flows {sum(said.values())} rows of which the "
                "model says so: the flows have changed since; run score_flows again"
            )
        yield told, [names.index(verdict) for verdict in wanted]
    finally:
        told.unpersist()
        chosen.unpersist()


def permutation_of(
    spark: SparkSession, model: Any, served: SavedModel, warehouse: Warehouse, config: Config
) -> dict[str, Any] | None:
    """Permutation importance of the model's features on the validation rows of its own data; None if not wanted or not there.

    Parameters
    ----------
    warehouse : Warehouse
        Of the folder that the model is served from.
    """
    if not config.explain.repeats:
        return None
    if not warehouse.exists(GOLD_FEATURES):
        log().warning("no permutation importance: %s, which holds the validation rows, is not there", warehouse.path(GOLD_FEATURES))
        return None
    flows = warehouse.read(spark, GOLD_FEATURES)
    require_same_split(flows, [served])
    log().info("shuffling each feature of the validation rows %d times", config.explain.repeats)
    counts = count_permuted(
        with_past(flows.filter("split = 'validation'"), served.problem), served.problem, model.scorer,
        repeats=config.explain.repeats, seed=derive_seed(config.seed, "permutation"),
    )
    return describe_permutation(counts, served.problem)
