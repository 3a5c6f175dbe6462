"""Trees boosted by XGBoost (Chen and Guestrin, KDD 2016) through `xgboost.spark`, as arrays of ours.

What is saved and scored is therefore MLlib's models, as of every other engine: whoever scores needs no XGBoost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.models.histogram.boost import Boosting, BoostShape, RegressionTree
from iomt_ids.models.vectors import CLASS, VECTOR, WEIGHT, dense_class, with_vector

_HELD_OUT = "_held_out"


@dataclass(frozen=True)
class Distribution:
    """How XGBoost trains, beside the limits of boosting.

    Attributes
    ----------
    workers : int
        Tasks that train together, one a slot; each holds a part of the rows.
    class_weight_power : float
        A class of share p weighs p to minus this power; 0 weighs rows alike, 1 weighs classes alike.
    """

    workers: int
    class_weight_power: float


def fit_xgboost(
    flows: DataFrame, problem: Problem, shape: BoostShape, spread: Distribution, seed: int, *, validation: DataFrame
) -> tuple[Boosting, list[dict[str, float]]]:
    """Boost trees; validation rows end the rounds, and the best are kept.

    Returns
    -------
    boosting : Boosting
        Nodes tell XGBoost's cover, its sum of second derivatives, for rows, and nothing of residuals.
    curves : list of dict
        See `histogram.boost.boost`.

    Raises
    ------
    ConfigError
        If XGBoost is not installed.
    ContractError
        If a feature is missing; XGBoost would take it for a value.
    """
    estimator = _estimator(problem, shape, spread, seed)
    rows = _rows(flows, validation if shape.patience else validation.limit(0), problem)
    _require_complete(rows, problem)
    weighted = rows.withColumn(WEIGHT, F.col(WEIGHT) * _class_weights(rows, problem, spread.class_weight_power))
    # Of columns by name, XGBoost 3.2 fails on a batch without validation rows; of a vector it does not.
    told = with_vector(weighted, problem, scaled=False).select("flow_id", VECTOR, CLASS, WEIGHT, _HELD_OUT)
    # Hashed and sorted: what a worker sees depends on nothing but the rows.
    told = told.repartition(spread.workers, "flow_id").sortWithinPartitions("flow_id")
    model = estimator.fit(told)
    booster, history = model.get_booster(), model.training_summary
    losses = [next(iter(found.values())) if found else [] for found in (
        history.train_objective_history, history.validation_objective_history
    )]
    kept = booster.best_iteration + 1 if shape.patience and losses[1] else booster.num_boosted_rounds()
    boosting = as_boosting(booster.save_raw("json"), len(problem.features), kept)
    curves = [{"epoch": i + 1, "train_loss": loss} for i, loss in enumerate(losses[0])]
    for point, loss in zip(curves, losses[1], strict=False):
        point["validation_loss"] = loss
    return boosting, curves


def as_boosting(raw: bytes, features: int, rounds: int) -> Boosting:
    """A booster of XGBoost in our arrays; labels and probabilities are the same but for the last digits of a float32.

    Parameters
    ----------
    raw : bytes
        The booster as JSON, with objective ``binary:logistic`` or ``multi:softprob``.
    features : int
    rounds : int
        How many rounds to take, from the first.
    """
    learner = json.loads(raw)["learner"]
    model = learner["gradient_booster"]["model"]
    models = max(1, int(learner["learner_model_param"]["num_class"]))
    base = np.array(json.loads("[" + learner["learner_model_param"]["base_score"].strip("[]") + "]"), np.float64)
    starts = np.broadcast_to(np.log(base / (1 - base)) if models == 1 else base, models)
    trees: list[list[RegressionTree]] = [[] for _ in range(models)]
    for tree, own in list(zip(model["trees"], model["tree_info"], strict=True))[: rounds * models]:
        # MLlib has no score to start from: the first tree holds it, as of our own boosting.
        trees[own].append(_as_tree(tree, 0.0 if trees[own] else float(starts[own])))
    return Boosting(tuple(map(tuple, trees)), tuple(np.ones(len(own)) for own in trees), features)


def _as_tree(tree: dict[str, Any], start: float) -> RegressionTree:
    """One tree with its nodes in pre-order."""
    lefts, rights = np.array(tree["left_children"]), np.array(tree["right_children"])
    order: list[int] = []
    right: list[int] = []
    waiting = [(0, -1)]
    while waiting:
        node, parent = waiting.pop()
        if parent >= 0:
            right[parent] = len(order)
        order.append(node)
        right.append(-1)
        if lefts[node] >= 0:
            waiting += [(int(rights[node]), len(order) - 1), (int(lefts[node]), -1)]
    inner = lefts[order] >= 0
    value = np.array(tree["split_conditions"], np.float32)[order]
    cover = np.maximum(np.rint(np.array(tree["sum_hessian"], np.float64)[order]), 1.0)
    gain = np.where(inner, np.array(tree["loss_changes"], np.float64)[order] / cover, -1.0)
    return RegressionTree(
        np.where(inner, np.array(tree["split_indices"])[order], -1).astype(np.int32),
        np.where(inner, last_below(value), 0.0), np.array(right, np.int32),
        np.column_stack([cover, np.zeros((len(order), 2))]), gain,
        np.where(inner, 0.0, (value.astype(np.float64) + start) / 2),
    )


def last_below(thresholds: np.ndarray) -> np.ndarray:
    """The largest double that, rounded to a float32, is less than each threshold: XGBoost rounds values, MLlib does not.

    Examples
    --------
    >>> last = last_below(np.array([0.1], np.float32))
    >>> bool(np.float32(last[0]) < np.float32(0.1) <= np.float32(np.nextafter(last[0], 1.0)))
    True
    """
    below = np.nextafter(thresholds, np.float32(-np.inf))
    middle = (below.astype(np.float64) + thresholds.astype(np.float64)) / 2
    # A value half way is rounded to the even one of the two.
    return np.where(below.view(np.uint32) % 2 == 0, middle, np.nextafter(middle, -np.inf))


def _estimator(problem: Problem, shape: BoostShape, spread: Distribution, seed: int) -> Any:
    try:
        from xgboost.spark import SparkXGBClassifier
    except ImportError as error:
        raise ConfigError(
            "models.gradient_boosted.engine is 'xgboost', which is not installed; install it where Spark's tasks "
            "run, by `make xgboost` or pip install 'iomt_ids[xgboost]', or take engine histogram or mllib"
        ) from error
    if spread.workers < 1:
        raise ConfigError(f"models.gradient_boosted.workers is {spread.workers}: at least 1")
    ends: dict[str, Any] = {}
    if shape.patience:
        ends = {"early_stopping_rounds": shape.patience, "validation_indicator_col": _HELD_OUT}
    return SparkXGBClassifier(
        features_col=VECTOR, label_col=CLASS, weight_col=WEIGHT, num_workers=spread.workers,
        n_estimators=shape.rounds, max_depth=shape.depth, max_bin=shape.bins,
        learning_rate=shape.learning_rate, reg_lambda=shape.penalty, min_child_weight=shape.curvature_per_leaf,
        max_delta_step=shape.max_delta_step,
        tree_method="hist", random_state=seed, eval_metric="logloss" if len(problem.labels) == 2 else "mlogloss",
        **ends,
    )


def _rows(flows: DataFrame, validation: DataFrame, problem: Problem) -> DataFrame:
    """Distinct vectors of both splits; validation may hold classes that are not learnt."""
    values = [F.col(name).cast("double").alias(name) for name in problem.features]
    parts = []
    for part, held_out in ((flows, False), (validation, True)):
        weight = F.col(problem.copies_column).cast("double").alias(WEIGHT)
        known = part.select("flow_id", dense_class(problem).alias(CLASS), weight, *values)
        parts.append(known.filter((F.col(CLASS) >= 0) & (F.col(WEIGHT) > 0)).withColumn(_HELD_OUT, F.lit(held_out)))
    return parts[0].unionByName(parts[1])


def _require_complete(rows: DataFrame, problem: Problem) -> None:
    missing = rows.agg(*[F.count_if(F.col(n).isNull() | F.isnan(n)).alias(n) for n in problem.features]).collect()[0]
    told = ", ".join(f"{name} ({missing[name]} rows)" for name in problem.features if missing[name])
    if told:
        raise ContractError(f"features are missing: {told}")


def _class_weights(rows: DataFrame, problem: Problem, power: float) -> Any:
    """What a row's class weighs; rows weigh 1 on average."""
    if power == 0:
        return F.lit(1.0)
    counts = np.zeros(len(problem.labels))
    for label, weight in rows.filter(~F.col(_HELD_OUT)).groupBy(CLASS).agg(F.sum(WEIGHT)).collect():
        counts[label] = weight
    weights = np.maximum(counts / counts.sum(), 1e-12) ** -power
    weights *= counts.sum() / (weights * counts).sum()
    return F.array(*[F.lit(float(w)) for w in weights])[F.col(CLASS)]
