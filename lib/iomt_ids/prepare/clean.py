"""Flag what a reader must know of a row; nothing is dropped and nothing is imputed."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.tables import BRONZE
from iomt_ids.contract.transform import step

# A second of the year 2000, over 20: no honest time between packets is a year long.
_EPOCH_S = 946_684_800 / 20

_FLAGGED = T.StructType([*BRONZE.fields, T.StructField("has_sentinel_iat", T.BooleanType(), False)])


def has_sentinel_iat(iat: Column) -> Column:
    """Whether a time between packets holds an absolute clock; False where there is no such column."""
    return F.coalesce(F.abs(iat) > F.lit(_EPOCH_S), F.lit(False))


@step(takes=BRONZE, gives=_FLAGGED)
def clean_flows(flows: DataFrame) -> DataFrame:
    """Flag rows.

    - `has_sentinel_iat` (boolean) -- `iat_epoch_s` holds an epoch, not a time between packets.
    """
    return flows.withColumn("has_sentinel_iat", has_sentinel_iat(F.col("iat_epoch_s")))
