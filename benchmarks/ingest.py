"""How fast gigabytes of CSV become a table, against Spark, polars, DuckDB and pandas on the very same files.

    PYTHONPATH=lib:. python benchmarks/ingest.py [MEGABYTES] [PAIRS] [PEER ...]

Prints one JSON line a peer. `ratio` is the peer's wall clock over ours (above 1: ours is faster), the median of interleaved
pairs after a warm-up on a small folder; `low` and `high` are the extremes of the pairs. Every side is a process of its own,
started before the clock, with two threads (pandas has one), and reads files that are in the page cache. Ours is the whole
job in a running session: header checks, hashing, counting, parsing, checks of every value, partitioned Parquet, statistics
and commit. Spark writes partitioned Delta with the schema given, DuckDB partitioned Parquet, polars and pandas plain
Parquet, all with snappy. The rows of all must have the same order-free checksum. `cpu_s` and `peak_mb` are of the process and all
it started. Rows are synthetic demo data.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import psutil

from iomt_ids.contract.flows import columns_of, source_header
from iomt_ids.demo import demo_files, rows_for_bytes
from iomt_ids.runtime.files import write_tree
from iomt_ids.runtime.progress import process_tree_bytes

_ROOT = Path(__file__).resolve().parents[1]
_THREADS, _SEED, _SMALL_ROWS = 2, 1, 20_000
_TWO_THREADS = f"--properties-file {_ROOT / 'conf/spark/local.conf'} --master local[{_THREADS}]"
_NAMES = {c.v1: c.name for c in columns_of("v1")}
_HEADER = list(source_header("v1"))
_PLACE = r"/(attacks/csv/train|attacks/csv/test|profiling)/"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.csv"))


def started_session(name: str, settings: str = _TWO_THREADS):  # type: ignore[no-untyped-def]
    """Spark with the users' own settings, on two threads unless `settings` of spark-submit say otherwise."""
    from pyspark.sql import SparkSession

    os.environ |= {
        "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": f"{_ROOT / 'lib'}:{_ROOT}",
        "PYSPARK_SUBMIT_ARGS": f"{settings} pyspark-shell",
    }
    session = SparkSession.builder.appName(name).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def ours() -> Callable[[Path, Path], None]:
    """The job, in a session that runs."""
    from iomt_ids.runtime.config import load_config
    from jobs import ingest_flows

    spark = started_session("ours")

    def run(folder: Path, out: Path) -> None:
        ingest_flows.run(spark, load_config(_ROOT / "conf" / "local.yaml", [f"data.raw={folder}", f"output.folder={out}"]))

    return run


def spark() -> Callable[[Path, Path], None]:
    """Stock Spark: CSV with the schema given, label and split from the path, partitioned Delta."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    from iomt_ids.contract.attacks import ATTACKS

    session = started_session("spark")
    schema = T.StructType([T.StructField(_NAMES[n], T.DoubleType()) for n in _HEADER])

    def run(folder: Path, out: Path) -> None:
        flows = session.read.schema(schema).option("header", True).csv([str(p) for p in _files(folder)])
        path = F.input_file_name()
        category = F.lit("Benign")
        for attack in ATTACKS:
            category = F.when(path.rlike(f"/{attack.capture}_(train|test)"), attack.category).otherwise(category)
        labelled = flows.withColumn("split", F.regexp_extract(path, _PLACE, 1)).withColumn("category", category)
        labelled.write.format("delta").partitionBy("split", "category").save(str(out / "flows"))

    return run


def polars() -> Callable[[Path, Path], None]:
    """Polars: a lazy scan of all files into one Parquet file."""
    os.environ["POLARS_MAX_THREADS"] = str(_THREADS)
    import polars as pl

    def run(folder: Path, out: Path) -> None:
        out.mkdir(parents=True)
        types = dict.fromkeys(_HEADER, pl.Float64)
        pl.scan_csv(_files(folder), schema=types).sink_parquet(out / "flows.parquet", compression="snappy")

    return run


def duck() -> Callable[[Path, Path], None]:
    """DuckDB: all files, split and class from the path, partitioned Parquet."""
    database = duckdb.connect(config={"threads": _THREADS})

    def run(folder: Path, out: Path) -> None:
        out.mkdir(parents=True)
        types = ", ".join(f"'{n}': 'DOUBLE'" for n in _HEADER)
        database.sql(
            f"COPY (SELECT * EXCLUDE filename, regexp_extract(filename, '{_PLACE}', 1) AS split, "
            "regexp_extract(filename, '/([A-Za-z]+)[^/]*$', 1) AS category "
            f"FROM read_csv({[str(p) for p in _files(folder)]}, header = true, auto_detect = false, delim = ',', "
            f"columns = {{{types}}}, filename = true)) "
            f"TO '{out / 'flows'}' (FORMAT parquet, PARTITION_BY (split, category), COMPRESSION snappy)"
        )

    return run


def pandas() -> Callable[[Path, Path], None]:
    """Pandas: file by file."""
    import pandas as pd

    def run(folder: Path, out: Path) -> None:
        out.mkdir(parents=True)
        for place, path in enumerate(_files(folder)):
            pd.read_csv(path, dtype="float64", float_precision="round_trip").to_parquet(out / f"{place}.parquet")

    return run


SIDES = {"ours": ours, "spark": spark, "polars": polars, "duckdb": duck, "pandas": pandas}


def serve(side: str) -> None:
    """Run one side as often as the other process asks for, one JSON line a time."""
    run = SIDES[side]()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        folder, out = map(Path, json.loads(line))
        shutil.rmtree(out, ignore_errors=True)
        peak, done = [0], threading.Event()

        def sample(peak: list[int] = peak, done: threading.Event = done) -> None:
            while not done.wait(0.2):
                peak[0] = max(peak[0], process_tree_bytes({os.getpid()}))

        watcher = threading.Thread(target=sample)
        watcher.start()
        cpu, start = _cpu_seconds(), time.monotonic()
        run(folder, out)
        seconds, cpu = time.monotonic() - start, _cpu_seconds() - cpu
        done.set()
        watcher.join()
        sys.stdout.write(json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_bytes": peak[0]}) + "\n")
        sys.stdout.flush()


def _cpu_seconds() -> float:
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    return sum(t.user + t.system + t.children_user + t.children_system for t in (p.cpu_times() for p in family))


class Side:
    """A side's process."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=log.open("w"), cwd=_ROOT,
        )
        self._line("ready")

    def _line(self, wanted: str = "{") -> str:
        for line in self.process.stdout or ():
            if line.startswith(wanted):
                return line
        raise SystemExit(f"{self.name} ended, status {self.process.wait()}")

    def run(self, folder: Path, out: Path) -> dict[str, float]:
        """One ingest; wall clock, processor time and peak memory."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([str(folder), str(out)]) + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def stop(self) -> None:
        """End the process and what it started."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)


def checksum(out: Path) -> tuple[int, str]:
    """Rows, and a sum over all of them that no order changes."""
    files = [str(p) for p in out.rglob("*.parquet") if "rejects" not in p.parts and "_delta_log" not in p.parts]
    there = {c[0] for c in duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet({files}, hive_partitioning = false)").fetchall()}
    columns = ", ".join(f'"{n if n in there else _NAMES[n]}"' for n in _HEADER)
    rows, total = duckdb.sql(
        f"SELECT count(*), sum(hash({columns})::HUGEINT) FROM read_parquet({files}, hive_partitioning = false)"
    ).fetchall()[0]
    return rows, str(total)


def write_demo(folder: Path, rows: int) -> int:
    """Demo files; the bytes written."""
    return write_tree(folder, ((file.path, file.chunks()) for file in demo_files(rows, _SEED)))


def main(megabytes: int, pairs: int, peers: list[str]) -> int:
    """Run the pairs, print a line a peer; 1 if any two sides did not come to the same rows."""
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as held:
        place = Path(held)
        write_demo(place / "small", _SMALL_ROWS)
        size = write_demo(place / "large", rows_for_bytes(megabytes * 1_000_000))
        sides = {name: Side(name, place / f"{name}.log") for name in ("ours", *peers)}
        for side in sides.values():
            side.run(place / "small", place / "out" / side.name)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        sums: dict[str, tuple[int, str]] = {}
        for _ in range(pairs):
            for name, side in sides.items():
                found[name].append(side.run(place / "large", place / "out" / name))
                sums[name] = sums.get(name) or checksum(place / "out" / name)
                shutil.rmtree(place / "out" / name)
        for side in sides.values():
            side.stop()
    for peer in peers:
        ratios = [theirs["seconds"] / mine["seconds"] for mine, theirs in zip(found["ours"], found[peer], strict=True)]
        sys.stdout.write(json.dumps({
            "bench": "ingest", "peer": peer, "rows": sums["ours"][0], "mb": round(size / 1e6), "pairs": pairs,
            "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
            "same_rows": sums[peer] == sums["ours"], "data": "synthetic demo",
            **{f"{side}_{key}": round(statistics.median(run[unit] for run in found[name]) / scale, 1)
               for side, name in (("our", "ours"), ("peer", peer))
               for key, unit, scale in (("s", "seconds", 1), ("cpu_s", "cpu_s", 1), ("peak_mb", "peak_bytes", 1e6))},
        }) + "\n")
        sys.stdout.flush()
    return 0 if len(set(sums.values())) == 1 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        sys.exit(main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 2000, int(sys.argv[2]) if len(sys.argv) > 2 else 5,
            sys.argv[3:] or [name for name in SIDES if name != "ours"],
        ))
