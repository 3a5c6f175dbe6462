"""Rows of a Spark task as arrays, and arrays as rows of bytes: nothing goes through Python row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from iomt_ids.models.histogram.score import matrix, matrix_of
from iomt_ids.models.vectors import CLASS, VALUES, WEIGHT

ID = "flow_id"


def in_blocks(
    batches: Iterator[pa.RecordBatch], features: Sequence[str], rows: int = 200_000
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Ids, classes, weights and `VALUES` of a partition in blocks large enough for numpy and small enough for memory."""
    held: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for batch in batches:
        ids, labels, weights = (batch.column(n).to_numpy(zero_copy_only=False) for n in (ID, CLASS, WEIGHT))
        held.append((ids, labels.astype(np.uint8), weights, matrix_of(batch.column(VALUES), features)))
        if sum(len(ids) for ids, *_ in held) >= rows:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))  # type: ignore[misc]
            held = []
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))  # type: ignore[misc]


def read_known(
    files: Sequence[str], named: Sequence[str], features: Sequence[str], known: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same of all rows of Parquet files that have one of the known labels and stand for one row at least.

    Parameters
    ----------
    files : sequence of str
    named : sequence of str
        Columns of the id, the label and what a row weighs.
    features : sequence of str
        Columns of the values.
    known : sequence of int
        Labels, ascending; a class is a place among them.

    Raises
    ------
    ContractError
        Naming every feature with missing values.
    """
    wanted = [*named, *features]
    table = pa.concat_tables(pq.ParquetFile(file, memory_map=True).read(columns=wanted) for file in files)
    kept = np.isin(table.column(named[1]).to_numpy(), known) & (table.column(named[2]).to_numpy() > 0)
    table = table if kept.all() else table.filter(pa.array(kept))
    ids, labels, weights = (table.column(name).to_numpy() for name in named)
    return ids, np.searchsorted(known, labels).astype(np.uint8), weights.astype(np.int64), matrix(table, features)


def one_row(schema: str, values: Sequence[bytes]) -> pa.RecordBatch:
    """Byte strings as the one row of a batch; the schema is ``name binary, ...``."""
    names = [field.split(" ")[0] for field in schema.split(", ")]
    return pa.RecordBatch.from_pydict({n: pa.array([v], pa.binary()) for n, v in zip(names, values, strict=True)})
