"""Rows of a Spark task as arrays, and arrays as rows of bytes: nothing goes through Python row by row."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.resume import passing_folder
from iomt_ids.distributed.shards import open_parquet
from iomt_ids.models.histogram.score import matrix, matrix_of
from iomt_ids.models.vectors import CLASS, VALUES, WEIGHT

ID = "flow_id"
T = TypeVar("T")
# Ids, classes, weights and values of some rows.
Block = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Of a block: some are there twice for a moment, as Parquet's batch and as arrays, and a task needs no more memory than it must.
_ROWS = 100_000
# Of one task: a small file is not worth one, and a large one's bins have to fit in its memory.
_ROWS_A_TASK = 1_000_000


def in_blocks(
    batches: Iterator[pa.RecordBatch], features: Sequence[str], rows: int = _ROWS
) -> Iterator[Block]:
    """Ids, classes, weights and `VALUES` of a partition in blocks large enough for numpy and small enough for memory."""

    def found() -> Iterator[Block]:
        for batch in batches:
            ids, labels, weights = (batch.column(n).to_numpy(zero_copy_only=False) for n in (ID, CLASS, WEIGHT))
            yield ids, labels.astype(np.uint8), weights, matrix_of(batch.column(VALUES), features)

    for some in gathered(found(), rows):
        ids, labels, weights, values = (np.concatenate(arrays) for arrays in zip(*some, strict=True))
        yield ids, labels, weights, values


def gathered(blocks: Iterator[Block], rows: int) -> Iterator[list[Block]]:
    """Lists of blocks that have so many rows at least, but for the last one."""
    held: list[Block] = []
    for block in blocks:
        held.append(block)
        if sum(ids.size for ids, *_ in held) >= rows:
            yield held
            held = []
    if held:
        yield held


def left(folder: Path, write: Callable[[BinaryIO], T]) -> tuple[str, T]:
    """The path of a new file, and what the one has to say who has written it.

    Raises
    ------
    LaunchError
        If it cannot be written.
    """
    path = folder / uuid.uuid4().hex  # another attempt writes another file
    try:
        with path.open("wb") as file:
            told = write(file)
    except OSError as error:
        raise LaunchError(f"{path} cannot be written ({error}); every node must see the run's folder") from error
    return path.as_posix(), told


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
        tables = []
        for file in self.files:
            with open_parquet(file) as parquet:
                tables.append(parquet.read(columns=self._wanted()))
        return self._block(pa.concat_tables(tables))

    def pieces(self) -> list[tuple[str, int]]:
        """Row groups of the files."""
        found = []
        for file in self.files:
            with open_parquet(file) as parquet:
                found += [(file, group) for group in range(parquet.num_row_groups)]
        return found

    def blocks(self, pieces: Sequence[tuple[str, int]]) -> Iterator[Block]:
        """Those of some row groups, in blocks as of `in_blocks`; raises as `whole`."""
        for file, of_file in groupby(pieces, key=itemgetter(0)):
            with open_parquet(file) as parquet:
                groups = [group for _, group in of_file]
                for batch in parquet.iter_batches(_ROWS, row_groups=groups, columns=self._wanted()):
                    yield self._block(pa.Table.from_batches([batch]))

    def _wanted(self) -> list[str]:
        return [*self.named, *self.features]

    def _block(self, table: pa.Table) -> Block:
        kept = np.isin(table.column(self.named[1]).to_numpy(), self.known) & (table.column(self.named[2]).to_numpy() > 0)
        table = table if kept.all() else table.filter(pa.array(kept))
        ids, labels, weights = (table.column(name).to_numpy() for name in self.named)
        return ids, np.searchsorted(self.known, labels).astype(np.uint8), weights.astype(np.int64), matrix(table, self.features)


class Source(Protocol):
    """Rows that a fit learns from, wherever they are."""

    def count(self) -> int:
        """How many there are, or more."""

    def whole(self) -> Block:
        """All of them, here; there has to be one."""

    def map(self, function: Callable[[Iterator[Block]], Iterator[pa.RecordBatch]], schema: str) -> pa.Table:
        """What Spark's tasks answer to their blocks of them."""


@dataclass(frozen=True)
class FrameRows:
    """Rows that Spark reads; see `Source`."""

    frame: DataFrame
    features: tuple[str, ...]

    def count(self) -> int:
        """A pass over the rows."""
        return self.frame.count()

    def whole(self) -> Block:
        """Fetched by Spark."""
        (arrays,) = in_blocks(iter(self.frame.toArrow().to_batches()), self.features, rows=sys.maxsize)
        return arrays

    def map(self, function: Callable[[Iterator[Block]], Iterator[pa.RecordBatch]], schema: str) -> pa.Table:
        """See `Source`."""
        features = self.features
        return self.frame.mapInArrow(lambda batches: function(in_blocks(batches, features)), schema).toArrow()


@dataclass(frozen=True)
class TableRows:
    """Rows that tasks read from files by themselves, since Spark would turn every value round twice; see `Source`."""

    session: SparkSession
    files: KnownRows
    rows: int

    def count(self) -> int:
        """Of the files, whatever their labels."""
        return self.rows

    def whole(self) -> Block:
        """Read by this process."""
        return self.files.whole()

    def map(self, function: Callable[[Iterator[Block]], Iterator[pa.RecordBatch]], schema: str) -> pa.Table:
        """See `Source`."""
        files, pieces = self.files, self.files.pieces()
        tasks = max(4 * self.session.sparkContext.defaultParallelism, -(-self.rows // _ROWS_A_TASK))
        # Not by a DataFrame: to plan one for so little costs the driver more than a small task takes, on a core that has others.
        numbers = self.session.sparkContext.parallelize(range(len(pieces)), min(len(pieces), tasks))
        told = numbers.mapPartitions(lambda mine: function(files.blocks([pieces[number] for number in mine]))).collect()
        return pa.Table.from_batches(told) if told else _nothing(schema)


def fetch(
    rows: Source, function: Callable[[Iterator[Block]], Iterator[pa.RecordBatch]], schema: str, folder: Path | None
) -> pa.Table:
    """What tasks answer, where that is many bytes: as `Source.map`, or by files, which spares Spark to carry them.

    Parameters
    ----------
    folder : Path or None
        One that every node sees; nothing is left there.

    Raises
    ------
    LaunchError
        If what a task has written is not there.
    """
    if folder is None:
        return rows.map(function, schema)
    with passing_folder(folder, "answers-") as held:
        found = [row["path"] for row in rows.map(_written(function, held), "path string").to_pylist()]
        try:
            # Not mapped: a network's file system keeps the names of mapped files, and with them the folder.
            tables = [pa.ipc.open_file(Path(path).read_bytes()).read_all() for path in found]
        except OSError as error:
            raise LaunchError(f"{folder} lacks what a task wrote ({error}); every node must see the run's folder") from error
    return pa.concat_tables(tables) if tables else _nothing(schema)


def _written(
    function: Callable[[Iterator[Block]], Iterator[pa.RecordBatch]], folder: str
) -> Callable[[Iterator[Block]], Iterator[pa.RecordBatch]]:
    def write(blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
        for batch in function(blocks):
            path, _ = left(Path(folder), partial(_write_batch, batch))
            yield pa.RecordBatch.from_pydict({"path": [path]})

    return write


def _write_batch(batch: pa.RecordBatch, into: BinaryIO) -> None:
    with pa.ipc.new_file(into, batch.schema) as file:
        file.write_batch(batch)


def one_row(schema: str, values: Sequence[bytes]) -> pa.RecordBatch:
    """Byte strings as the one row of a batch; the schema is ``name binary, ...``."""
    return pa.RecordBatch.from_pydict({n: pa.array([v], pa.binary()) for n, v in zip(_names(schema), values, strict=True)})


def _nothing(schema: str) -> pa.Table:
    return pa.table({name: pa.array([], pa.null()) for name in _names(schema)})


def _names(schema: str) -> list[str]:
    return [field.split(" ")[0] for field in schema.split(", ")]
