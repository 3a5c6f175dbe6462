"""The Spark session of a job. Master, memory and cores come from conf/spark/*.conf, never from here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ConfigError

_DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"


@contextmanager
def open_session(job: str, table_format: str) -> Iterator[SparkSession]:
    """The session that spark-submit configured, stopped when the job ends.

    Parameters
    ----------
    job : str
        Application name.
    table_format : str
        ``delta`` asks for Delta's extension, which the properties file brings.

    Raises
    ------
    ConfigError
        If the job was not started with one of our properties files.
    """
    # Executors start this Python, or else they start the system's, which lacks our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"iomt_ids {job}")
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise ConfigError(f"Spark does not start: {str(error).splitlines()[0]}; run: iomt-ids doctor") from error
    try:
        if table_format == "delta" and _DELTA_EXTENSION not in (spark.conf.get("spark.sql.extensions", "") or ""):
            raise ConfigError(
                "output.format is delta but Spark runs without Delta's extension; "
                "submit with --properties-file conf/spark/local.conf, or set output.format=parquet"
            )
        spark.sparkContext.setLogLevel("ERROR")
        yield spark
    finally:
        spark.stop()


def task_slots(spark: SparkSession) -> int:
    """Tasks that can run at the same time, all executors together."""
    return max(1, spark.sparkContext.defaultParallelism)
