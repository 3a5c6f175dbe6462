"""Care of Delta tables: few large files, no dead ones, and every version that a run's scores name stays readable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS, TABLES, Table, spark_path
from iomt_ids.runtime.tables import Warehouse

# Delta's own least; files of commits that are under way are younger.
LEAST_HOURS = 168
# The log itself must outlive the files: without its entries a version cannot be found.
_LOG_RETENTION = ("delta.logRetentionDuration", "interval 3650 days")
# These grow by a few files a night. Silver and gold are written anew each time, gold in an order that models rely on.
_GROWING = (BRONZE_FLOWS, BRONZE_REJECTS)


def named_versions(home: Path) -> dict[str, int]:
    """The oldest version of each table that the scores of a finished run name.

    Parameters
    ----------
    home : Path
        The folder of the data's tables and runs.
    """
    oldest: dict[str, int] = {}
    for record in sorted((home / "runs").glob("*/run.json")):
        scores = record.with_name("scores.json")
        tables = json.loads(scores.read_text(encoding="utf-8"))["data"]["tables"] if scores.is_file() else {}
        for name, version in tables.items():
            if version is not None:
                oldest[name] = min(version, oldest.get(name, version))
    return oldest


def hours_to_keep(log: Path, version: int | None, now_ms: int) -> int:
    """Hours for which removed files must stay, so that `version` and all after it can be read.

    Parameters
    ----------
    log : Path
        The table's ``_delta_log``.
    version : int or None
        None if no version is named.
    now_ms : int
        Milliseconds since 1970.
    """
    entry = log / f"{version:020d}.json" if version is not None else None
    if entry is None or not entry.is_file():
        return LEAST_HOURS
    actions = map(json.loads, entry.read_text(encoding="utf-8").splitlines())
    written = next(a["commitInfo"]["timestamp"] for a in actions if "commitInfo" in a)
    return max(LEAST_HOURS, math.ceil((now_ms - written) / 3_600_000) + 1)


def tend_table(spark: SparkSession, warehouse: Warehouse, table: Table, oldest: int | None, now_ms: int) -> Mapping[str, int]:
    """Compact a table that grows, and delete files that no version in use needs.

    Parameters
    ----------
    oldest : int or None
        The oldest version that must stay readable.

    Returns
    -------
    mapping of str to int
        ``files`` in use before and after, ``deleted`` files, ``kept_hours``.
    """
    folder = warehouse.path(table)
    delta = DeltaTable.forPath(spark, spark_path(folder))
    before = warehouse.state(table)
    name, value = _LOG_RETENTION
    if before.properties.get(name) != value:
        spark.sql(f"ALTER TABLE delta.`{spark_path(folder)}` SET TBLPROPERTIES ('{name}' = '{value}')")
    if table in _GROWING:
        delta.optimize().executeCompaction()
    on_disk = _files(folder)
    hours = hours_to_keep(folder / "_delta_log", oldest, now_ms)
    delta.vacuum(hours)
    after = warehouse.state(table)
    return {
        "files_before": len(before.files), "files_after": len(after.files), "deleted": on_disk - _files(folder), "kept_hours": hours
    }


def tend_tables(spark: SparkSession, warehouse: Warehouse, home: Path, now_ms: int) -> dict[str, Mapping[str, int]]:
    """`tend_table` for every Delta table there is, by name."""
    oldest = named_versions(home)
    return {
        table.name: tend_table(spark, warehouse, table, oldest.get(table.name), now_ms)
        for table in TABLES if warehouse.format == "delta" and warehouse.exists(table)
    }


def _files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts)
