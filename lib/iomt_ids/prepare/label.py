"""Names to label indices, the same for every model and report."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES
from iomt_ids.contract.tables import BRONZE, SILVER
from iomt_ids.contract.transform import step

_LABELLED = T.StructType([
    *BRONZE.fields, *(SILVER[name] for name in ("flow_id", "attack_id", "category_id", "binary_id")),
])


def index_of(name: Column, names: tuple[str, ...]) -> Column:
    """Position of a name in a list, as int; null if it is not there."""
    position = F.array_position(F.array(*[F.lit(n) for n in names]), name)
    return F.when(position > 0, position.cast("int") - 1)


def flow_id(source_file: Column, source_line: Column) -> Column:
    """A row's identity: 64-bit hash of where it stands, the same in every run."""
    return F.xxhash64(source_file, source_line)


@step(takes=BRONZE, gives=_LABELLED)
def label_flows(flows: DataFrame) -> DataFrame:
    """Add identity and label indices.

    - `flow_id` (long) -- hash of file and line
    - `attack_id`, `category_id`, `binary_id` (int) -- index into `contract.attacks.class_names` of the task
    """
    return flows.withColumns({
        "flow_id": flow_id(F.col("source_file"), F.col("source_line")),
        "attack_id": index_of(F.col("attack"), tuple(a.name for a in ATTACKS)),
        "category_id": index_of(F.col("category"), CATEGORIES),
        "binary_id": (F.col("category") != F.lit(CATEGORIES[0])).cast("int"),
    })
