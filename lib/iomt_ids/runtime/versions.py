"""Which versions a run was made with."""

from __future__ import annotations

import platform
from importlib import metadata

from pyspark.sql import SparkSession

_PACKAGES = ("pyspark", "delta-spark", "tensorflow-cpu", "keras", "horovod", "numpy", "numba", "pandas", "pyarrow")


def versions(spark: SparkSession) -> dict[str, str]:
    """Versions of Python, Java, Scala and of each package that results depend on, ``absent`` where it is not installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    java = spark._jvm.System  # type: ignore[union-attr]
    return {**found, "java": java.getProperty("java.version"), "scala": spark._jvm.scala.util.Properties.versionNumberString()}  # type: ignore[union-attr]
