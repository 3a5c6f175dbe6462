"""Exact duplicates, by class: within a file, across files, across train and test; and the ceiling that they put on any score.

Two rows are duplicates if all columns of a feature set are equal as doubles. The same in single precision tells how many
duplicates a narrower table would invent. Rows are counted in Spark by a hash of 128 bits; no row leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels, class_names
from iomt_ids.contract.flows import feature_names
from iomt_ids.evaluate.scores import OVERALL, Tally

# What is compared: the columns of a feature set, in a precision.
VARIANTS = (("leak_free", "double"), ("all", "double"), ("all", "float"))
LEARNT_FROM = ("train", "validation")


def describe_duplicates(flows: DataFrame) -> list[dict[str, Any]]:
    """The ``duplicates`` of `scores.json`.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`, of every split.

    Returns
    -------
    list of dict
        One entry a variant: ``features``, ``precision``, ``columns``, ``classes`` (counts of rows by class) and ``ceiling``
        (what the best answer a distinct vector scores on the test split: no model of these columns is more accurate).
        Empty if there are no rows.
    """
    first = flows.select("release").first()
    if first is None:
        return []
    found = []
    for features, precision in VARIANTS:
        columns = feature_names(first["release"], features)
        cells = _cells(flows, columns, precision).persist()
        found.append({
            "features": features, "precision": precision, "columns": len(columns), "classes": _by_class(cells),
            "ceiling": _ceiling(cells),
        })
        cells.unpersist()
    return found


def _cells(flows: DataFrame, columns: Sequence[str], precision: str) -> DataFrame:
    """Rows of one vector, class, file and split: few, where duplicates are many."""
    # Spark's hash takes -0.0 and 0.0 for the same number, as a model does.
    values = [F.col(name).cast(precision) for name in columns]
    place = [F.xxhash64(*values).alias("one"), F.xxhash64(F.lit(1), *reversed(values)).alias("other")]
    key = ("one", "other", "attack_id", "source_file", "split")
    return flows.select(*place, *key[2:]).groupBy(*key).agg(F.count("*").alias("rows"))


def _by_class(cells: DataFrame) -> list[dict[str, Any]]:
    vector, own = Window.partitionBy("one", "other"), Window.partitionBy("one", "other", "attack_id")
    is_test = F.col("split") == "test"
    in_file = Window.partitionBy("one", "other", "attack_id", "source_file")
    seen = cells.select(
        "attack_id", "rows", is_test.alias("is_test"),
        (F.row_number().over(own.orderBy("source_file", "split")) == 1).alias("is_first"),
        (F.row_number().over(in_file.orderBy("split")) == 1).alias("is_first_of_file"),
        F.max(F.col("split").isin(*LEARNT_FROM)).over(vector).alias("is_learnt"),
        (F.min("attack_id").over(vector) != F.max("attack_id").over(vector)).alias("is_disputed"),
    )

    def rows_where(condition: Column) -> Column:
        return F.sum(F.when(condition, F.col("rows")).otherwise(0))

    counted = seen.groupBy("attack_id").agg(
        F.sum("rows").alias("rows"), F.sum(F.col("is_first").cast("int")).alias("distinct"),
        F.sum(F.col("is_first_of_file").cast("int")).alias("by_file"), rows_where(F.col("is_disputed")).alias("disputed"),
        rows_where(F.col("is_test")).alias("test"), rows_where(F.col("is_test") & F.col("is_learnt")).alias("learnt"),
    )
    return [
        {
            "class": class_names("attack")[row["attack_id"]], "rows": row["rows"], "distinct": row["distinct"],
            "within_files": row["rows"] - row["by_file"], "across_files": row["by_file"] - row["distinct"],
            "test_rows": row["test"], "test_rows_learnt_from": row["learnt"], "under_another_label": row["disputed"],
        }
        for row in counted.orderBy("attack_id").collect()
    ]


def _ceiling(cells: DataFrame) -> dict[str, Any]:
    """Scores on the test split of the answer that is right for most rows of each vector."""
    counted = cells.filter("split = 'test'").groupBy("one", "other", "attack_id").agg(F.sum("rows").alias("rows"))
    best = F.row_number().over(Window.partitionBy("one", "other").orderBy(F.desc("rows"), "attack_id")) == 1
    answered = counted.withColumn(
        "answer", F.max(F.when(best, F.col("attack_id"))).over(Window.partitionBy("one", "other"))
    )
    names = class_names("attack")
    matrix = np.zeros((len(names), len(names)), np.int64)
    for row in answered.groupBy("attack_id", "answer").agg(F.sum("rows").alias("rows")).collect():
        matrix[row["attack_id"], row["answer"]] = row["rows"]
    if not matrix.sum():
        return {}
    tally = Tally(matrix, benign_labels("attack"))
    return {"task": "attack", **{name: OVERALL[name](tally) for name in ("accuracy", "f1_macro")}}
