"""What makes two rows the same to a detector."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from iomt_ids.contract.flows import FLOW_COLUMNS

_NUMBERS = frozenset(c.name for c in FLOW_COLUMNS)
HALVES = ("one", "other")
# What has to be the same beside the vector for rows to be copies: they are learnt from and counted together.
ALIKE = ("split", "attack_id", "protocol", "release", "device")


def vector_key(columns: Sequence[str], precision: str = "double") -> Column:
    """128 bits of a row's values in some columns: equal vectors, equal keys; 0.0 and -0.0 are equal, as to a model."""
    # Spark's hash takes -0.0 and 0.0 for the same number.
    values = [F.col(name).cast(precision) if name in _NUMBERS else F.col(name) for name in columns]
    return F.struct(F.xxhash64(*values).alias(HALVES[0]), F.xxhash64(F.lit(1), *reversed(values)).alias(HALVES[1]))


def columns_of_set(feature_set: str) -> list[str]:
    """Flow columns that a feature set can have in any release; those that a release lacks are null in all of its rows."""
    return [c.name for c in FLOW_COLUMNS if feature_set == "all" or c.leak is None]
