"""The schema of every table we write, derived from `contract.flows`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import types as T

from iomt_ids.contract.flows import FEATURE_SETS, FLOW_COLUMNS, IN_ORDER, ROUNDING, VECTOR_SETS


def copies_column(feature_set: str) -> str:
    """The column that says how many rows a row stands for, by the columns of a feature set; see `prepare.copies`."""
    return f"copies_{feature_set}"


_FLOW_FIELDS = [T.StructField(c.name, T.DoubleType(), True) for c in FLOW_COLUMNS]

# Where a row came from and what its file name says of it.
_ORIGIN_FIELDS = [
    T.StructField("source_file", T.StringType(), False),
    T.StructField("source_line", T.LongType(), False),
    T.StructField("release", T.StringType(), False),
    T.StructField("protocol", T.StringType(), False),
    T.StructField("device", T.StringType(), True),
    T.StructField("attack", T.StringType(), False),
]
_PARTITION_FIELDS = [
    T.StructField("split", T.StringType(), False),
    T.StructField("category", T.StringType(), False),
]
_LABEL_FIELDS = [
    T.StructField("flow_id", T.LongType(), False),
    T.StructField("attack_id", T.IntegerType(), False),
    T.StructField("category_id", T.IntegerType(), False),
    T.StructField("binary_id", T.IntegerType(), False),
    T.StructField("has_sentinel_iat", T.BooleanType(), False),
]

_COPIES_FIELDS = [T.StructField(copies_column(name), T.IntegerType(), False) for name in VECTOR_SETS]
# What the source says the split is, and by which scheme of `contract.splits` the rows were cut instead.
_CUT_FIELDS = [
    T.StructField("source_split", T.StringType(), False),
    T.StructField("split_scheme", T.StringType(), False),
]
# With its past, every row stands for itself. The past itself is one column, as most detectors never ask for it.
_PAST_FIELDS = [
    T.StructField("past_windows", T.IntegerType(), False),
    *[T.StructField(copies_column(name), T.IntegerType(), False) for name in FEATURE_SETS if name not in VECTOR_SETS],
    T.StructField("past", T.ArrayType(T.DoubleType()), True),
]

BRONZE = T.StructType(_ORIGIN_FIELDS + _FLOW_FIELDS + _PARTITION_FIELDS)
REJECTS = T.StructType([
    T.StructField("source_file", T.StringType(), False),
    T.StructField("source_line", T.LongType(), False),
    T.StructField("source_column", T.StringType(), True),
    T.StructField("reason", T.StringType(), False),
    T.StructField("raw", T.StringType(), False),
])
UNCOUNTED = T.StructType(_ORIGIN_FIELDS + _LABEL_FIELDS + _FLOW_FIELDS + _PARTITION_FIELDS)
COUNTED = T.StructType(UNCOUNTED.fields + _COPIES_FIELDS)
CUT = T.StructType(BRONZE.fields + _CUT_FIELDS)
SILVER = T.StructType(_ORIGIN_FIELDS + _LABEL_FIELDS + _COPIES_FIELDS + _CUT_FIELDS + _FLOW_FIELDS + _PARTITION_FIELDS)
FEATURES = T.StructType(
    _ORIGIN_FIELDS + _LABEL_FIELDS + _COPIES_FIELDS + _CUT_FIELDS + _FLOW_FIELDS + _PAST_FIELDS + _PARTITION_FIELDS
)
PREPARATION = T.StructType([
    T.StructField("feature", T.StringType(), False),
    T.StructField("center", T.DoubleType(), False),
    T.StructField("scale", T.DoubleType(), False),
    T.StructField("rows", T.LongType(), False),
])
PREDICTIONS = T.StructType([
    T.StructField("label", T.IntegerType(), False),
    T.StructField("prediction", T.IntegerType(), False),
    T.StructField("split", T.StringType(), False),
    T.StructField("protocol", T.StringType(), False),
    T.StructField("device", T.StringType(), True),
    T.StructField("copies", T.IntegerType(), False),
])
SCORES = T.StructType([
    T.StructField("run", T.StringType(), False),
    T.StructField("detector", T.StringType(), False),
    T.StructField("task", T.StringType(), False),
    T.StructField("features", T.StringType(), False),
    T.StructField("split", T.StringType(), False),
    T.StructField("scope", T.StringType(), False),
    T.StructField("counted", T.StringType(), False),
    T.StructField("class_name", T.StringType(), True),
    T.StructField("metric", T.StringType(), False),
    T.StructField("value", T.DoubleType(), True),
])
ALERTS = T.StructType([
    T.StructField("flow_id", T.LongType(), False),
    T.StructField("source_file", T.StringType(), False),
    T.StructField("source_line", T.LongType(), False),
    T.StructField("device", T.StringType(), True),
    T.StructField("protocol", T.StringType(), False),
    T.StructField("verdict", T.StringType(), False),
    T.StructField("probability", T.DoubleType(), False),
    # 1 less the probability of the benign classes, and what it has to reach; null where the verdict alone decides.
    T.StructField("alarm", T.DoubleType(), False),
    T.StructField("threshold", T.DoubleType(), True),
    T.StructField("is_alert", T.BooleanType(), False),
    T.StructField("model", T.StringType(), False),
    # The deepest level that the model is sure enough of; null where it is sure of none, or where nobody knows how sure it must be.
    T.StructField("sure_level", T.StringType(), True),
    T.StructField("sure_verdict", T.StringType(), True),
    T.StructField("sure_probability", T.DoubleType(), True),
])
# A row for each of an alert's most telling features, and one of all others; contributions of an alert add up to output less base.
EXPLANATIONS = T.StructType([
    *(ALERTS[name] for name in ("flow_id", "source_file", "source_line", "model", "verdict")),
    # What is explained: the probability of the verdict, or its margin, half the logarithm of its odds.
    T.StructField("output_kind", T.StringType(), False),
    T.StructField("output", T.DoubleType(), False),
    # The same where no feature is known.
    T.StructField("base", T.DoubleType(), False),
    T.StructField("feature", T.StringType(), False),
    T.StructField("value", T.DoubleType(), True),
    T.StructField("contribution", T.DoubleType(), False),
    T.StructField("place", T.IntegerType(), False),
])


@dataclass(frozen=True)
class Table:
    """A table's place, shape and partitioning.

    Attributes
    ----------
    name : str
        ``layer.noun_plural``.
    schema : StructType
        The columns, all of them, in order.
    partitions : tuple of str
        Partition columns, outermost first.
    sentence : str
        One line for the data dictionary.
    constraints : tuple of (str, str)
        Delta CHECK constraints: name, SQL.
    """

    name: str
    schema: T.StructType
    partitions: tuple[str, ...]
    sentence: str
    constraints: tuple[tuple[str, str], ...] = ()


def _flow_constraints() -> tuple[tuple[str, str], ...]:
    # A release lacks some columns, and to Delta NULL is a violation.
    found = {}
    for column in FLOW_COLUMNS:
        least, most = column.limits
        if least > -math.inf:
            upper = f" AND {column.name} <= {most}" if most < math.inf else ""
            found[f"{column.name}_is_possible"] = f"{column.name} IS NULL OR ({column.name} >= {least}{upper})"
    low, middle, high = IN_ORDER
    slack = f"{ROUNDING} * {high}"
    found["lengths_are_in_order"] = f"{low} <= {middle} + {slack} AND {middle} <= {high} + {slack}"
    return tuple(found.items())


BRONZE_FLOWS = Table("bronze.flows", BRONZE, ("split", "category"),
                     "every readable row of the source files, as it was read",
                     _flow_constraints())
BRONZE_REJECTS = Table("bronze.rejects", REJECTS, (), "every row that could not be read, with the reason and its raw text")
SILVER_FLOWS = Table("silver.flows", SILVER, ("split", "category"), "typed, labelled rows, with validation split off train")
GOLD_FEATURES = Table("gold.features", FEATURES, ("split", "category"), "the rows that detectors learn from and are scored on")
GOLD_PREPARATION = Table("gold.preparation", PREPARATION, (), "centre and scale of each feature, fitted on the train split only")
GOLD_SCORES = Table("gold.scores", SCORES, ("run",), "every metric of every run")
GOLD_ALERTS = Table("gold.alerts", ALERTS, (), "the served model's verdict on each row")
GOLD_EXPLANATIONS = Table("gold.explanations", EXPLANATIONS, (), "the features that made the served model raise some of its alerts")

TABLES: tuple[Table, ...] = (
    BRONZE_FLOWS, BRONZE_REJECTS, SILVER_FLOWS, GOLD_FEATURES, GOLD_PREPARATION, GOLD_SCORES, GOLD_ALERTS, GOLD_EXPLANATIONS,
)


def spark_path(folder: Path) -> str:
    """A local folder as Spark wants it named.

    Not ``Path.as_uri``: Spark takes the text as it stands, so that an escaped blank would become the name of another folder.

    Examples
    --------
    >>> spark_path(Path("/srv/ward 7/out"))
    'file:///srv/ward 7/out'
    """
    return f"file://{folder.absolute()}"
