"""Rows of a Spark task as arrays, and arrays as rows of bytes: nothing goes through Python row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.models.histogram.score import matrix, matrix_of
from iomt_ids.models.vectors import CLASS, VALUES, WEIGHT

ID = "flow_id"
# Ids, classes, weights and values of some rows.
Block = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_ROWS = 200_000
# Of one task: a small file is not worth one, and a large one's bins have to fit in its memory.
_ROWS_A_TASK = 1_000_000


def in_blocks(
    batches: Iterator[pa.RecordBatch], features: Sequence[str], rows: int = _ROWS
) -> Iterator[Block]:
    """Ids, classes, weights and `VALUES` of a partition in blocks large enough for numpy and small enough for memory."""
    held: list[Block] = []
    for batch in batches:
        ids, labels, weights = (batch.column(n).to_numpy(zero_copy_only=False) for n in (ID, CLASS, WEIGHT))
        held.append((ids, labels.astype(np.uint8), weights, matrix_of(batch.column(VALUES), features)))
        if sum(len(ids) for ids, *_ in held) >= rows:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))  # type: ignore[misc]
            held = []
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))  # type: ignore[misc]


@dataclass(frozen=True)
class KnownRows:
    """Rows of Parquet files that have one of the known labels and stand for one row at least.

    Attributes
    ----------
    files : tuple of str
    named : tuple of str
        Columns of the id, the label and what a row weighs.
    features : tuple of str
        Columns of the values.
    known : tuple of int
        Labels, ascending; a class is a place among them.
    """

    files: tuple[str, ...]
    named: tuple[str, ...]
    features: tuple[str, ...]
    known: tuple[int, ...]

    def whole(self) -> Block:
        """All of them.

        Raises
        ------
        ContractError
            Naming every feature with missing values.
        """
        return self._block(pa.concat_tables(_parquet(file).read(columns=self._wanted()) for file in self.files))

    def pieces(self) -> list[tuple[str, int]]:
        """Row groups of the files."""
        return [(file, group) for file in self.files for group in range(_parquet(file).num_row_groups)]

    def blocks(self, pieces: Sequence[tuple[str, int]]) -> Iterator[Block]:
        """Those of some row groups, in blocks as of `in_blocks`; raises as `whole`."""
        for file, group in pieces:
            for batch in _parquet(file).iter_batches(_ROWS, row_groups=[group], columns=self._wanted()):
                yield self._block(pa.Table.from_batches([batch]))

    def _wanted(self) -> list[str]:
        return [*self.named, *self.features]

    def _block(self, table: pa.Table) -> Block:
        kept = np.isin(table.column(self.named[1]).to_numpy(), self.known) & (table.column(self.named[2]).to_numpy() > 0)
        table = table if kept.all() else table.filter(pa.array(kept))
        ids, labels, weights = (table.column(name).to_numpy() for name in self.named)
        return ids, np.searchsorted(self.known, labels).astype(np.uint8), weights.astype(np.int64), matrix(table, self.features)


@dataclass(frozen=True)
class ByTasks:
    """Rows as Spark's tasks meet them.

    Attributes
    ----------
    frame : DataFrame
        What tasks are given: the rows, or numbers of pieces of files.
    blocks : callable
        What a task makes of it.
    rows : int
        How many there are, or more.
    files : KnownRows or None
        Where they are, if the driver sees them too.
    """

    frame: DataFrame
    blocks: Callable[[Iterator[pa.RecordBatch]], Iterator[Block]]
    rows: int
    files: KnownRows | None = None

    @classmethod
    def of_frame(cls, frame: DataFrame, features: Sequence[str]) -> ByTasks:
        """Of rows that Spark reads."""
        wanted = list(features)
        return cls(frame, lambda batches: in_blocks(batches, wanted), frame.count())

    @classmethod
    def of_files(cls, session: SparkSession, files: KnownRows, rows: int) -> ByTasks:
        """Of rows that tasks read by themselves: Spark would turn every value round twice."""
        pieces = files.pieces()
        tasks = max(4 * session.sparkContext.defaultParallelism, -(-rows // _ROWS_A_TASK))
        numbers = session.range(0, len(pieces), 1, min(len(pieces), tasks))

        def read(batches: Iterator[pa.RecordBatch]) -> Iterator[Block]:
            for batch in batches:
                yield from files.blocks([pieces[number] for number in batch.column("id").to_pylist()])

        return cls(numbers, read, rows, files)

    def map(self, function: Callable[[Iterator[Block]], Iterator[pa.RecordBatch]], schema: str) -> pa.Table:
        """What tasks answer to their blocks."""
        blocks = self.blocks
        return self.frame.mapInArrow(lambda batches: function(blocks(batches)), schema).toArrow()


def _parquet(file: str) -> Any:
    return pq.ParquetFile(file, memory_map=True)


def one_row(schema: str, values: Sequence[bytes]) -> pa.RecordBatch:
    """Byte strings as the one row of a batch; the schema is ``name binary, ...``."""
    names = [field.split(" ")[0] for field in schema.split(", ")]
    return pa.RecordBatch.from_pydict({n: pa.array([v], pa.binary()) for n, v in zip(names, values, strict=True)})
