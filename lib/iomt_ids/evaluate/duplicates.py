"""Exact duplicates, by class: within a file, across files, across train and test; and the ceiling that they put on any score.

Two rows are duplicates if all columns of a feature set are equal as doubles. The same in single precision tells how many
duplicates a narrower table would invent. Rows are counted in Spark by a hash of 128 bits; no row leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels, class_names
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.identity import vector_key
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
    narrow = flows.select(
        "attack_id", "source_file", "split",
        *[vector_key(feature_names(first["release"], features), precision).alias(f"{features}_{precision}")
          for features, precision in VARIANTS],
    ).persist()
    for features, precision in VARIANTS:
        columns = feature_names(first["release"], features)
        counted = _count(narrow, F.col(f"{features}_{precision}"))
        found.append({
            "features": features, "precision": precision, "columns": len(columns), "classes": _by_class(counted),
            "ceiling": _ceiling(counted),
        })
    narrow.unpersist()
    return found


def _count(flows: DataFrame, vector: Column) -> list[Row]:
    """Sums by class and by the answer that is right for most test rows of a vector."""
    is_test = F.col("split") == "test"
    # The one exchange: whatever is grouped by more than the vector is grouped where it lies.
    keyed = flows.select(
        vector["one"].alias("one"), vector["other"].alias("other"), "attack_id", "source_file", "split"
    ).repartition("one", "other")
    classes = keyed.groupBy("one", "other", "attack_id").agg(
        F.count("*").alias("rows"), F.size(F.collect_set("source_file")).alias("files"), F.count_if(is_test).alias("test"),
        F.max(F.col("split").isin(*LEARNT_FROM)).alias("is_learnt"),
    )
    same = Window.partitionBy("one", "other")
    seen = classes.select(
        "attack_id", "rows", "files", "test", F.max("is_learnt").over(same).alias("is_learnt"),
        (F.count("*").over(same) > 1).alias("is_disputed"),
        (-F.max(F.struct("test", (-F.col("attack_id")).alias("answer"))).over(same)["answer"]).alias("answer"),
    )
    return seen.groupBy("attack_id", "answer").agg(
        F.sum("rows").alias("rows"), F.count("*").alias("distinct"), F.sum("files").alias("by_file"), F.sum("test").alias("test"),
        F.sum(F.when(F.col("is_learnt"), F.col("test")).otherwise(0)).alias("learnt"),
        F.sum(F.when(F.col("is_disputed"), F.col("rows")).otherwise(0)).alias("disputed"),
    ).collect()


def _by_class(counted: Sequence[Row]) -> list[dict[str, Any]]:
    found = []
    for attack in sorted({row["attack_id"] for row in counted}):
        rows, distinct, by_file, test, learnt, disputed = (
            sum(row[name] for row in counted if row["attack_id"] == attack)
            for name in ("rows", "distinct", "by_file", "test", "learnt", "disputed")
        )
        found.append({
            "class": class_names("attack")[attack], "rows": rows, "distinct": distinct, "within_files": rows - by_file,
            "across_files": by_file - distinct, "test_rows": test, "test_rows_learnt_from": learnt, "under_another_label": disputed,
        })
    return found


def _ceiling(counted: Sequence[Row]) -> dict[str, Any]:
    names = class_names("attack")
    matrix = np.zeros((len(names), len(names)), np.int64)
    for row in counted:
        matrix[row["attack_id"], row["answer"]] += row["test"]
    if not matrix.sum():
        return {}
    tally = Tally(matrix, benign_labels("attack"))
    return {"task": "attack", **{name: OVERALL[name](tally) for name in ("accuracy", "f1_macro")}}
