"""What the leak hunter looks at: rows of each capture in the order of capture, and counts of values by class.

Three passes over the table, however many features there are: the length of each capture, a few
consecutive rows of each, and a histogram of each feature, which needs no pass where these few are all.
The driver holds at most `BLOCKS` times `BLOCK_ROWS` rows a capture (0.65 MB of doubles at 45 features), so
memory grows with the number of captures, not with their length. That is enough: a clock, an index, a grid
or a window that is cut by a rule shows in any few hundred consecutive rows, and three places far apart
show drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

# A rank correlation of 600 rows is sure to 0.04 where it is strong, and a rule that one row in twenty breaks shows.
BLOCK_ROWS = 600
BLOCKS = 3
# Leaves of a tree of depth six: coarse enough for a class of a hundred rows, fine enough for a date.
BINS = 64
_QUANTILES = np.linspace(0, 1, 33)
_COUNTED = "feature int, label int, held_out boolean, bin int, n_rows long"


@dataclass(frozen=True)
class Capture:
    """Consecutive rows of one file, from its start, its middle and its end.

    Attributes
    ----------
    file, attack, protocol : str
        Which capture, and what its name says of it.
    is_profile : bool
        Whether it profiles one device, and no detector learns from it.
    lines : ndarray of int64, shape (n,)
        Where the rows stand in the file, rising.
    values : ndarray of float64, shape (n, n_features)
        The features; nan where a value is missing.
    held_out : ndarray of bool, shape (n,)
        Whether a row belongs to the validation split.
    """

    file: str
    attack: str
    protocol: str
    is_profile: bool
    lines: np.ndarray
    values: np.ndarray
    held_out: np.ndarray

    def blocks(self) -> list[slice]:
        """Runs of rows that stand on neighbouring lines."""
        ends = np.flatnonzero(np.diff(self.lines) != 1) + 1
        bounds = [0, *ends.tolist(), len(self.lines)]
        return [slice(a, b) for a, b in pairwise(bounds)]


def gather_captures(flows: DataFrame, features: Sequence[str]) -> tuple[list[Capture], bool]:
    """Collect the start, middle and end of every capture.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`.
    features : sequence of str
        Feature columns.

    Returns
    -------
    captures : list of Capture
        By file name.
    is_whole : bool
        Whether no capture was so long that rows were left out.
    """
    lengths = flows.groupBy("source_file").agg(F.min("source_line").alias("low"), F.max("source_line").alias("high"))
    found = [(r["source_file"], _spans(r["low"], r["high"])) for r in lengths.collect()]
    spans = [(file, *span) for file, wanted in found for span in wanted]
    if not spans:
        return [], True
    wanted = F.broadcast(flows.sparkSession.createDataFrame(spans, "span_file string, low long, high long").coalesce(1))
    inside = (F.col("source_file") == F.col("span_file")) & F.col("source_line").between(F.col("low"), F.col("high"))
    rows = flows.join(wanted, inside, "inner").select(
        "source_file", "source_line", "attack", "protocol", (F.col("split") == "profile").alias("is_profile"),
        (F.col("split") == "validation").alias("held_out"), *features
    ).toArrow().sort_by([("source_file", "ascending"), ("source_line", "ascending")])
    return _split_by_file(rows, features), len(spans) == len(found)


def _spans(low: int, high: int) -> list[tuple[int, int]]:
    """The lines to collect, without overlap."""
    if high - low < BLOCKS * BLOCK_ROWS:
        return [(low, high)]
    starts = np.linspace(low, high - BLOCK_ROWS + 1, BLOCKS).astype(int)
    return [(int(start), int(start) + BLOCK_ROWS - 1) for start in starts]


def _split_by_file(rows: pa.Table, features: Sequence[str]) -> list[Capture]:
    files = np.array(rows["source_file"].to_pylist(), dtype=object)
    lines = rows["source_line"].to_numpy()
    held_out = rows["held_out"].to_numpy()
    attacks, protocols, profiles = (rows[name] for name in ("attack", "protocol", "is_profile"))
    values = np.column_stack([rows[name].to_numpy().astype(float) for name in features])
    bounds = [0, *(np.flatnonzero(files[1:] != files[:-1]) + 1).tolist(), len(files)]
    return [
        Capture(files[a], attacks[a].as_py(), protocols[a].as_py(), profiles[a].as_py(), lines[a:b], values[a:b], held_out[a:b])
        for a, b in pairwise(bounds) if b > a
    ]


def bin_edges(captures: Sequence[Capture], features: int) -> list[np.ndarray]:
    """Cuts between the bins of each feature, at most `BINS` - 1, each class counting the same.

    Parameters
    ----------
    captures : sequence of Capture
        Their train rows are looked at, and no others.
    features : int
        Number of features.
    """
    by_class: dict[str, list[np.ndarray]] = {}
    for capture in captures:
        by_class.setdefault(capture.attack, []).append(capture.values[~capture.held_out])
    edges = []
    for i in range(features):
        found = [np.concatenate([part[:, i] for part in parts]) for parts in by_class.values()]
        pooled = [np.quantile(v[np.isfinite(v)], _QUANTILES, method="lower") for v in found if np.isfinite(v).any()]
        cuts = np.quantile(np.concatenate(pooled), np.linspace(0, 1, BINS)[1:], method="lower") if pooled else np.array([])
        edges.append(np.unique(cuts))
    return edges


def count_values(
    flows: DataFrame, features: Sequence[str], edges: Sequence[np.ndarray], labels: Mapping[str, int]
) -> np.ndarray:
    """Count every row once for each feature, by class, split and bin.

    Parameters
    ----------
    flows : DataFrame
        Rows of the train and validation splits of `gold.features`.
    edges : sequence of ndarray
        Of `bin_edges`.
    labels : mapping of str to int
        Place of each attack in the result.

    Returns
    -------
    ndarray of int64, shape (n_features, 2, n_labels, BINS + 1)
        Second axis: train, validation. Missing values are counted in the last bin.
    """
    names, cuts, places = tuple(features), list(edges), dict(labels)

    def histogram(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = np.zeros((len(names), 2, len(places), BINS + 1), dtype=np.int64)
        for batch in batches:
            values = np.column_stack([batch[name].to_numpy(zero_copy_only=False).astype(float) for name in names])
            label = np.array([places[a] for a in batch["attack"].to_pylist()], dtype=int)
            _count(counts, values, label, np.array(batch["held_out"].to_pylist(), dtype=int), cuts)
        place = np.nonzero(counts)
        arrays = [place[0].astype("int32"), place[2].astype("int32"), place[1] > 0, place[3].astype("int32"), counts[place]]
        yield pa.RecordBatch.from_arrays([pa.array(a) for a in arrays], names=["feature", "label", "held_out", "bin", "n_rows"])

    columns = flows.select("attack", (F.col("split") == "validation").alias("held_out"), *names)
    counted = columns.mapInArrow(histogram, _COUNTED).groupBy("feature", "label", "held_out", "bin").agg(
        F.sum("n_rows").alias("n_rows"))
    total = np.zeros((len(names), 2, len(places), BINS + 1), dtype=np.int64)
    for row in counted.collect():
        total[row["feature"], int(row["held_out"]), row["label"], row["bin"]] = row["n_rows"]
    return total


def count_gathered(captures: Sequence[Capture], edges: Sequence[np.ndarray], labels: Mapping[str, int]) -> np.ndarray:
    """The same as `count_values`, of captures that were gathered whole; saves a pass."""
    counts = np.zeros((len(edges), 2, len(labels), BINS + 1), dtype=np.int64)
    for capture in captures:
        label = np.full(len(capture.lines), labels[capture.attack])
        _count(counts, capture.values, label, capture.held_out.astype(int), edges)
    return counts


def _count(
    counts: np.ndarray, values: np.ndarray, label: np.ndarray, side: np.ndarray, edges: Sequence[np.ndarray]
) -> None:
    for i, cuts in enumerate(edges):
        value = values[:, i]
        bins = np.where(np.isnan(value), BINS, np.searchsorted(cuts, value, side="right"))
        np.add.at(counts[i], (side, label, bins), 1)
