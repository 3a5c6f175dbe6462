"""How fast a random forest is trained, against MLlib through Spark and scikit-learn in memory, on the very same rows.

    PYTHONPATH=lib python benchmarks/forest.py [ROWS[,ROWS ...]] [PAIRS] [PEER ...]

Prints one JSON line a peer and number of rows, and of several numbers how time and memory grow: `exponent` is the slope
of the logarithms of seconds and rows, `bytes_a_row` that of memory. `ratio` is the peer's time over ours (above 1: ours
is faster), the median of interleaved pairs after one warm-up; `low` and `high` are the extremes of the pairs. Both use
two threads. Against MLlib ours is the whole fit through Spark, from the same Delta table; against scikit-learn it is
binning and growing of the same arrays. `memory_mb` is the most that all processes of the bench held at once while a
side ran, less what they held before it: of each process its own peak, so rather too much than too little; Java keeps
what it has once taken. Macro-F1 is of held-out rows. Rows are real ones where they are beside the project, drawn again
with each value moved by up to a thousandth (few-valued columns stay as they are), otherwise the demo's; `data` says
which.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
from ingest import started_session
from pyspark.sql import functions as F
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from iomt_ids.contract.problem import Problem, Scaling
from iomt_ids.demo import demo_files
from iomt_ids.models import random_forest
from iomt_ids.models.histogram.forest import Shape, grow_threaded
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.score import ForestScorer

_ROOT = Path(__file__).resolve().parents[1]
_REAL = _ROOT.parent / "shared" / "data" / "ciciomt2024" / "WiFI_and_MQTT" / "attacks" / "csv" / "train"
_LEAKS = ("IAT", "Number", "Weight")
_THREADS, _TREES, _DEPTH, _BINS, _SEED = 2, 100, 10, 128, 1


def _files() -> tuple[str, list[tuple[str, pa.Table]]]:
    if _REAL.is_dir():
        return "real", [(p.name, pacsv.read_csv(p)) for p in sorted(_REAL.glob("*.csv"))]
    made = [f for f in demo_files(20_000, _SEED) if f.rows and "/train/" in str(f.path)]
    return "synthetic demo", [(Path(f.path).name, pacsv.read_csv(pa.BufferReader(b"".join(f.chunks())))) for f in made]


def drawn_rows(wanted: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Features and class indices, drawn from the rows of each file; a class is what a file's name says before `_train`."""
    source, files = _files()
    kept = [c for c in files[0][1].column_names if c not in _LEAKS]
    values = np.concatenate([np.column_stack([t[c].to_numpy() for c in kept]).astype(float) for _, t in files])
    names = np.repeat([name.split("_train")[0].rstrip("0123456789") for name, _ in files], [t.num_rows for _, t in files])
    dice = np.random.default_rng(_SEED)
    drawn = dice.integers(len(names), size=wanted)
    many = np.array([np.unique(column).size > 256 for column in values.T])
    moved = values[drawn] * np.where(many, 1 + dice.uniform(-1e-3, 1e-3, (wanted, values.shape[1])), 1.0)
    return source, moved, np.unique(names, return_inverse=True)[1][drawn]


class Took(NamedTuple):
    """What a side has cost, and what it has made."""

    seconds: float
    made: Any
    memory_mb: float


def timed(work: Callable[[], Any]) -> Took:
    """Run it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier sides have freed is given back, or it would hide what this one needs
    before = _memory(begin=True)
    start = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - start
    return Took(seconds, made, max(0.0, _memory(begin=False) - before) / 2**20)


def _memory(*, begin: bool) -> float:
    """Bytes that all processes of the bench hold now, which begins their peaks anew, or have held at their peaks."""
    held = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        place = Path("/proc", str(process.pid))
        with contextlib.suppress(OSError):
            if begin:
                (place / "clear_refs").write_text("5")  # Linux: the peak is what is held now
            # None of a process that has ended and is not yet waited for.
            peak = re.search(r"VmHWM:\s+(\d+)", (place / "status").read_text())
            held += 1024 * int(peak[1]) if peak else 0
    return held


def measured(pairs: Sequence[tuple[Took, Took]]) -> dict[str, float]:
    """What a line says of interleaved pairs, ours and the peer's."""
    ratios = [theirs.seconds / ours.seconds for ours, theirs in pairs]
    middle = {
        f"{whose}{name}": round(statistics.median(getattr(pair[side], name) for pair in pairs), digits)
        for name, digits in (("seconds", 2), ("memory_mb", 0)) for side, whose in enumerate(("", "peer_"))
    }
    return {
        "ratio": round(statistics.median(ratios), 1), "low": round(min(ratios), 1), "high": round(max(ratios), 1), **middle,
    }


def tell(line: dict[str, Any]) -> dict[str, Any]:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return line


def from_command_line(main: Callable[[int, int, list[str]], list[dict[str, Any]]], peers: Iterable[str]) -> int:
    """Run with numbers of rows, pairs and peers as the arguments say; of several numbers of rows, tell how costs grow."""
    given = [int(word) for word in sys.argv[1].split(",")] if len(sys.argv) > 1 else [200_000]
    pairs, asked = int(sys.argv[2]) if len(sys.argv) > 2 else 5, sys.argv[3:] or list(peers)
    lines = [line for rows in given for line in main(rows, pairs, asked)]
    for peer in asked if len(given) > 1 else ():
        tell(_growth([line for line in lines if line["peer"] == peer]))
    return 0


def _growth(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rows, grown = np.array([line["rows"] for line in lines], float), {}
    for whose in ("", "peer_"):
        seconds, memory = (np.array([line[whose + name] for line in lines], float) for name in ("seconds", "memory_mb"))
        grown[f"{whose}exponent"] = round(float(np.polyfit(np.log(rows), np.log(seconds), 1)[0]), 2)
        grown[f"{whose}bytes_a_row"] = round(float(np.polyfit(rows, memory * 2**20, 1)[0]))
    same = {name: lines[0][name] for name in ("bench", "peer", "data")}
    return {**same, "what": "growth", "rows": rows.astype(int).tolist(), **grown}


_Sides = tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], np.ndarray]]


def _in_memory(rows: np.ndarray, labels: np.ndarray, unseen: np.ndarray, held: str) -> _Sides:
    shape, classes = Shape(_TREES, _DEPTH, _BINS, "sqrt", 1), int(labels.max()) + 1

    def ours() -> Any:
        return grow_threaded(bin_all(rows, labels, classes, _BINS, _THREADS), shape, _SEED, _THREADS)

    def theirs() -> Any:
        return RandomForestClassifier(_TREES, max_depth=_DEPTH, n_jobs=_THREADS, random_state=_SEED).fit(rows, labels)

    return ours, theirs, lambda m: m.predict(unseen) if hasattr(m, "predict") else ForestScorer(m).probabilities(unseen)[1]


def spark_table(values: np.ndarray, classes: np.ndarray) -> tuple[Any, Problem]:
    """Rows in Spark's memory, in as many partitions as threads, and what is to be learnt from them."""
    problem = problem_of(values.shape[1], int(classes.max()) + 1)
    flows = started_session("bench forest").createDataFrame(as_table(values, classes, problem)).repartition(_THREADS).cache()
    flows.count()
    return flows, problem


def delta_table(values: np.ndarray, classes: np.ndarray, held: str) -> tuple[Any, Problem]:
    """Rows as a job reads them: of the train split of a Delta table below a folder, a file a thread; and what to learn."""
    rows, problem = spark_table(values, classes)
    place = tempfile.mkdtemp(dir=held)
    rows.withColumn("split", F.lit("train")).write.format("delta").partitionBy("split").mode("overwrite").save(place)
    rows.unpersist()
    return rows.sparkSession.read.format("delta").load(place).filter(F.col("split") == "train"), problem


def problem_of(features: int, classes: int) -> Problem:
    """What is to be learnt of so many features, and of all of so many classes."""
    names = tuple(f"f{i}" for i in range(features))
    return Problem("attack", names, "all", tuple(range(classes)), tuple(Scaling(n, 0.0, 1.0) for n in names))


def as_table(values: np.ndarray, classes: np.ndarray, problem: Problem) -> pa.Table:
    """Rows as a detector wants them, none of them twice."""
    columns = {"flow_id": np.arange(len(values)), "attack_id": classes.astype(np.int32)}
    columns[problem.copies_column] = np.ones(len(values), np.int32)
    return pa.table(columns | dict(zip(problem.features, values.T, strict=True)))


def _through_spark(rows: np.ndarray, labels: np.ndarray, unseen: np.ndarray, held: str) -> _Sides:
    flows, problem = delta_table(rows, labels, held)
    held_out, _ = spark_table(unseen, np.zeros(len(unseen)))

    def fit(engine: str) -> Any:
        params = random_forest.Params(engine, trees=_TREES, depth=_DEPTH, bins=_BINS, features_per_node="sqrt")
        return random_forest.fit(flows, problem, params, validation=held_out, seed=_SEED, launcher=None)

    def predict(model: Any) -> np.ndarray:
        return np.array([r[0] for r in model.transform(held_out).orderBy("flow_id").select("prediction").collect()])

    return lambda: fit("histogram"), lambda: fit("mllib"), predict


_PEERS = {"scikit-learn": _in_memory, "mllib": _through_spark}


def main(rows: int, pairs: int, peers: list[str]) -> list[dict[str, Any]]:
    """Run the pairs and print a JSON line a peer."""
    source, values, labels = drawn_rows(rows + rows // 4)
    lines = []
    for peer in peers:
        with tempfile.TemporaryDirectory(prefix="bench-forest-") as held:
            ours, theirs, predict = _PEERS[peer](values[:rows], labels[:rows], values[rows:], held)
            ours()
            both = [(timed(ours), timed(theirs)) for _ in range(pairs)]
            marks = [f1_score(labels[rows:], predict(side.made), average="macro") for side in both[-1]]
        lines.append(tell({
            "bench": "forest", "peer": peer, "data": source, "rows": rows, "features": values.shape[1],
            "classes": int(labels.max()) + 1, "trees": _TREES, "depth": _DEPTH, "threads": _THREADS, "pairs": pairs,
            **measured(both), "f1_macro": round(float(marks[0]), 4), "peer_f1_macro": round(float(marks[1]), 4),
        }))
    return lines


if __name__ == "__main__":
    sys.exit(from_command_line(main, _PEERS))
