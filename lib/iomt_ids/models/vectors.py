"""Rows of `gold.features` to MLlib's vectors and back to label indices and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark import StorageLevel
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.problem import Problem

VECTOR = "_vector"
CLASS = "_class"
WEIGHT = "_weight"
VALUES = "_values"
# Rows of one task of a fit. MLlib samples rows by task, so a forest depends on this number and on the
# order of rows inside a task; with both fixed it depends on nothing else of the cluster.
_ROWS_PER_TASK = 50_000


def with_vector(flows: DataFrame, problem: Problem, *, scaled: bool) -> DataFrame:
    """Add the feature vector, `_vector`; scaled ones are centred logarithms, as networks see them."""
    if not scaled:
        return VectorAssembler(inputCols=list(problem.features), outputCol=VECTOR).transform(flows)
    names = [f"_scaled_{name}" for name in problem.features]
    columns = {}
    for name, scaling in zip(names, problem.scaling, strict=True):
        value = F.col(scaling.feature)
        columns[name] = (F.signum(value) * F.log1p(F.abs(value)) - F.lit(scaling.center)) / F.lit(scaling.scale)
    return VectorAssembler(inputCols=names, outputCol=VECTOR).transform(flows.withColumns(columns)).drop(*names)


def values_of(features: Sequence[str]) -> Column:
    """All features as one array of double, `_values`: Spark moves one column to Python faster than many."""
    # As text: by functions, PySpark asks Java a hundred things.
    return F.expr(f"array({', '.join(f'cast(`{name}` as double)' for name in features)})").alias(VALUES)


def dense_class(problem: Problem) -> Column:
    """Position of a row's label among the labels of the problem; -1 of a label that is none of them."""
    labels = F.array(*[F.lit(label) for label in problem.labels])
    return (F.array_position(labels, F.col(problem.label_column)) - 1).cast("int")


def training_rows(flows: DataFrame, problem: Problem, *, scaled: bool) -> DataFrame:
    """Distinct vectors, what each weighs and dense class indices, in memory for the many passes of a fit; unpersist after it."""
    distinct = flows.filter(F.col(problem.copies_column) > 0)
    label, weight = dense_class(problem).cast("double"), F.col(problem.copies_column).cast("double")
    rows = with_vector(distinct, problem, scaled=scaled).select(VECTOR, label.alias(CLASS), weight.alias(WEIGHT), "flow_id")
    tasks = max(2, -(-distinct.count() // _ROWS_PER_TASK))
    return rows.repartition(tasks, "flow_id").sortWithinPartitions("flow_id").persist(StorageLevel.MEMORY_AND_DISK)


def with_verdict(
    scored: DataFrame, problem: Problem, probabilities: Column, drop: tuple[str, ...], *, with_features: bool
) -> DataFrame:
    """Add `probability` over every class of the task and `prediction`, the likeliest label index.

    Parameters
    ----------
    probabilities : Column
        Array of double, one entry a label of ``problem.labels``.
    drop : tuple of str
        Columns that only the model needed.
    with_features : bool
        Otherwise features are left out too.
    """
    position = {label: i for i, label in enumerate(problem.labels)}
    spread = [
        F.col("_known")[position[label]] if label in position else F.lit(0.0) for label in range(problem.n_classes)
    ]
    likeliest = F.array_position(F.col("probability"), F.array_max(F.col("probability"))) - 1
    return (
        scored.withColumn("_known", probabilities)
        .withColumn("probability", F.array(*spread))
        .withColumn("prediction", likeliest.cast("int"))
        .drop("_known", VECTOR, *drop, *(() if with_features else problem.features))
    )


def as_array(vector: str) -> Column:
    """An MLlib vector column as an array of double."""
    return vector_to_array(F.col(vector))
