"""Blocks to Parquet files, in Spark tasks: parse, check, write; the driver gets names and counts, never rows.

A task writes one file a partition and nothing that counts: until the driver commits their names, its files belong to no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import fs
from pyarrow import parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from iomt_ids.contract.commit import DataFile
from iomt_ids.contract.flows import columns_of
from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS, Table
from iomt_ids.ingest.blocks import Block, pack_blocks, read_block
from iomt_ids.ingest.parse import Parsed, Reject, parse_block
from iomt_ids.ingest.plan import CapturedFile
from iomt_ids.ingest.unpack import Limits, UnpackError

# Columns with statistics, as many as Spark's Delta gives by default.
_STATISTICS = 32
# What Delta keeps of a text's statistics; a longer one is left without.
_LONGEST_TEXT = 32
# A column with more distinct values in a row group than this holds is cheaper, and smaller, without a dictionary.
_DICTIONARY_BYTES = 1 << 16


@dataclass(frozen=True)
class Target:
    """Where tasks write.

    Attributes
    ----------
    flows, rejects : str
        Folders of the two tables.
    prefix : str
        Starts the name of every file, and of no other.
    """

    flows: str
    rejects: str
    prefix: str


@dataclass(frozen=True)
class Written:
    """What one task has done.

    Attributes
    ----------
    flows, rejects : list of DataFile
    rejected : dict of str to int
        Rejected lines by capture.
    problem : str or None
        Why the task could not go on.
    """

    flows: list[DataFile]
    rejects: list[DataFile]
    rejected: dict[str, int]
    problem: str | None = None


def write_blocks(
    spark: SparkSession, blocks: Sequence[Block], target: Target, limits: Limits, *, block_bytes: int, tasks: int
) -> list[Written]:
    """Parse blocks and write their rows and rejects, spread over tasks."""
    packed = pack_blocks(blocks, tasks)
    if not packed:
        return []

    def write(group: list[Block]) -> Written:
        task = _Task(target, limits, block_bytes)
        try:
            return task.run(group)
        except (UnpackError, OSError) as error:  # a full disk, a file that is gone: nothing that another try would mend
            return Written([], [], {}, f"reading {_names(group)} into {target.flows}: {error}")

    return spark.sparkContext.parallelize(packed, len(packed)).map(write).collect()


def without_captures(folder: Path, file: DataFile, captures: Iterable[str], table: Table, prefix: str) -> DataFile | None:
    """Write a file again without the rows of some captures.

    Returns
    -------
    DataFile or None
        The file itself if it holds none of their rows; None if it holds no others.
    """
    unwanted = pa.array(sorted(captures))
    with pq.ParquetFile(folder / file.path) as old:
        writer = _Writer(str(folder), table, file.partition, prefix)
        for group in range(old.num_row_groups):
            rows = old.read_row_group(group)
            kept = rows.filter(pc.invert(pc.is_in(rows["source_file"], unwanted)))
            if kept.num_rows:
                writer.add(kept.cast(writer.schema))
    written = writer.close()
    if written is not None and written.rows == file.rows:
        fs.LocalFileSystem().delete_file(str(folder / written.path))
        return file
    return written


class _Task:
    """Parses blocks one after the other, with one open file a partition."""

    def __init__(self, target: Target, limits: Limits, block_bytes: int) -> None:
        self.target = target
        self.limits = limits
        self.block_bytes = block_bytes
        self.rejects = _Writer(target.rejects, BRONZE_REJECTS, {}, target.prefix)
        self.rejected: dict[str, int] = {}

    def run(self, blocks: Iterable[Block]) -> Written:
        flows: list[DataFile] = []
        writer: _Writer | None = None
        held: tuple[str, str, str] | None = None
        for block in blocks:
            capture = block.file.capture
            # Which columns a file can do without nulls depends on the release.
            wanted = capture.split, capture.category, block.file.release
            if writer is None or held != wanted:
                flows += _closed(writer)
                partition = {"split": capture.split, "category": capture.category}
                writer, held = _Writer(self.target.flows, BRONZE_FLOWS, partition, self.target.prefix), wanted
            for first_line, lines, data in read_block(block, self.limits, self.block_bytes):
                parsed = parse_block(data, first_line, block.file.release, lines)
                if parsed.lines.size:
                    writer.add(_flow_rows(block.file, parsed, writer.schema))
                self._reject(capture.path, parsed.rejects)
                # Not two blocks at a time: the next one is read before these names are given to it.
                del data, parsed
        flows += _closed(writer)
        return Written(flows, _closed(self.rejects), self.rejected)

    def _reject(self, path: str, rejects: list[Reject]) -> None:
        if not rejects:
            return
        self.rejected[path] = self.rejected.get(path, 0) + len(rejects)
        self.rejects.add(pa.Table.from_pylist(
            [
                {"source_file": path, "source_line": r.line, "source_column": r.column, "reason": r.reason, "raw": r.raw}
                for r in rejects
            ],
            schema=self.rejects.schema,
        ))


class _Writer:
    """One Parquet file, which comes into being with its first rows."""

    def __init__(self, folder: str, table: Table, partition: Any, prefix: str) -> None:
        self.folder = folder
        self.partition = dict(partition)
        fields = [f for f in to_arrow_schema(table.schema) if f.name not in table.partitions]
        self.schema = pa.schema(fields)
        below = "".join(f"{name}={self.partition[name]}/" for name in table.partitions)
        self.path = f"{below}{prefix}-{uuid4()}.c000.snappy.parquet"
        self.rows = 0
        self.footers: list[pq.FileMetaData] = []
        self.writer: pq.ParquetWriter | None = None

    def add(self, rows: pa.Table) -> None:
        if self.writer is None:
            system = fs.LocalFileSystem()
            location = f"{self.folder}/{self.path}"
            system.create_dir(location.rpartition("/")[0], recursive=True)
            self.writer = pq.ParquetWriter(
                location, rows.schema, filesystem=system, compression="snappy", store_schema=False,
                metadata_collector=self.footers,
                # Line numbers count up: the differences take a fraction of the room.
                use_dictionary=[n for n in rows.schema.names if n != "source_line"],
                column_encoding={"source_line": "DELTA_BINARY_PACKED"}, dictionary_pagesize_limit=_DICTIONARY_BYTES,
            )
        self.writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        self.rows += rows.num_rows

    def close(self) -> DataFile | None:
        if self.writer is None:
            return None
        self.writer.close()
        size = fs.LocalFileSystem().get_file_info(f"{self.folder}/{self.path}").size
        return DataFile(self.path, self.partition, size, self.rows, _statistics(self.footers[0], self.schema.names))


def _names(blocks: Sequence[Block]) -> str:
    names = list(dict.fromkeys(block.file.name for block in blocks))
    return f"{names[0]} and {len(names) - 1} other files" if len(names) > 1 else names[0]


def _closed(writer: _Writer | None) -> list[DataFile]:
    written = writer.close() if writer else None
    return [written] if written else []


def _flow_rows(file: CapturedFile, parsed: Parsed, schema: pa.Schema) -> pa.Table:
    capture, rows = file.capture, parsed.lines.size
    constants = {
        "source_file": capture.path, "release": file.release, "protocol": capture.protocol, "device": capture.device,
        "attack": capture.attack,
    }
    places = {c.name: place for place, c in enumerate(columns_of(file.release))}
    same = np.zeros(rows, np.int32)
    columns, fields = [], []
    for field in schema:
        if field.name == "source_line":
            column = pa.array(parsed.lines)
        elif field.name in places:
            column = pa.array(parsed.values[places[field.name]])
        elif field.name in constants:
            # Parquet takes over the dictionary: the text is written once, not hashed a row.
            text = constants[field.name]
            places_in = pa.array(same) if text is not None else pa.nulls(rows, pa.int32())
            column = pa.DictionaryArray.from_arrays(places_in, pa.array([text or ""]))
        else:
            column = pa.nulls(rows, field.type)
        columns.append(column)
        # Without room for nulls that cannot be, Arrow writes faster; to a reader the table's schema decides.
        fields.append(pa.field(field.name, column.type, field.nullable and field.name not in places))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _statistics(footer: pq.FileMetaData, names: Sequence[str]) -> dict[str, Any]:
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for place, name in enumerate(names[:_STATISTICS]):
        found = [footer.row_group(g).column(place).statistics for g in range(footer.num_row_groups)]
        if any(s is None for s in found):
            continue
        nulls[name] = sum(s.null_count for s in found)
        ranges = [(s.min, s.max) for s in found if s.has_min_max]
        if ranges and not any(isinstance(v, str) and len(v) > _LONGEST_TEXT for pair in ranges for v in pair):
            least[name], most[name] = min(r[0] for r in ranges), max(r[1] for r in ranges)
    return {"minValues": least, "maxValues": most, "nullCount": nulls}
