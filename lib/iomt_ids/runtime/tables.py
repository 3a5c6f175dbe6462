"""Tables on disk: Delta by default, Parquet by one configuration key."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.contract.commit import Planner, TableState
from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.tables import TABLES, Table, spark_path
from iomt_ids.contract.transform import require_schema
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.delta_log import DeltaLog
from iomt_ids.runtime.log import log

_CHECKPOINT_VERSIONS = 10


@dataclass(frozen=True)
class Warehouse:
    """The tables of one data folder.

    Attributes
    ----------
    root : Path
        Holds one folder a layer, in it one folder a table.
    format : str
        ``delta`` or ``parquet``.
    """

    root: Path
    format: str

    @classmethod
    def of(cls, config: Config) -> Warehouse:
        """The tables of the configured data."""
        return cls(config.home / "warehouse", config.output.format)

    def path(self, table: Table) -> Path:
        """The folder of a table."""
        return self.root.joinpath(*table.name.split("."))

    def exists(self, table: Table) -> bool:
        """Whether the table has been written completely at least once."""
        mark = "_delta_log" if self.format == "delta" else "_SUCCESS"
        return (self.path(table) / mark).exists()

    def read(self, spark: SparkSession, table: Table, version: int | None = None) -> DataFrame:
        """The rows of a table, columns in the declared order.

        Parameters
        ----------
        version : int, optional
            A Delta version to travel back to; the newest by default.

        Raises
        ------
        ConfigError
            If the table does not exist in this format.
        ContractError
            If it lacks a declared column.
        """
        if not self.exists(table):
            raise ConfigError(f"there is no table {table.name} at {self.path(table)}; run the job that writes it first")
        # A Parquet table of no rows is a folder without files, which says nothing of its columns.
        reader = spark.read.format(self.format) if self.format == "delta" else spark.read.format(self.format).schema(table.schema)
        if version is not None:
            reader = reader.option("versionAsOf", version)
        rows = reader.load(spark_path(self.path(table)))
        return require_schema(rows, table.schema, f"table {table.name}").select(*table.schema.fieldNames())

    def overwrite(self, rows: DataFrame, table: Table, where: dict[str, str] | None = None) -> int | None:
        """Replace a table, or the partition that `where` names, in one step.

        Returns
        -------
        int or None
            The Delta version written; None for Parquet.

        Raises
        ------
        ContractError
            If the rows lack a declared column; nothing has been written then.
        """
        checked = require_schema(rows, table.schema, f"into {table.name}").select(*table.schema.fieldNames())
        if self.format == "delta":
            return self._overwrite_delta(checked, table, where)
        self._overwrite_parquet(checked, table, where)
        return None

    def version(self, table: Table) -> int | None:
        """The newest Delta version of a table; None for Parquet or if there is none."""
        if self.format != "delta" or not self.exists(table):
            return None
        return self.state(table).version

    def versions(self) -> dict[str, int | None]:
        """The newest version of every table there is, by name."""
        return {table.name: self.version(table) for table in TABLES if self.exists(table)}

    def state(self, table: Table) -> TableState:
        """The files of a table; none for Parquet, which keeps no account of them."""
        return DeltaLog(self.path(table)).state() if self.format == "delta" else TableState(-1, {}, {})

    def rows(self, spark: SparkSession, table: Table) -> int:
        """Rows of the newest version: from the Delta log, or counted for Parquet."""
        return self.state(table).rows if self.format == "delta" else self.read(spark, table).count()

    def staging(self, table: Table) -> Path:
        """The folder in which tasks write files that `commit` will make part of the table."""
        return self.path(table) if self.format == "delta" else self.path(table).with_name(f".{self.path(table).name}.new")

    def commit(self, table: Table, planner: Planner) -> TableState:
        """Make files of `staging` part of the table, in one step.

        Parameters
        ----------
        planner : callable
            Gives the change for the newest state.

        Raises
        ------
        IomtIdsError
            If the disk refuses; the table is as it was, or the message says that it is not.
        """
        if self.format != "delta":
            change = planner(TableState(-1, {}, {}))
            self.staging(table).mkdir(parents=True, exist_ok=True)
            (self.staging(table) / "_SUCCESS").touch()
            self._swap(table)
            return TableState(-1, {file.path: file for file in change.add}, change.properties)
        state = DeltaLog(self.path(table)).commit(table, planner, constraints=dict(table.constraints))
        if state.version and state.version % _CHECKPOINT_VERSIONS == 0:
            self._write_checkpoint(table)
        return state

    def discard(self, table: Table, prefix: str) -> None:
        """Remove files of `staging` that no commit has named."""
        # Whoever asks may not know what was committed: what failed may have failed after the commit.
        named = DeltaLog(self.path(table)).added(prefix) if self.format == "delta" else set()
        for path in self.staging(table).rglob(f"{prefix}-*.parquet"):
            if path.relative_to(self.staging(table)).as_posix() not in named:
                path.unlink(missing_ok=True)

    def restore(self, spark: SparkSession, table: Table, version: int | None) -> None:
        """Undo writes after `version`; without one, remove the table."""
        if version is None:
            shutil.rmtree(self.path(table), ignore_errors=True)
        else:
            DeltaTable.forPath(spark, spark_path(self.path(table))).restoreToVersion(version)

    def _write_checkpoint(self, table: Table) -> None:
        # Delta's own code writes checkpoints; without them a reader would replay every night there ever was.
        try:
            spark, path = SparkSession.active(), spark_path(self.path(table))
            spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, path).checkpoint()  # type: ignore[union-attr]
        except Exception as error:  # the version is there and whole without it, so this is no reason to fail
            log().warning("%s: no checkpoint was written: %s", table.name, error)

    def _overwrite_delta(self, rows: DataFrame, table: Table, where: dict[str, str] | None) -> int:
        writer = rows.write.format("delta").mode("overwrite").partitionBy(*table.partitions)
        # The contract says what a table looks like: one written by an older version takes its shape with the next write, or
        # gains the columns that it lacks where rows of before stay. Rows that ingest has read are never written this way.
        if where and self.exists(table):
            condition = " AND ".join(f"{k} = '{v}'" for k, v in where.items())
            writer = writer.option("replaceWhere", condition).option("mergeSchema", "true")
        else:
            writer = writer.option("overwriteSchema", "true")
        writer.save(spark_path(self.path(table)))
        return self.state(table).version

    def _overwrite_parquet(self, rows: DataFrame, table: Table, where: dict[str, str] | None) -> None:
        target = self.path(table)
        if where and target.exists():
            writer = rows.write.mode("overwrite").option("partitionOverwriteMode", "dynamic")
            writer.partitionBy(*table.partitions).parquet(spark_path(target))
            return
        rows.write.mode("overwrite").partitionBy(*table.partitions).parquet(spark_path(self.staging(table)))
        self._swap(table)

    def _swap(self, table: Table) -> None:
        # A reader sees the old table or the new one, never half of one.
        target = self.path(table)
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        self.staging(table).rename(target)
        shutil.rmtree(old, ignore_errors=True)
