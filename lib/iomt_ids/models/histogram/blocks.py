"""Rows of a Spark task as arrays, and arrays as rows of bytes: nothing goes through Python row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from iomt_ids.models.histogram.score import matrix_of
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


def one_row(schema: str, values: Sequence[bytes]) -> pa.RecordBatch:
    """Byte strings as the one row of a batch; the schema is ``name binary, ...``."""
    names = [field.split(" ")[0] for field in schema.split(", ")]
    return pa.RecordBatch.from_pydict({n: pa.array([v], pa.binary()) for n, v in zip(names, values, strict=True)})
