"""Blocks of lines spread over Spark tasks; rows in = rows out + rejected, by two separate counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from iomt_ids.contract.flows import FLOW_COLUMNS
from iomt_ids.contract.tables import BRONZE, REJECTS
from iomt_ids.ingest.parse import Parsed, count_lines, parse_block
from iomt_ids.ingest.plan import Block, pack_blocks

_BATCH_ROWS = 65_536
_TASK_ROW = T.StructType([T.StructField("task", T.IntegerType(), False)])


@dataclass(frozen=True)
class NumberedBlock:
    """A block and the number of its first line in the file."""

    block: Block
    first_line: int
    lines: int


def number_blocks(spark: SparkSession, blocks: list[Block], tasks: int) -> list[NumberedBlock]:
    """Count the lines of every block, in parallel, so that each row knows its line.

    Returns
    -------
    list of NumberedBlock
        In the order given. The sum of ``lines`` is "rows in", counted apart from any parsing.
    """
    if not blocks:
        return []
    indexed = list(enumerate(blocks))
    counted = (
        spark.sparkContext.parallelize(indexed, min(tasks, len(indexed)))
        .map(lambda item: (item[0], count_lines(read_bytes(item[1]))))
        .collectAsMap()
    )
    numbered = []
    next_line: dict[str, int] = {}
    for index, block in indexed:
        first = next_line.get(block.file.location, 2)
        numbered.append(NumberedBlock(block, first, counted[index]))
        next_line[block.file.location] = first + counted[index]
    return numbered


def read_flows(spark: SparkSession, blocks: list[NumberedBlock], tasks: int) -> DataFrame:
    """The readable rows of all blocks, schema `BRONZE`; columns that a release lacks are null."""
    return _map_blocks(spark, blocks, tasks, _flow_batches, BRONZE)


def read_rejects(spark: SparkSession, blocks: list[NumberedBlock], tasks: int) -> DataFrame:
    """The other lines of all blocks, schema `REJECTS`."""
    return _map_blocks(spark, blocks, tasks, _reject_batches, REJECTS)


def read_bytes(block: Block) -> bytes:
    """The bytes of a block."""
    with fs.LocalFileSystem().open_input_file(block.file.location) as file:
        return file.read_at(block.size, block.start)


def _map_blocks(spark: SparkSession, blocks: list[NumberedBlock], tasks: int, batches: object, schema: T.StructType) -> DataFrame:
    by_block = {id(n.block): n for n in blocks}
    packed = [[by_block[id(b)] for b in group] for group in pack_blocks([n.block for n in blocks], tasks)]
    packed = [group for group in packed if group]
    if not packed:
        return spark.createDataFrame([], schema)
    shared = spark.sparkContext.broadcast(packed)

    def parse(given: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in given:
            for task in batch.column(0).to_pylist():
                for numbered in shared.value[task]:
                    parsed = parse_block(read_bytes(numbered.block), numbered.first_line, numbered.block.file.release)
                    yield from batches(numbered, parsed)  # type: ignore[operator]

    numbers = spark.sparkContext.parallelize([(i,) for i in range(len(packed))], len(packed))
    return spark.createDataFrame(numbers, _TASK_ROW).mapInArrow(parse, schema)


def _flow_batches(numbered: NumberedBlock, parsed: Parsed) -> Iterator[pa.RecordBatch]:
    file = numbered.block.file
    capture = file.capture
    constants = {
        "source_file": capture.path, "release": file.release, "protocol": capture.protocol,
        "device": capture.device, "attack": capture.attack, "split": capture.split, "category": capture.category,
    }
    source_names = {c.name: getattr(c, file.release) for c in FLOW_COLUMNS}
    schema = to_arrow_schema(BRONZE)
    for table in parsed.tables:
        columns = []
        for field in schema:
            if field.name == "source_line":
                columns.append(table.column("source_line"))
            elif field.name in constants:
                columns.append(pa.array([constants[field.name]] * table.num_rows, field.type))
            elif source_names[field.name] is None:
                columns.append(pa.nulls(table.num_rows, field.type))
            else:
                columns.append(table.column(source_names[field.name]))
        yield from pa.table(columns, schema=schema).to_batches(_BATCH_ROWS)


def _reject_batches(numbered: NumberedBlock, parsed: Parsed) -> Iterator[pa.RecordBatch]:
    if not parsed.rejects:
        return
    path = numbered.block.file.capture.path
    rows = [
        {"source_file": path, "source_line": r.line, "source_column": r.column, "reason": r.reason, "raw": r.raw}
        for r in parsed.rejects
    ]
    yield from pa.Table.from_pylist(rows, schema=to_arrow_schema(REJECTS)).to_batches(_BATCH_ROWS)
