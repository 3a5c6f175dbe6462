"""Rows in a repeatable order, and what is fitted on the train split: centre and scale of each feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.problem import Problem, Scaling
from iomt_ids.contract.tables import FEATURES, PREPARATION
from iomt_ids.contract.transform import step

_ROWS_PER_FILE = 1_000_000
# Sums depend on the order of addition in the last bits; twelve digits do not.
_DIGITS = 12


@step(takes=FEATURES, gives=FEATURES)
def order_flows(flows: DataFrame, *, rows: int) -> DataFrame:
    """Put the same rows into the same files in the same order, however they came.

    A partition of the table gets one file per million rows, so networks and forests see an order
    that depends neither on the number of executors nor on who finished first.
    """
    bucket = F.pmod(F.col("flow_id"), F.lit(max(1, rows // _ROWS_PER_FILE)))
    return flows.repartition("split", "category", bucket).sortWithinPartitions("split", "category", "flow_id")


def signed_log(value: Column) -> Column:
    """``sign(x) * log1p(|x|)``: tames heavy tails and keeps zero and sign."""
    return F.signum(value) * F.log1p(F.abs(value))


def require_complete(flows: DataFrame, features: Sequence[str]) -> None:
    """Refuse rows in which a feature is missing; a missing value never becomes 0.

    Raises
    ------
    ContractError
        Naming every feature with its number of missing values.
    """
    counts = flows.agg(*[F.count_if(F.col(name).isNull()).alias(name) for name in features]).collect()[0]
    missing = {name: counts[name] for name in features if counts[name]}
    if missing:
        listed = ", ".join(f"{name} ({n} rows)" for name, n in missing.items())
        raise ContractError(f"features are missing: {listed}; do the files mix releases v1 and v2?")


def fit_preparation(train: DataFrame, features: Sequence[str]) -> DataFrame:
    """Centre (mean) and scale (standard deviation) of the signed logarithm of each feature.

    Parameters
    ----------
    train : DataFrame
        Rows of the train split and no others.

    Returns
    -------
    DataFrame
        Schema `PREPARATION`, one row a feature. A constant feature gets scale 1. Without train rows there is
        nothing to fit and no row.
    """
    measures = [F.count(F.lit(1)).alias("rows")]
    for name in features:
        value = signed_log(F.col(name))
        measures += [F.avg(value).alias(f"{name}.mean"), F.stddev_pop(value).alias(f"{name}.std")]
    found = train.agg(*measures).collect()[0]
    rows = []
    for name in features if found["rows"] else ():
        spread = _rounded(found[f"{name}.std"])
        rows.append((name, _rounded(found[f"{name}.mean"]), spread if spread > 1e-9 else 1.0, found["rows"]))
    return train.sparkSession.createDataFrame(rows, PREPARATION).coalesce(1)


def state_problem(train: DataFrame, preparation: DataFrame, *, task: str, feature_set: str) -> Problem:
    """What a detector is to learn from the rows of the train split.

    Raises
    ------
    ContractError
        If there are no train rows, or the set needs the past of rows that have none.
    """
    first = train.select("release", "past_windows", "split_scheme").first()
    fitted = {row["feature"]: Scaling(row["feature"], row["center"], row["scale"]) for row in preparation.collect()}
    if first is None or not fitted:
        raise ContractError("the train split has no rows; are there files under .../csv/train?")
    features = feature_names(first["release"], feature_set)
    past_windows = first["past_windows"] if feature_set == "past" else 0
    if feature_set == "past" and not past_windows:
        raise ContractError("gold.features holds no past; build it with features.set=past or train.compare_past")
    labels = sorted(row[0] for row in train.select(f"{task}_id").distinct().collect())
    scaling = tuple(fitted[name] for name in features)
    return Problem(
        task, features, feature_set, tuple(labels), scaling, past_windows=past_windows, split_scheme=first["split_scheme"]
    )


def fit_again(problem: Problem, rows: DataFrame) -> Problem:
    """The same problem with centres and scales of some rows only, for a detector that must not know of the others.

    Parameters
    ----------
    rows : DataFrame
        Rows of the train split with every feature of the problem.
    """
    fitted = {row["feature"]: Scaling(row["feature"], row["center"], row["scale"])
              for row in fit_preparation(rows, problem.features).collect()}
    if not fitted:
        raise ContractError("there are no rows to fit centres and scales on")
    return dataclasses.replace(problem, scaling=tuple(fitted[name] for name in problem.features))


def as_sequence(problem: Problem, windows: int) -> Problem:
    """The same leak-free problem for a detector that reads each row's `windows` windows before it one by one."""
    return dataclasses.replace(problem, feature_set="past", past_windows=windows, is_sequence=True)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
