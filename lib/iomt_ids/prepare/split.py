"""The validation split: taken from train only, identical vectors always on one side.

The official test split is the end of each capture. Validation rows are chosen by a hash of their
feature vector, so they look like train rows more than test rows do: a validation score is for choosing,
not for reporting.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.identity import columns_of_set
from iomt_ids.contract.tables import BRONZE
from iomt_ids.contract.transform import step

_GRAIN = 1_000_000


def vector_hash(*, salt: str) -> Column:
    """64-bit hash of a row's leak-free features; equal vectors, equal hashes."""
    # Without the clock and the window size: they make rows differ that are the same to every detector.
    # A zero has a sign in binary but not in a comparison of features.
    return F.xxhash64(F.lit(salt), *[F.col(name) + F.lit(0.0) for name in columns_of_set("leak_free")])


@step(takes=BRONZE, gives=BRONZE)
def split_flows(flows: DataFrame, *, salt: str, validation_fraction: float) -> DataFrame:
    """Move a share of the distinct train rows to split `validation`."""
    held_out = F.pmod(vector_hash(salt=salt), F.lit(_GRAIN)) < F.lit(int(validation_fraction * _GRAIN))
    return flows.withColumn(
        "split", F.when((F.col("split") == "train") & held_out, F.lit("validation")).otherwise(F.col("split"))
    )
