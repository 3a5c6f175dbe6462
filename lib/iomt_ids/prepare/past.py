"""What the windows before a row say: mean and spread of each column over a row and those before it in one stream, or each window.

A stream is a capture file unless said otherwise, so that no row ever sees another capture, another split's file, or what
comes after it. A capture holds one kind of traffic only, which a live network does not: see docs/experiments.md for what
is left when benign and attacked windows alternate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.problem import HISTORY, Problem
from iomt_ids.contract.tables import copies_column
from iomt_ids.distributed.compiled import compiled
from iomt_ids.distributed.shards import scale

_STREAM, _ORDER = "_stream", "_order"
# From rows, and whether each is the first of its stream, to what is told of each.
_Told = Callable[[np.ndarray, np.ndarray], np.ndarray]


def add_past(
    flows: DataFrame, release: str, windows: int, *, stream: Column | None = None, order: Column | None = None
) -> DataFrame:
    """Add `past`, `past_windows` and `copies_past`.

    Parameters
    ----------
    flows : DataFrame
        Rows of one release, none of whose features is missing.
    windows : int
        How many windows before a row count, at most: at the start of a stream there are fewer. 0 adds nulls.
    stream, order : Column, optional
        What a stream is, and the place of a row in it; by default a file and its lines.

    Returns
    -------
    DataFrame
        In the order of streams; `past` depends on the order inside a stream and on nothing else.
    """
    added = {"past_windows": F.lit(windows), copies_column("past"): F.lit(1)}
    if not windows:
        return flows.withColumns({**added, "past": F.lit(None).cast("array<double>")})
    names = feature_names(release, "leak_free")

    def told(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return past_of(rows, starts, windows)

    field = T.StructField("past", T.ArrayType(T.DoubleType()))
    return _over_streams(flows, names, windows, field, told, stream, order).withColumns(added)


def add_history(
    flows: DataFrame, problem: Problem, *, stream: Column | None = None, order: Column | None = None
) -> DataFrame:
    """Add `history`: the windows up to each row one by one, as a network sees them.

    - `history` (array of float) -- ``past_windows + 1`` windows, oldest first, the row itself last; of each its features,
      scaled as the problem says, and 1. Where a stream has no window yet, zeros and 0.

    Parameters
    ----------
    flows : DataFrame
        All rows of each stream, of every split: which windows went before does not depend on who learns from them.
    stream, order : Column, optional
        As of `add_past`.
    """
    pairs = [(s.center, s.scale) for s in problem.scaling]

    def told(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return history_of(scale(rows, pairs), starts, problem.past_windows)

    field = T.StructField(HISTORY, T.ArrayType(T.FloatType()))
    return _over_streams(flows, problem.features, problem.past_windows, field, told, stream, order)


def with_past(flows: DataFrame, problem: Problem) -> DataFrame:
    """The rows with what the problem wants to know of the past, if it does: a column for each feature, or `history`.

    Parameters
    ----------
    flows : DataFrame
        All rows of each capture.

    Raises
    ------
    ContractError
        If the rows tell of another past than the problem is stated for, naming both.
    """
    if not problem.past_windows:
        return flows
    if problem.is_sequence:
        return add_history(flows, problem)
    first = flows.select("past_windows").first()
    if first and first["past_windows"] != problem.past_windows:
        raise ContractError(
            f"the rows tell of {first['past_windows']} windows before them, the model has learnt from {problem.past_windows}; "
            f"build gold.features with features.set=past and features.past_windows={problem.past_windows}"
        )
    return name_past(flows, [name for name in problem.features if name not in flows.columns])


def name_past(flows: DataFrame, names: Sequence[str]) -> DataFrame:
    """A column for each place of `past`."""
    return flows.withColumns({name: F.col("past")[place] for place, name in enumerate(names)})


def _over_streams(
    flows: DataFrame, names: Sequence[str], windows: int, field: T.StructField, told: _Told,
    stream: Column | None, order: Column | None,
) -> DataFrame:
    placed = flows.withColumns({
        _STREAM: F.col("source_file") if stream is None else stream, _ORDER: F.col("source_line") if order is None else order,
    }).repartition(_STREAM).sortWithinPartitions(_STREAM, _ORDER).drop(_ORDER)
    return placed.mapInArrow(_telling(names, windows, field.name, told), T.StructType([*flows.schema.fields, field]))


def _telling(
    names: Sequence[str], windows: int, name: str, told: _Told
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def tell(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held, of = np.empty((0, len(names))), ""
        for batch in batches:
            streams = batch.column(_STREAM).to_pylist()
            rows = np.column_stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names])
            # The rows before this batch that still count, if its first row goes on with their stream.
            before = held if streams[0] == of else held[:0]
            starts = np.array([i == 0 or streams[i] != streams[i - 1] for i in range(len(streams))])
            starts[0] = not len(before)
            found = told(np.concatenate([before, rows]), np.concatenate([np.zeros(len(before), bool), starts]))
            last = max(np.flatnonzero(starts), default=0)
            held, of = np.concatenate([before, rows] if not starts.any() else [rows[last:]])[-windows:], streams[-1]
            yield _with(batch, name, found[len(before):])

    return tell


def _with(batch: pa.RecordBatch, name: str, told: np.ndarray) -> pa.RecordBatch:
    offsets = pa.array(np.arange(len(told) + 1, dtype=np.int32) * told.shape[1])
    kept = {name: batch.column(name) for name in batch.schema.names if name != _STREAM}
    return pa.RecordBatch.from_pydict({**kept, name: pa.ListArray.from_arrays(offsets, pa.array(told.ravel()))})


def history_of(rows: np.ndarray, starts: np.ndarray, windows: int) -> np.ndarray:
    """A row and the `windows` rows before it in its stream, each followed by whether it is there.

    Parameters
    ----------
    rows : ndarray of float32, shape (rows, columns)
    starts : ndarray of bool, shape (rows,)
        Whether a row is the first of its stream.
    windows : int

    Returns
    -------
    ndarray of float32, shape (rows, (windows + 1) * (columns + 1))
        Oldest first; zeros where the stream had not begun.
    """
    places = np.arange(len(rows))
    begin = np.maximum.accumulate(np.where(starts, places, 0))
    wanted = places[:, None] + np.arange(-windows, 1)
    is_there = wanted >= begin[:, None]
    told = np.zeros((*wanted.shape, rows.shape[1] + 1), np.float32)
    told[is_there, :-1] = rows[wanted[is_there]]
    told[:, :, -1] = is_there
    return told.reshape(len(rows), -1)


@compiled
def past_of(rows: np.ndarray, starts: np.ndarray, windows: int) -> np.ndarray:
    """Mean and standard deviation of each column over a row and at most `windows` before it.

    Parameters
    ----------
    rows : ndarray of float64, shape (rows, columns)
    starts : ndarray of bool, shape (rows,)
        Whether a row is the first of its stream.
    windows : int

    Returns
    -------
    ndarray of float64, shape (rows, 2 * columns)
        Means, then standard deviations of a population. Each is summed afresh from its rows: a running sum would depend on
        where it began.
    """
    found = np.empty((rows.shape[0], 2 * rows.shape[1]))
    begin = 0
    for i in range(rows.shape[0]):
        if starts[i]:
            begin = i
        first = max(begin, i - windows)
        n = i + 1 - first
        for c in range(rows.shape[1]):
            total = 0.0
            for j in range(first, i + 1):
                total += rows[j, c]
            mean = total / n
            squares = 0.0
            for j in range(first, i + 1):
                squares += (rows[j, c] - mean) ** 2
            found[i, c], found[i, rows.shape[1] + c] = mean, np.sqrt(squares / n)
    return found
