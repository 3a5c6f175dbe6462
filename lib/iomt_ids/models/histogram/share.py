"""Trees grown by Spark: tasks bin their rows, the bins are shared once, trees are grown by tasks.

The first pass draws a sample to cut bins from, the second bins. What leaves a task is bytes: a sample, bins, trees; no
row goes through Python by itself. Nothing depends on how rows are spread: the sample is that of the smallest hashes of
`flow_id`, bins are put in its order, trees have seeds of their own. Trees of a forest are spread over tasks; boosting is
one task with a thread a core, because each round needs what the one before has learnt about every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import SparkContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import LaunchError
from iomt_ids.contract.problem import Problem
from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.boost import Boosting, BoostShape, boost
from iomt_ids.models.histogram.forest import Binned, Forest, Shape, Tree, grow
from iomt_ids.models.histogram.score import matrix
from iomt_ids.models.histogram.sketch import Sketch
from iomt_ids.models.vectors import CLASS, WEIGHT, dense_class

_ID = "flow_id"
# Every executor holds all bins, and so does the driver while it sorts them.
_MOST_BYTES = 800 << 20
_BYTES_A_ROW = 17  # beside the bins: flow_id, class and weight
_BYTES_A_SCORE = 8  # of each class, while boosting: score and probability
_SKETCH = "flow_id binary, label binary, rows binary, counts binary, values binary, sizes binary"
_BINS = "flow_id binary, label binary, weight binary, bins binary"


def fit_forest(flows: DataFrame, problem: Problem, shape: Shape, seed: int) -> Forest:
    """Grow a forest; the same seed gives the same trees on however many partitions and executors.

    Parameters
    ----------
    flows : DataFrame
        Rows with `flow_id`, the task's label and the features.

    Raises
    ------
    LaunchError
        If the bins (a byte a value) do not fit in one executor. Growing trees over executors that each hold a part of
        the rows is not built yet.
    ContractError
        In the task, if a feature is missing.
    """
    rows = _rows(flows, problem)
    sketch = _sketch_rows(rows, problem, shape.bins)
    _require_room(sketch, "random_forest", bytes_a_row=len(problem.features) + _BYTES_A_ROW)
    binned = _bin_rows(rows, problem, _edges(sketch, problem))
    return Forest(tuple(_grow_as_tasks(rows, binned, shape, seed)), len(problem.features), len(problem.labels))


def fit_boosting(
    flows: DataFrame, problem: Problem, shape: BoostShape, seed: int, *, validation: DataFrame
) -> tuple[Boosting, list[dict[str, float]]]:
    """Boost trees, with the same guarantee; validation rows end the rounds.

    Returns
    -------
    boosting : Boosting
    curves : list of dict
        See `boost.boost`.

    Raises
    ------
    LaunchError
        If bins and scores do not fit in one executor.
    ContractError
        In the task, if a feature is missing.
    """
    rows = _rows(flows, problem)
    sketch = _sketch_rows(rows, problem, shape.bins)
    needed = 2 * len(problem.features) + _BYTES_A_ROW + _BYTES_A_SCORE * len(problem.labels)
    _require_room(sketch, "gradient_boosted", bytes_a_row=needed)
    edges = _edges(sketch, problem)
    binned = _bin_rows(rows, problem, edges)
    unseen = _bin_rows(_rows(validation, problem), problem, edges) if shape.patience else None
    return _boost_as_task(rows, binned, unseen, shape, seed)


def _rows(flows: DataFrame, problem: Problem) -> DataFrame:
    """Distinct vectors of classes to be learnt, with what each weighs: validation may hold other classes."""
    values = [F.col(name).cast("double").alias(name) for name in problem.features]
    weight = F.col(problem.copies_column).cast("long").alias(WEIGHT)
    known = flows.select(_ID, dense_class(problem).alias(CLASS), weight, *values)
    return known.filter((F.col(CLASS) >= 0) & (F.col(WEIGHT) > 0))


def _edges(sketch: Sketch, problem: Problem) -> list[np.ndarray]:
    return [sketch.edges(f) for f in range(len(problem.features))]


def _require_room(sketch: Sketch, detector: str, *, bytes_a_row: int) -> None:
    rows = int(sketch.counts.sum())
    needed = rows * bytes_a_row
    if needed > _MOST_BYTES:
        raise LaunchError(
            f"{rows} rows of {len(sketch.distinct)} features are {needed >> 20} MiB in bins, more than the {_MOST_BYTES >> 20} MiB "
            f"that are shared with every executor; train with --set models.{detector}.engine=mllib"
        )


def _sketch_rows(rows: DataFrame, problem: Problem, limit: int) -> Sketch:
    features, classes = list(problem.features), len(problem.labels)

    def sketch(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = Sketch.empty(len(features), classes, limit)
        for ids, labels, _, values in _blocks(batches, features):
            mine = mine.merge(Sketch.of(ids, labels, values, classes, limit))
        if mine.counts.any():
            yield _one_row(_SKETCH, mine.as_bytes())

    merged = Sketch.empty(len(features), classes, limit)
    for row in rows.mapInArrow(sketch, _SKETCH).toArrow().to_pylist():
        merged = merged.merge(Sketch.from_bytes(list(row.values()), len(features), limit))
    return merged


def _bin_rows(rows: DataFrame, problem: Problem, edges: Sequence[np.ndarray]) -> Binned:
    features = list(problem.features)
    shared = rows.sparkSession.sparkContext.broadcast(list(edges))

    def to_bins(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for *told, values in _blocks(batches, features):
            yield _one_row(_BINS, [*[array.tobytes() for array in told], bin_rows(values, shared.value).tobytes()])

    table = rows.mapInArrow(to_bins, _BINS).toArrow()
    ids, labels, weights = (
        np.concatenate([np.frombuffer(b.as_py(), kind) for b in table[name]] or [np.empty(0, kind)])
        for name, kind in (("flow_id", np.int64), ("label", np.uint8), ("weight", np.int64))
    )
    blocks = [np.frombuffer(b.as_py(), np.uint8).reshape(len(features), -1) for b in table["bins"]]
    order = np.argsort(ids, kind="stable")
    columns = np.empty((len(features), ids.size), np.uint8)
    for f, into in enumerate(columns):
        into[:] = np.concatenate([block[f] for block in blocks])[order]
    return Binned(columns, labels[order], weights[order], edges, len(problem.labels))


def _grow_as_tasks(rows: DataFrame, binned: Binned, shape: Shape, seed: int) -> list[Tree]:
    context = rows.sparkSession.sparkContext
    shared = context.broadcast(binned)
    # A few tasks a core: trees differ in size, and a killed task costs only its own trees.
    tasks = min(shape.trees, 4 * max(1, context.defaultParallelism))
    try:
        return context.parallelize(range(shape.trees), tasks).mapPartitions(_growing(shared, shape, seed)).collect()
    finally:
        shared.unpersist()


def _growing(shared: Any, shape: Shape, seed: int) -> Callable[[Iterable[int]], list[Tree]]:
    return lambda wanted: grow(shared.value, shape, seed, wanted)


def _boost_as_task(
    rows: DataFrame, binned: Binned, unseen: Binned | None, shape: BoostShape, seed: int
) -> tuple[Boosting, list[dict[str, float]]]:
    context = rows.sparkSession.sparkContext
    shared = context.broadcast((binned, unseen))
    threads = _cores_of_an_executor(context)
    try:
        return context.parallelize([0], 1).mapPartitions(_boosting(shared, shape, seed, threads)).collect()[0]
    finally:
        shared.unpersist()


def _boosting(shared: Any, shape: BoostShape, seed: int, threads: int) -> Callable[[Iterable[int]], list[Any]]:
    return lambda _: [boost(shared.value[0], shape, seed, threads=threads, unseen=shared.value[1])]


def _cores_of_an_executor(context: SparkContext) -> int:
    """Threads of the one task: rounds wait for each other, and a Spark job a round would cost more than it computes."""
    cores = context.getConf().get("spark.executor.cores")
    return context.defaultParallelism if str(context.master).startswith("local") else int(cores or 1)


def _blocks(
    batches: Iterator[pa.RecordBatch], features: Sequence[str], rows: int = 200_000
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Ids, classes, weights and values of a partition in blocks large enough for numpy and small enough for memory."""
    held: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for batch in batches:
        ids, labels, weights = (batch.column(n).to_numpy(zero_copy_only=False) for n in (_ID, CLASS, WEIGHT))
        held.append((ids, labels.astype(np.uint8), weights, matrix(batch, features)))
        if sum(len(ids) for ids, *_ in held) >= rows:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))  # type: ignore[misc]
            held = []
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))  # type: ignore[misc]


def _one_row(schema: str, values: Sequence[bytes]) -> pa.RecordBatch:
    names = [field.split(" ")[0] for field in schema.split(", ")]
    return pa.RecordBatch.from_pydict({n: pa.array([v], pa.binary()) for n, v in zip(names, values, strict=True)})
