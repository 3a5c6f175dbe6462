"""Rows of a table, dealt to ranks: disjoint, complete, the same every time, equal steps on every rank."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
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


@dataclass(frozen=True)
class ShardPlan:
    """How many rows and steps each rank has.

    Attributes
    ----------
    rows : int
        Of all ranks together.
    ranks : int
        Rank ``r`` has rows ``r``, ``r + ranks``, ``r + 2 * ranks``, ...
    batch : int
        Rows a rank learns from in one step.
    """

    rows: int
    ranks: int
    batch: int

    def rows_of(self, rank: int) -> int:
        """Rows of one rank; two ranks differ by one at most."""
        return len(range(rank, self.rows, self.ranks))

    @property
    def batch_rows(self) -> int:
        """Rows of one step, on every rank; a small shard is one batch."""
        return min(self.batch, self.rows_of(0))

    @property
    def steps(self) -> int:
        """Steps of one epoch, on every rank: a rank that stopped earlier would leave the others waiting."""
        return -(-self.rows_of(0) // self.batch_rows)

    def require_rows(self) -> None:
        """Refuse to deal fewer rows than ranks.

        Raises
        ------
        ContractError
            Naming both numbers.
        """
        if self.rows < self.ranks:
            raise ContractError(f"{self.rows} rows cannot be dealt to {self.ranks} ranks; set models.dense_net.ranks")

    def batches(self, rank: int, order: np.ndarray) -> Iterator[np.ndarray]:
        """Row numbers within a rank's shard, `steps` times `batch_rows` of them.

        Parameters
        ----------
        order : ndarray of int, shape (rows_of(rank),)
            A permutation; rows from its start fill the last batch up.
        """
        wanted = self.steps * self.batch_rows
        filled = np.resize(order, wanted)
        for start in range(0, wanted, self.batch_rows):
            yield filled[start:start + self.batch_rows]


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
    wanted = flows.select(*columns)
    files = _files_of_table(flows, wanted)
    if files is not None:
        yield files
        return
    folder = Path(tempfile.mkdtemp(prefix="iomt-ids-shards-"))
    try:
        wanted.write.mode("overwrite").parquet(spark_path(folder))
        yield sorted(p.as_posix() for p in folder.glob("part-*.parquet"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_shard(files: Sequence[str], columns: Sequence[str], rank: int, ranks: int) -> np.ndarray:
    """The rows of one rank.

    Returns
    -------
    ndarray of float64, shape (rows, len(columns))

    Raises
    ------
    LaunchError
        If a file cannot be read from where this rank runs.
    ContractError
        If a value is missing or not finite.
    """
    parts, seen = [np.empty((0, len(columns)))], 0
    for file in files:
        with _open(file) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(columns)):
                mine = batch.slice((rank - seen) % ranks)
                arrays = [mine.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in columns]
                parts.append(np.column_stack([a[::ranks] for a in arrays]))
                seen += batch.num_rows
    shard = np.concatenate(parts)
    broken = [name for name, whole in zip(columns, np.isfinite(shard).all(axis=0), strict=True) if not whole]
    if broken:
        raise ContractError(f"values are missing or not finite in: {', '.join(broken)}")
    return shard


def count_rows(files: Sequence[str]) -> int:
    """Rows in some Parquet files, from their footers."""
    total = 0
    for file in files:
        with _open(file) as parquet:
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
    pairs = np.asarray(scaling, dtype=np.float64)
    return ((np.sign(values) * np.log1p(np.abs(values)) - pairs[:, 0]) / pairs[:, 1]).astype(np.float32)


def _files_of_table(flows: DataFrame, wanted: DataFrame) -> list[str] | None:
    """The table's own files, if the rows are those files' rows and nothing else."""
    if "split" not in flows.columns or not _is_plain(wanted._jdf.queryExecution().optimizedPlan()):
        return None
    files = flows.inputFiles()
    rows = {row["split"]: row["rows"] for row in flows.groupBy("split").agg(F.count(F.lit(1)).alias("rows")).collect()}
    # inputFiles also names files of partitions that a filter has excluded.
    chosen = sorted((_local(f) for f in files if _split_of(f) in rows), key=_file_order)
    return chosen if chosen and count_rows(chosen) == sum(rows.values()) else None


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
def _open(file: str) -> Iterator[pq.ParquetFile]:
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
