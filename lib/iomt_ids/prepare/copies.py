"""How many rows each row stands for: floods repeat one vector thousands of times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.flows import VECTOR_SETS
from iomt_ids.contract.identity import ALIKE, HALVES, columns_of_set, vector_key
from iomt_ids.contract.tables import COUNTED, UNCOUNTED, copies_column
from iomt_ids.contract.transform import step

_MOST_BROADCAST = 1_000_000


def under_policy(flows: DataFrame, copies: str, policy: str) -> DataFrame:
    """What detectors learn from equal rows of a class, one of `contract.problem.DUPLICATES`.

    ``weight`` leaves one row with the number of them, which is what a sum over rows would see; ``keep`` leaves each row by
    itself; ``drop`` leaves one row that weighs as much as a single one does.

    Parameters
    ----------
    copies : str
        The column that counts them.
    """
    if policy == "weight":
        return flows
    kept = flows.filter(F.col(copies) > 0) if policy == "drop" else flows
    return kept.withColumn(copies, F.lit(1))


@step(takes=UNCOUNTED, gives=COUNTED)
def count_copies(flows: DataFrame, *, rows: int) -> DataFrame:
    """Count, for each feature set, the rows with the same vector, class, split, protocol and device.

    - `copies_<feature set>` (int) -- rows that this one stands for; 0 if another row stands for it. Of equal rows the one
      with the smallest `flow_id` stands for all, so the sum over rows is the number of rows.

    Parameters
    ----------
    rows : int
        How many there are: of few, the counts are sent to the rows instead of both to where they meet.
    """
    counted = [copies_column(name) for name in VECTOR_SETS]
    keys = [vector_key([*ALIKE, *columns_of_set(name)])[half].alias(f"{name}_{half}") for name in VECTOR_SETS for half in HALVES]
    # Rows with one vector in all columns have one in the leak-free ones: they meet where the leak-free vector puts them.
    met = flows.select("flow_id", *keys).repartition(f"{VECTOR_SETS[0]}_{HALVES[0]}")
    copies = met.mapInArrow(_count, ", ".join(["flow_id long", *(f"{name} int" for name in counted)]))
    copies = F.broadcast(copies) if rows <= _MOST_BROADCAST else copies
    return flows.join(copies, "flow_id", "left").withColumns({name: F.coalesce(F.col(name), F.lit(1)) for name in counted})


def _count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Of a partition's rows those that do not just stand for themselves. Spark's windows cost a thousand times more a group."""
    held = list(batches)
    if not held:
        return
    rows = pa.Table.from_batches(held)
    ids = rows["flow_id"].to_numpy()
    found = {"flow_id": ids}
    for name in VECTOR_SETS:
        keys = [rows[f"{name}_{half}"].to_numpy() for half in HALVES]
        order = np.lexsort((ids, *keys))
        starts = np.flatnonzero(np.concatenate([[True], np.any([np.diff(key[order]) != 0 for key in keys], axis=0)]))
        copies = np.zeros(ids.size, np.int32)
        copies[order[starts]] = np.diff(np.append(starts, ids.size))
        found[copies_column(name)] = copies
    told = np.any([found[copies_column(name)] != 1 for name in VECTOR_SETS], axis=0)
    yield pa.RecordBatch.from_pydict({name: values[told] for name, values in found.items()})
