"""Predictions counted, once, in Spark; everything later is arithmetic on these counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import PROTOCOLS
from iomt_ids.contract.tables import PREDICTIONS
from iomt_ids.contract.transform import require_schema

# Which rows a score is over: the Bluetooth classes are easy and not in most published tables.
SCOPES = ("all", *PROTOCOLS)
# What a score counts: rows as they are, or each distinct vector of a class once, whatever a flood repeats.
COUNTED = ("rows", "distinct")


@dataclass(frozen=True)
class Count:
    """Rows of one split, protocol and device with the same label and prediction, and the distinct vectors among them."""

    split: str
    protocol: str
    device: str | None
    label: int
    prediction: int
    rows: int
    distinct: int


def count_predictions(predictions: DataFrame) -> list[Count]:
    """Count predictions by where they come from and what they say.

    Parameters
    ----------
    predictions : DataFrame
        Schema `contract.tables.PREDICTIONS`, one row a distinct vector or more; more columns are ignored.

    Returns
    -------
    list of Count
        In a repeatable order.
    """
    keys = [name for name in PREDICTIONS.fieldNames() if name != "copies"]
    counted = require_schema(predictions, PREDICTIONS, "into count_predictions").groupBy(*keys).agg(
        F.sum("copies").alias("rows"), F.count_if(F.col("copies") > 0).alias("distinct")
    )
    found = [Count(**row.asDict()) for row in counted.collect()]
    return sorted(found, key=lambda c: (c.split, c.protocol, c.device or "", c.label, c.prediction))


def confusion_matrix(
    counts: Iterable[Count], *, classes: int, split: str, scope: str = "all", counted: str = COUNTED[0]
) -> np.ndarray:
    """Counts of one split and scope.

    Returns
    -------
    ndarray of int64, shape (classes, classes)
        Row is the true class, column the predicted one.

    Examples
    --------
    >>> counts = [Count("test", "wifi_mqtt", None, 0, 1, 3, 1), Count("test", "bluetooth", None, 1, 1, 2, 2)]
    >>> confusion_matrix(counts, classes=2, split="test").tolist()
    [[0, 3], [0, 2]]
    >>> confusion_matrix(counts, classes=2, split="test", scope="bluetooth").tolist()
    [[0, 0], [0, 2]]
    >>> confusion_matrix(counts, classes=2, split="test", counted="distinct").tolist()
    [[0, 1], [0, 2]]
    """
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for count in counts:
        if count.split == split and scope in ("all", count.protocol):
            matrix[count.label, count.prediction] += getattr(count, counted)
    return matrix
