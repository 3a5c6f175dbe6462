"""Rows of a table, dealt to ranks: disjoint, complete, the same every time, equal steps on every rank."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError, LaunchError
from iomt_ids.contract.tables import spark_path

_BATCH_ROWS = 65_536
# Everything between the files and the rows of a table whose rows are those files'.
_PLAIN_NODES = frozenset({"Filter", "Project", "LogicalRelation"})
_PLAIN_COLUMNS = frozenset({"AttributeReference"})
# How Spark reads files without looking at their rows; conditions of partitions are part of the scan then.
_WHOLE_FILES = frozenset({"WholeStageCodegen", "InputAdapter", "Project", "ColumnarToRow", "Scan"})


@dataclass(frozen=True)
class Rows:
    """Rows of one split on one rank.

    Attributes
    ----------
    features : ndarray of float32, shape (rows, width)
        As a network sees them.
    labels : ndarray of int64, shape (rows,)
        Label indices of the task.
    shard : ndarray of int64, shape (rows of the shard,)
        The row that each number of the shard means: one that stands for several rows is meant by as many numbers.
    """

    features: np.ndarray
    labels: np.ndarray
    shard: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """How many rows of the shard each row stands for."""
        return np.bincount(self.shard, minlength=len(self.labels))


@contextmanager
def parquet_files(flows: DataFrame, columns: Sequence[str]) -> Iterator[list[str]]:
    """Parquet files that hold exactly these rows, in a repeatable order, while the block lasts.

    Rows of a table as it stands are read where they are. Rows that are filtered or computed are written to a
    temporary folder first, which on a cluster must be one that every node can read.

    Parameters
    ----------
    flows : DataFrame
        The rows.
    columns : sequence of str
        The columns that will be read.
    """
    found = files_of_table(flows, columns)
    if found is not None:
        yield found[0]
        return
    wanted = flows.select(*columns)
    folder = Path(tempfile.mkdtemp(prefix="iomt-ids-shards-"))
    try:
        wanted.write.mode("overwrite").parquet(spark_path(folder))
        yield sorted(p.as_posix() for p in folder.glob("part-*.parquet"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_rows(job: Mapping[str, Any], split: str, rank: int, ranks: int) -> Rows:
    """The rows of one rank: of all rows, counted with their copies, every ``ranks``-th.

    Parameters
    ----------
    job : mapping
        ``job[split]`` (files), ``label`` (column), ``features`` (columns, scaled here by ``scaling``) or ``sequence`` (a
        column of arrays that are scaled already), and ``copies``: the column that says for how many rows a row stands,
        or None if each stands for itself.

    Raises
    ------
    LaunchError
        If a file cannot be read from where this rank runs.
    ContractError
        If a value is missing or not finite.
    """
    label, copies, sequence = job["label"], job.get("copies"), job.get("sequence")
    values = [sequence] if sequence else list(job["features"])
    columns = list(dict.fromkeys([label, *values, *([copies] if copies else [])]))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    seen, broken = 0, set()
    for batch in _record_batches(job[split], columns):
        counted = _whole(batch, copies).astype(np.int64) if copies else np.ones(batch.num_rows, np.int64)
        ends = seen + np.cumsum(counted)
        # Numbers below n that leave this rank as remainder: n and -1 - rank decide.
        numbers = (ends - 1 - rank) // ranks - (ends - counted - 1 - rank) // ranks
        mine = np.flatnonzero(numbers)
        seen = int(ends[-1]) if len(ends) else seen
        found = _sequences(batch, sequence)[mine] if sequence else np.empty((mine.size, len(values)), np.float32)
        for place, name in enumerate(() if sequence else values):
            center, spread = job["scaling"][place]
            found[:, place] = _scaled(_doubles(batch, name)[mine], center, spread)
        if not np.isfinite(found).all():
            whole = np.isfinite(found).all(axis=0)
            broken |= {values[0 if sequence else place] for place in np.flatnonzero(~whole)}
        parts.append((found, _whole(batch, label)[mine].astype(np.int64), numbers[mine]))
    if broken:
        raise ContractError(f"values are missing or not finite in: {', '.join(sorted(broken))}")
    if not parts:
        return Rows(np.empty((0, len(values)), np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    features, labels, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rows(features, labels, np.repeat(np.arange(len(labels)), numbers))


def count_rows(files: Sequence[str], copies: str | None = None) -> int:
    """Rows in some Parquet files, from their footers; with the column that counts copies, what the rows stand for."""
    if copies:
        return sum(int(_whole(batch, copies).sum()) for batch in _record_batches(files, [copies]))
    total = 0
    for file in files:
        with open_parquet(file) as parquet:
            total += parquet.metadata.num_rows
    return total


def scale(values: np.ndarray, scaling: Sequence[Sequence[float]]) -> np.ndarray:
    """Signed logarithms, centred and scaled, as `contract.problem.Scaling` says.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, features)
    scaling : sequence of (center, scale)
        One pair a feature.

    Returns
    -------
    ndarray of float32
        Doubles until here: rounded earlier, rows that differ would become the same.
    """
    found = np.empty(values.shape, np.float32)
    for place, (center, spread) in enumerate(scaling):
        found[:, place] = _scaled(values[:, place], center, spread)
    return found


def _scaled(values: np.ndarray, center: float, spread: float) -> np.ndarray:
    # In place: a fresh array for each of five operations costs more than the logarithm.
    logs = np.abs(values)
    np.log1p(logs, out=logs)
    np.copysign(logs, values, out=logs)
    logs -= center
    logs /= spread
    return logs


def _record_batches(files: Sequence[str], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with open_parquet(file) as parquet:
            yield from parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)


def _doubles(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)


def _whole(batch: pa.RecordBatch, name: str) -> np.ndarray:
    column = batch.column(name)
    if column.null_count:
        raise ContractError(f"values are missing or not finite in: {name}")
    return column.to_numpy(zero_copy_only=False)


def _sequences(batch: pa.RecordBatch, name: str) -> np.ndarray:
    column = batch.column(name)
    if column.null_count or not batch.num_rows:
        raise ContractError(f"values are missing or not finite in: {name}")
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(batch.num_rows, -1)


def files_of_table(flows: DataFrame, columns: Sequence[str]) -> tuple[list[str], int] | None:
    """The table's own files, in a repeatable order, and how many rows they have, if the rows are theirs and no others."""
    execution = flows.select(*columns)._jdf.queryExecution()
    if "split" not in flows.columns or not _is_plain(execution.optimizedPlan()):
        return None
    if _is_whole_files(execution.executedPlan()):
        whole = sorted(map(_local, _selected(flows, execution.optimizedPlan())), key=_file_order)
        return (whole, count_rows(whole)) if whole else None
    files = flows.inputFiles()
    rows = {row["split"]: row["rows"] for row in flows.groupBy("split").agg(F.count(F.lit(1)).alias("rows")).collect()}
    # inputFiles also names files of partitions that a filter has excluded.
    chosen = sorted((_local(f) for f in files if _split_of(f) in rows), key=_file_order)
    return (chosen, sum(rows.values())) if chosen and count_rows(chosen) == sum(rows.values()) else None


def _is_plain(plan: Any) -> bool:
    name = plan.nodeName()
    if name.split(" ")[0] not in _PLAIN_NODES:
        return False
    if name == "Project":
        columns = plan.projectList()
        if any(columns.apply(i).getClass().getSimpleName() not in _PLAIN_COLUMNS for i in range(columns.size())):
            return False
    children = plan.children()
    return children.size() < 2 and all(_is_plain(children.apply(i)) for i in range(children.size()))


def _is_whole_files(plan: Any) -> bool:
    """Whether all rows of the files are wanted: nothing filters them, as a deletion vector of Delta does when it is planned."""
    children = plan.children()
    is_known = plan.nodeName().split(" ")[0] in _WHOLE_FILES
    return is_known and all(_is_whole_files(children.apply(i)) for i in range(children.size()))


def _selected(flows: DataFrame, plan: Any) -> list[str]:
    """Files of the partitions that a plan's conditions leave."""
    as_scala = cast(Any, flows.sparkSession.sparkContext._jvm).PythonUtils.toSeq
    conditions = []
    while plan.children().size():
        conditions += [plan.condition()] if plan.nodeName() == "Filter" else []
        plan = plan.children().apply(0)
    found = plan.relation().location().listFiles(as_scala(conditions), as_scala([]))
    partitions = (found.apply(i).files() for i in range(found.size()))
    return [files.apply(i).getPath().toUri().toString() for files in partitions for i in range(files.size())]


def _split_of(file: str) -> str | None:
    found = re.search(r"/split=([^/]*)/", file)
    return unquote(found.group(1)) if found else None


def _file_order(file: str) -> tuple[str, str]:
    """Partition folder and part number; what follows the number is random."""
    folder, _, name = file.rpartition("/")
    number = re.match(r"part-\d+", name)
    serial = re.search(r"[.-]c(\d{3})\b", name)
    return folder, (number.group(0) if number else name) + (serial.group(1) if serial else "")


def _local(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return uri
    # Spark escapes what Hive has escaped once more, Delta does not.
    return next((p for p in (parts.path, unquote(parts.path)) if Path(p).exists()), parts.path)


@contextmanager
def open_parquet(file: str) -> Iterator[pq.ParquetFile]:
    """A file of a table, here or elsewhere, while the block lasts.

    Raises
    ------
    LaunchError
        If it cannot be read from where this runs.
    """
    try:
        if "://" in file:
            system, path = pafs.FileSystem.from_uri(file)
            parquet = pq.ParquetFile(system.open_input_file(path))
        else:
            parquet = pq.ParquetFile(file, memory_map=True)
    except OSError as error:
        raise LaunchError(f"{file} cannot be read here; every node must see the table's folder ({error})") from error
    try:
        yield parquet
    finally:
        parquet.close()
