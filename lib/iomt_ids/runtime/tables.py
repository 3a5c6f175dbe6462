"""Tables on disk: Delta by default, Parquet by one configuration key."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.tables import TABLES, Table, spark_path
from iomt_ids.contract.transform import require_schema
from iomt_ids.runtime.config import Config


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
        reader = spark.read.format(self.format)
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

    def version(self, spark: SparkSession, table: Table) -> int | None:
        """The newest Delta version of a table; None for Parquet or if there is none."""
        if self.format != "delta" or not self.exists(table):
            return None
        return int(self._history(spark, table)["version"])

    def versions(self, spark: SparkSession) -> dict[str, int | None]:
        """The newest version of every table there is, by name."""
        return {table.name: self.version(spark, table) for table in TABLES if self.exists(table)}

    def rows_written(self, spark: SparkSession, table: Table) -> int:
        """Rows of the newest version: from the Delta log, or counted for Parquet."""
        if self.format == "delta":
            return int(self._history(spark, table)["operationMetrics"].get("numOutputRows", 0))
        return self.read(spark, table).count()

    def restore(self, spark: SparkSession, table: Table, version: int | None) -> None:
        """Undo writes after `version`; without one, remove the table."""
        if version is None:
            shutil.rmtree(self.path(table), ignore_errors=True)
        else:
            DeltaTable.forPath(spark, spark_path(self.path(table))).restoreToVersion(version)

    def _history(self, spark: SparkSession, table: Table) -> dict:
        return DeltaTable.forPath(spark, spark_path(self.path(table))).history(1).collect()[0].asDict()

    def _overwrite_delta(self, rows: DataFrame, table: Table, where: dict[str, str] | None) -> int:
        writer = rows.write.format("delta").mode("overwrite").partitionBy(*table.partitions)
        if where and self.exists(table):
            writer = writer.option("replaceWhere", " AND ".join(f"{k} = '{v}'" for k, v in where.items()))
        writer.save(spark_path(self.path(table)))
        return int(self._history(rows.sparkSession, table)["version"])

    def _overwrite_parquet(self, rows: DataFrame, table: Table, where: dict[str, str] | None) -> None:
        target = self.path(table)
        if where and target.exists():
            writer = rows.write.mode("overwrite").option("partitionOverwriteMode", "dynamic")
            writer.partitionBy(*table.partitions).parquet(spark_path(target))
            return
        # A reader sees the old table or the new one, never half of one.
        fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
        rows.write.mode("overwrite").partitionBy(*table.partitions).parquet(spark_path(fresh))
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
