"""Trees grown by Spark: tasks bin their rows, the bins are shared once, trees are grown by tasks.

The first pass draws a sample to cut bins from, the second bins; few rows are fetched instead, since a pass costs more
than all that is done with them. What leaves a task is bytes: a sample, bins, trees; no row goes through Python by
itself. Nothing depends on how rows are spread: the sample is that of the smallest hashes of `flow_id`, rows are drawn by such a
hash, trees have seeds of their own. Trees of a forest are spread over tasks. Boosting is one task with a thread a core,
because each round needs what the one before has learnt about every row; where there are more executors than one, its bins are
`spread` over ranks on all of them, which grow each tree together, as are more bins than an executor holds. Tasks leave the trees
that they have finished in the run's folder, and find there what a task or a job before them has finished.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import SparkContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.chunks import Chunks
from iomt_ids.distributed.resume import ResumingLauncher, chunks_of, folder_of, passing_folder
from iomt_ids.distributed.shards import files_of_table
from iomt_ids.models.histogram.blocks import ID, Block, FrameRows, KnownRows, Source, TableRows, fetch, one_row
from iomt_ids.models.histogram.boost import Boosting, BoostShape, boost
from iomt_ids.models.histogram.forest import Binned, Forest, Shape, Tree, grow
from iomt_ids.models.histogram.handed import Dealt, deal, deal_here, handed
from iomt_ids.models.histogram.keep import all_trees, forest_chunks, found_or_grown
from iomt_ids.models.histogram.sketch import Sketch
from iomt_ids.models.histogram.spread import identity, spread_over
from iomt_ids.models.vectors import CLASS, WEIGHT, dense_class, values_of

SHARINGS = ("auto", "shared", "spread")
# Of bins that are shared: every executor holds all of them.
_MOST_BYTES = 800 << 20
# Of values that are fetched: the driver holds them three times for a moment.
_FEW_BYTES = 128 << 20
_BYTES_A_ROW = 13  # beside the bins: mark, class and weight
_BYTES_A_SCORE = 8  # of each class, while boosting: score and probability
_SKETCH = "flow_id binary, label binary, rows binary, counts binary, values binary, sizes binary"


def fit_forest(
    flows: DataFrame, problem: Problem, shape: Shape, seed: int, launcher: Any = None, sharing: str = "auto"
) -> Forest:
    """Grow a forest; the same seed gives the same trees on however many partitions and executors.

    Parameters
    ----------
    flows : DataFrame
        Rows with `flow_id`, the task's label and the features.
    launcher : Launcher, optional
        If it is one that resumes, finished trees are kept in its folder. Starts the ranks, if there are any.
    sharing : str
        One of `SHARINGS`: whether all bins are ``shared`` with every executor, or ``spread`` over ranks (`spread`), or
        whichever fits.

    Raises
    ------
    LaunchError
        If ranks cannot be started, or do not see the run's folder.
    ContractError
        If a feature is missing; of many rows, in the task.
    """
    rows = _source_of(flows, problem)
    with _passing(launcher, flows.sparkSession.sparkContext) as held:
        source = _fetch_few(rows, problem)
        sketch = _sketch_rows(source, problem, shape.bins, held)
        edges = sketch.edges(threads=_threads_here())
        if _is_spread(sharing, sketch, bytes_a_row=len(problem.features) + _BYTES_A_ROW):
            with spread_over(launcher, flows.sparkSession, edges, len(problem.labels)) as spread:
                return spread.forest(rows, shape, seed)
        dealt = _deal(source, problem, edges, held)
        kept = chunks_of(launcher, lambda: identity("forest", shape, seed, train=dealt))
        return Forest(tuple(_grow_as_tasks(flows, dealt, shape, seed, kept)), len(problem.features), len(problem.labels))


def fit_boosting(
    flows: DataFrame, problem: Problem, shape: BoostShape, seed: int, launcher: Any = None, sharing: str = "auto", *,
    validation: DataFrame,
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
        As `fit_forest`.
    ContractError
        If a feature is missing; of many rows, in the task.
    """
    rows, context = _source_of(flows, problem), flows.sparkSession.sparkContext
    held_out = _source_of(validation, problem) if shape.patience else None
    needed = 2 * len(problem.features) + _BYTES_A_ROW + _BYTES_A_SCORE * len(problem.labels)
    with _passing(launcher, context) as held:
        source = _fetch_few(rows, problem)
        sketch = _sketch_rows(source, problem, shape.bins, held)
        edges = sketch.edges(threads=_threads_here())
        if _is_spread(sharing, sketch, bytes_a_row=needed) or _has_others(context, launcher):
            with spread_over(launcher, flows.sparkSession, edges, len(problem.labels)) as spread:
                return spread.boosting(rows, held_out, shape, seed)
        sets = {"train": _deal(source, problem, edges, held)}
        if held_out is not None:
            sets["unseen"] = _deal(_fetch_few(held_out, problem), problem, edges, held)
        kept = chunks_of(launcher, lambda: identity("boosting", shape, seed, **sets))
        return _boost_as_task(flows, list(sets.values()), shape, seed, kept)


def _rows(flows: DataFrame, problem: Problem) -> DataFrame:
    """Distinct vectors of classes to be learnt, with what each weighs: validation may hold other classes."""
    weight = F.col(problem.copies_column).cast("long").alias(WEIGHT)
    known = flows.select(ID, dense_class(problem).alias(CLASS), weight, values_of(problem.features))
    return known.filter((F.col(CLASS) >= 0) & (F.col(WEIGHT) > 0))


def _is_spread(sharing: str, sketch: Sketch, *, bytes_a_row: int) -> bool:
    if sharing not in SHARINGS:
        raise ConfigError(f"sharing is {sharing!r}: {', '.join(SHARINGS[:-1])} or {SHARINGS[-1]}")
    return sharing == "spread" or (sharing == "auto" and int(sketch.counts.sum()) * bytes_a_row > _MOST_BYTES)


def _source_of(flows: DataFrame, problem: Problem) -> Source:
    named = ID, problem.label_column, problem.copies_column
    found = files_of_table(flows, [*named, *problem.features])
    # Files of any other place are left to Spark, which knows how to get there.
    if found is None or not all(Path(file).is_file() for file in found[0]):
        return FrameRows(_rows(flows, problem), tuple(problem.features))
    known = KnownRows(tuple(found[0]), named, tuple(problem.features), tuple(problem.labels))
    return TableRows(flows.sparkSession, known, found[1])


def _fetch_few(rows: Source, problem: Problem) -> Source | Block:
    """The rows themselves if there are few, and some."""
    if not 0 < rows.count() * 8 * len(problem.features) <= _FEW_BYTES:
        return rows
    fetched = rows.whole()
    return fetched if fetched[0].size else rows


def _threads_here() -> int:
    """Of the driver's process, which has nothing else to do."""
    return len(os.sched_getaffinity(0))


def _sketch_rows(rows: Source | Block, problem: Problem, limit: int, folder: Path | None) -> Sketch:
    features, classes = list(problem.features), len(problem.labels)
    if isinstance(rows, tuple):
        ids, labels, _, values = rows
        return Sketch.of(ids, labels, values, classes, limit, threads=_threads_here())

    def sketch(blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
        mine = Sketch.empty(len(features), classes, limit)
        for ids, labels, _, values in blocks:
            mine = mine.add(ids, labels, values)
        if mine.counts.any():
            yield one_row(_SKETCH, mine.as_bytes())

    told = fetch(rows, sketch, _SKETCH, folder).to_pylist()
    return Sketch.empty(len(features), classes, limit).merge(
        *(Sketch.from_bytes(list(row.values()), len(features), limit) for row in told)
    )


def _deal(rows: Source | Block, problem: Problem, edges: Sequence[np.ndarray], folder: Path | None) -> Dealt:
    if isinstance(rows, tuple):
        return deal_here(rows, edges, len(problem.labels), folder, threads=_threads_here())
    return deal(rows, edges, len(problem.labels), folder)


@contextmanager
def _passing(launcher: Any, context: SparkContext) -> Iterator[Path | None]:
    """What tasks and driver hand each other during this fit, if there is a folder that all of them see."""
    folder = folder_of(launcher)
    if folder is not None:
        with passing_folder(folder, "bins-") as held:
            yield Path(held)
    elif _is_one_machine(context):
        # By Spark it would be in the memory of four processes, in some of them twice.
        with tempfile.TemporaryDirectory(prefix="iomt-ids-bins-") as held:
            yield Path(held)
    else:
        yield None


def _grow_as_tasks(flows: DataFrame, dealt: Dealt, shape: Shape, seed: int, kept: Chunks) -> list[Tree]:
    context = flows.sparkSession.sparkContext
    chunks = forest_chunks(shape.trees, dealt.rows)
    if _is_one_process(context):
        with ThreadPoolExecutor(context.defaultParallelism) as pool:
            grown = pool.map(_growing(_Here((dealt.read(),)), shape, seed, kept), chunks)
            return [tree for trees in grown for tree in trees]
    tasks = guided(chunks, max(1, context.defaultParallelism))
    with handed(context, [dealt]) as shared:
        growing, is_kept = _growing(shared, shape, seed, kept), kept.folder is not None

        def grow_some(wanted: list[range]) -> list[Tree]:
            grown = [tree for chunk in wanted for tree in growing(chunk)]
            # What is on disk, Spark need not carry while the core waits for its next task.
            return [] if is_kept else grown

        trees: list[Tree] = context.parallelize(tasks, len(tasks)).flatMap(grow_some).collect()
    return all_trees(chunks, kept) if is_kept else trees


def guided(chunks: Sequence[range], cores: int) -> list[list[range]]:
    """Chunks by tasks, fewer and fewer in each: a task costs some time, and who has no more of them waits for the others.

    Half of what is left, shared by all cores, is the next task (Polychronopoulos and Kuck 1987 take all of it).
    """
    tasks, first = [], 0
    while first < len(chunks):
        size = max(1, (len(chunks) - first) // (2 * cores))
        tasks.append(list(chunks[first : first + size]))
        first += size
    return tasks


def _growing(shared: Any, shape: Shape, seed: int, kept: Chunks) -> Callable[[range], list[Tree]]:
    return lambda wanted: found_or_grown(wanted, kept, lambda: grow(shared.value[0], shape, seed, wanted))


def _boost_as_task(
    flows: DataFrame, sets: Sequence[Dealt], shape: BoostShape, seed: int, kept: Chunks
) -> tuple[Boosting, list[dict[str, float]]]:
    context = flows.sparkSession.sparkContext
    threads = _cores_of_an_executor(context)
    if _is_one_process(context):
        return _boosting(_Here(tuple(dealt.read() for dealt in sets)), shape, seed, threads, kept)([0])[0]
    with handed(context, sets) as shared:
        return context.parallelize([0], 1).mapPartitions(_boosting(shared, shape, seed, threads, kept)).collect()[0]


def _boosting(shared: Any, shape: BoostShape, seed: int, threads: int, kept: Chunks) -> Callable[[Iterable[int]], list[Any]]:
    def learn(_: Iterable[int]) -> list[Any]:
        binned, *unseen = shared.value
        return [boost(binned, shape, seed, threads=threads, unseen=unseen[0] if unseen else None, kept=kept)]

    return learn


class _Here(NamedTuple):
    """What is handed to tasks, for those that run here."""

    value: tuple[Binned, ...]


def _is_one_machine(context: SparkContext) -> bool:
    """Whether all tasks see all files of the driver's."""
    return str(context.master).startswith("local")


def _is_one_process(context: SparkContext) -> bool:
    """Whether driver and executor are one, and a task that fails is not tried again: then a task would only cost its way."""
    return re.fullmatch(r"local(\[[^,\]]*\])?", str(context.master)) is not None


def _has_others(context: SparkContext, launcher: Any) -> bool:
    """Whether ranks would use more cores than one executor has; they need a folder that every node sees."""
    is_seen = isinstance(launcher, ResumingLauncher) and not _is_one_process(context)
    return is_seen and bool(launcher.slots() > _cores_of_an_executor(context))


def _cores_of_an_executor(context: SparkContext) -> int:
    """Threads of the one task: rounds wait for each other, and a Spark job a round would cost more than it computes."""
    cores = context.getConf().get("spark.executor.cores")
    return context.defaultParallelism if _is_one_machine(context) else int(cores or 1)
