"""What a second executor is worth to trees: a whole fit through Spark on two executors of one core each, against one.

    PYTHONPATH=lib:. python benchmarks/executors.py [ROWS] [PAIRS] [FIT ...]

Prints one JSON line for the forest and one for boosting, each with its bins shared with every executor and spread over ranks,
or for those of them that are named: `forest-shared`, `forest-spread`, `boosting-shared`, `boosting-spread`.
A standalone cluster of its own has two workers, each held to one core; the driver runs beside them. `ratio` is the seconds
of one executor over those of two (2: nothing is lost), the median of interleaved pairs of fresh applications, each after a
fit of a few trees; `low` and `high` are the extremes. `ceiling` is what a second core is worth to processes that share nothing
but the machine: a few trees of the same rows grown by one, and as many by each of two at once, the median of one such pair
after each of the others. `same` says that trees are the same, bit for bit, on one and on two. Finished trees are kept on
disk as the job keeps them. Rows are those of `benchmarks/forest.py`, as a table of the train split in Parquet.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fault_deep import Driver, own_cluster, say
from fault_trees import SHARINGS, launcher_in, trees_of
from forest import as_table, drawn_rows, problem_of, tell
from pyarrow import parquet as pq
from pyspark.sql import SparkSession
from ranks import one_core_each

from iomt_ids.models.histogram.boost import BoostShape
from iomt_ids.models.histogram.forest import Binned, Shape, grow
from iomt_ids.models.histogram.order import bin_all

_SHAPES = {"forest": Shape(100, 10, 128, "sqrt", 1), "boosting": BoostShape(20, 5, 128, 0.2, patience=0)}
# Compiled code, Python's workers and the rows' pages are there afterwards.
_FEW = {"forest": replace(_SHAPES["forest"], trees=8), "boosting": replace(_SHAPES["boosting"], rounds=2)}
_FILES, _SEED, _LONGEST_S = 4, 1, 1800.0


def drive(folder: Path) -> int:
    """An application: a fit for each line on stdin, its seconds and the hash of its trees on stdout."""
    session = SparkSession.builder.appName("executors").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    rows = session.read.parquet(str(folder / "rows")).filter("split = 'train'")
    problem = problem_of(*json.loads((folder / "shape.json").read_text()))
    say({"ready": True})
    for number, (kind, sharing, shapes) in enumerate(map(str.split, sys.stdin)):
        launcher = launcher_in(session, folder / f"{session.sparkContext.applicationId}-{number}")
        begin = time.perf_counter()
        content = trees_of({"all": _SHAPES, "few": _FEW}[shapes][kind], rows, problem, _SEED, sharing, launcher)
        say({"seconds": time.perf_counter() - begin, "trees": hashlib.sha256(content).hexdigest()})
    session.stop()
    return 0


def _application(folder: Path, properties: Path, executors: int, fits: list[str]) -> dict[str, dict[str, Any]]:
    """Seconds and trees of every fit."""
    own = folder / f"{executors}.conf"
    own.write_text(properties.read_text(encoding="utf-8") + f"\nspark.cores.max {executors}\n", encoding="utf-8")
    driver, found = Driver(folder, own, __file__), {}
    for fit in fits:
        for shapes in ("few", "all"):
            driver.train(f"{fit.replace('-', ' ')} {shapes}")
            found[fit] = driver.wait(_LONGEST_S)
            if "trees" not in found[fit]:
                driver.end()
                raise SystemExit(f"{fit} on {executors} executors: {found[fit]}")
    assert driver.process.stdin is not None
    driver.process.stdin.close()
    driver.process.wait()
    return found


def _seconds_on(cores: list[int], binned: Binned) -> float:
    """Of a few trees, grown by a process on each of these cores at once."""
    context = multiprocessing.get_context("fork")  # rows are inherited
    begin, took = context.Barrier(len(cores), timeout=60), context.Queue()

    def grown(core: int) -> None:
        os.sched_setaffinity(0, {core})
        begin.wait()
        start = time.perf_counter()
        grow(binned, _FEW["forest"], _SEED, range(_FEW["forest"].trees))
        took.put(time.perf_counter() - start)

    processes = [context.Process(target=grown, args=(core,)) for core in cores]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"growing trees beside each other ended with status {process.exitcode}")
    return max(took.get() for _ in processes)


def _ceiling(binned: Binned) -> float:
    """What a second core is worth to processes that share nothing but the machine."""
    grow(binned, _FEW["forest"], _SEED, range(1))  # so that what is compiled is there
    cores = sorted(os.sched_getaffinity(0))[:2]
    return 2 * _seconds_on(cores[:1], binned) / _seconds_on(cores, binned)


def _write(folder: Path, rows: int) -> tuple[str, Binned]:
    source, values, classes = drawn_rows(rows)
    problem = problem_of(values.shape[1], int(classes.max()) + 1)
    (folder / "shape.json").write_text(json.dumps([values.shape[1], int(classes.max()) + 1]), encoding="utf-8")
    table = as_table(values, classes, problem)
    split = folder / "rows" / "split=train"
    split.mkdir(parents=True)
    for part in range(_FILES):
        first, last = rows * part // _FILES, rows * (part + 1) // _FILES
        pq.write_table(table.slice(first, last - first), split / f"part-{part}.parquet", compression="snappy")
    return source, bin_all(values, classes, int(classes.max()) + 1, _SHAPES["forest"].bins, 2)


def main(rows: int, pairs: int, *fits: str) -> int:
    """Measure and print the JSON lines."""
    wanted = list(fits) or ["-".join(fit) for fit in itertools.product(_SHAPES, SHARINGS)]
    with tempfile.TemporaryDirectory(prefix="bench-executors-") as held:
        folder = Path(held)
        source, binned = _write(folder, rows)
        with own_cluster(folder / "cluster") as (properties, (_, *workers)):
            one_core_each(workers)
            found, ceilings = [], []
            for _ in range(pairs):
                found.append(tuple(_application(folder, properties, n, wanted) for n in (1, 2)))
                ceilings.append(_ceiling(binned))
    for fit in wanted:
        (kind, sharing), both = fit.split("-"), [[told[fit] for told in pair] for pair in found]
        ratios = [one["seconds"] / two["seconds"] for one, two in both]
        tell({
            "bench": "executors", "peer": "one executor", "what": kind, "bins": sharing, "data": source, "rows": rows,
            "pairs": pairs, "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2),
            "high": round(max(ratios), 2), "ceiling": round(statistics.median(ceilings), 2),
            "seconds": round(statistics.median(two["seconds"] for _, two in both), 1),
            "peer_seconds": round(statistics.median(one["seconds"] for one, _ in both), 1),
            "same": len({told["trees"] for pair in both for told in pair}) == 1,
        })
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        sys.exit(drive(Path(sys.argv[2])))
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    rows, pairs = [*numbers, *(4_000_000, 3)[len(numbers):]]
    sys.exit(main(rows, pairs, *(word for word in sys.argv[1:] if not word.isdigit())))
