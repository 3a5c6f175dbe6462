"""Kills, two writers at once and a full disk: is any row lost or doubled, any table unreadable?

    PYTHONPATH=lib:. python benchmarks/fault_ingest.py [KILLS] [COMMITS] [STOCK_COMMITS]

Prints one JSON line an experiment. *kills*: again and again a new capture is put beside the old ones, the ingest is started
as users start it, and at a random moment one of its processes is killed with SIGKILL (the driver, a Python worker, an
executor of the standalone cluster, all of them); the table must be readable and hold no part of a capture, and after one
run more every row once. `bound` is 3/N, the 95 % bound on the share that could go wrong unseen. *writers*: two processes
commit side by side, by our log and by stock Delta's. *full disk*: a limit on the size of files, as a disk that fills up.
Rows are synthetic demo data.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
from pyarrow import parquet as pq

from iomt_ids.contract.commit import Change, DataFile
from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS
from iomt_ids.demo import demo_files
from iomt_ids.runtime.config import DataConfig
from iomt_ids.runtime.delta_log import DeltaLog
from iomt_ids.runtime.tables import Warehouse

_ROOT = Path(__file__).resolve().parents[1]
_TRAIN = "WiFI_and_MQTT/attacks/csv/train"
_SEED, _ROWS = 7, 12_000
_VICTIMS = ("driver", "worker", "everything")
_PLACES = pa.schema([("source_file", pa.string()), ("source_line", pa.int64())])


def _capture() -> list[bytes]:
    file = next(f for f in demo_files(400_000, _SEED) if f.path.endswith("TCP_IP-DDoS-UDP1_train.pcap.csv"))
    return b"".join(file.chunks()).splitlines(keepends=True)


class Ward:
    """A folder of captures that grows, and the tables made of it."""

    def __init__(self, place: Path) -> None:
        self.raw, self.out = place / "raw", place / "out"
        (self.raw / _TRAIN).mkdir(parents=True)
        self.header, *self.lines = _capture()
        self.rows: dict[str, int] = {}
        home = self.out / DataConfig(str(self.raw), "", 0).name
        self.warehouse = Warehouse(home / "warehouse", "delta")
        self.dice = random.Random(_SEED)

    def grow(self, times: int = 1) -> None:
        """One capture more."""
        name = f"{_TRAIN}/TCP_IP-DDoS-UDP{len(self.rows) + 1}_train.pcap.csv"
        rows = times * self.dice.randint(_ROWS // 2, _ROWS)
        bad = [b"cut off\n"] * self.dice.randint(0, 3)
        lines = [*self.dice.choices(self.lines, k=rows), *bad]
        (self.raw / name).write_bytes(self.header + b"".join(lines))
        self.rows[name] = len(lines)

    def command(self, profile: str) -> list[str]:
        """The ingest, as a user types it."""
        return [
            sys.executable, "-m", "iomt_ids.cli", "submit", "ingest_flows", "--profile", profile,
            "--set", f"data.raw={self.raw}", "--set", f"output.folder={self.out}",
        ]

    def start(self, profile: str, limit: int | None = None) -> subprocess.Popen[str]:
        """Start an ingest in a process group of its own, with a limit on the size of files or without."""
        return subprocess.Popen(
            self.command(profile), cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
        )

    def finish(self, profile: str) -> float:
        """Run an ingest to its end; seconds."""
        start = time.monotonic()
        done = self.start(profile)
        _, said = done.communicate()
        if done.returncode:
            raise SystemExit(f"the run after a kill failed with {done.returncode}: {said[-2000:]}")
        return time.monotonic() - start

    def faults(self, *, complete: bool) -> Counter[str]:
        """Rows lost, rows doubled, unreadable tables, parts of captures."""
        found: Counter[str] = Counter()
        seen: list[pa.Table] = []
        for table in (BRONZE_FLOWS, BRONZE_REJECTS) if complete else (BRONZE_FLOWS,):
            try:
                if not self.warehouse.exists(table):
                    continue
                for path in self.warehouse.state(table).files:
                    rows = pq.ParquetFile(self.warehouse.path(table) / path).read(columns=["source_file", "source_line"])
                    seen.append(rows.cast(_PLACES))
            except Exception as error:
                sys.stderr.write(f"unreadable: {error}\n")
                found["unreadable"] += 1
        rows = pa.concat_tables([_PLACES.empty_table(), *seen])
        places = rows.group_by(["source_file", "source_line"]).aggregate([([], "count_all")])
        found["doubled"] = len(rows) - len(places)
        lines = Counter({entry["values"]: entry["counts"] for entry in places["source_file"].value_counts().to_pylist()})
        if complete:
            found["lost"] = sum(rows - lines[path] for path, rows in self.rows.items())
        else:
            # Rejects are not counted here: up to three lines of a capture may be missing.
            found["parts"] = sum(0 < lines[path] < rows - 3 for path, rows in self.rows.items())
        return found


def _victims(job: subprocess.Popen[str], what: str) -> list[psutil.Process]:
    family = psutil.Process(job.pid).children(recursive=True)
    if what == "executor":
        everyone = psutil.process_iter(["cmdline", "cwd"])
        executors = [p for p in everyone if "CoarseGrainedExecutorBackend" in " ".join(p.info["cmdline"] or [])]
        # Not those of another cluster on this machine.
        return [p for p in executors if Path(p.info["cwd"] or "/").is_relative_to(_ROOT / "out/cluster")][:1]
    if what == "driver":
        return [p for p in family if p.name() == "java"][:1]
    if what == "worker":
        return [p for p in family if "pyspark.worker" in " ".join(p.cmdline())][-1:]
    return family


def _kill(job: subprocess.Popen[str], what: str, moment: float) -> bool:
    """Kill at a moment; False if the job, or what was to be killed, was not there."""
    time.sleep(moment)
    try:
        victims = _victims(job, what) if job.poll() is None else []
        for victim in victims:
            victim.kill()
    except psutil.Error:
        victims = []
    # A job that lost one process ends by itself or goes on; one that lost its head leaves nobody to wait for.
    if what in ("driver", "everything"):
        time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    return bool(victims)


def _cluster(what: str) -> None:
    subprocess.run([sys.executable, "-m", "iomt_ids.cli", "cluster", what], cwd=_ROOT, check=True, capture_output=True)


def kills(place: Path, wanted: int) -> dict[str, object]:
    """The first experiment."""
    ward = Ward(place)
    ward.grow()
    lasts = {"local": ward.finish("local")}
    faults, killed = Counter[str](), Counter[str]()
    tried = 0
    try:
        while sum(killed.values()) < wanted:
            tried += 1
            what = "executor" if tried % 4 == 0 else ward.dice.choice(_VICTIMS)
            profile = "standalone" if what == "executor" else "local"
            if profile not in lasts:
                _cluster("up")
                lasts[profile] = ward.finish(profile)
            ward.grow()
            if _kill(ward.start(profile), what, ward.dice.uniform(0.3, 1.05) * lasts[profile]):
                killed[what] += 1
            faults += ward.faults(complete=False)
            ward.finish("local")
            faults += ward.faults(complete=True)
            sys.stderr.write(f"{sum(killed.values())} of {wanted} kills, faults: {dict(+faults)}\n")
    finally:
        if "standalone" in lasts:
            _cluster("down")
    names = ("lost", "doubled", "unreadable", "parts")
    return {
        "bench": "fault_ingest", "what": "kills", "kills": sum(killed.values()), "of": dict(killed),
        **{n: faults[n] for n in names}, "bound": round(3 / wanted, 4), "rows": sum(ward.rows.values()), "data": "synthetic demo",
    }


def _commit_ours(folder: Path, who: int, commits: int) -> None:
    log = DeltaLog(folder)
    for i in range(commits):
        file = DataFile(f"split=train/category=DoS/{who}-{i}.parquet", {"split": "train", "category": "DoS"}, 1, 1)
        log.commit(BRONZE_FLOWS, lambda _, file=file: Change((file,), (), {}), constraints={})


_STOCK = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
folder, who, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
told = 0
for i in range(commits):
    try:
        spark.createDataFrame([(f"{who}-{i}",)], "name string").coalesce(1).write.format("delta").mode("append").save(folder)
        told += 1
    except Exception:
        pass
print(told)
"""


def _commit_stock(folder: Path, commits: int) -> tuple[int, int]:
    """Rows that two Java processes were told are written, and rows that are there."""
    settings = f"--properties-file {_ROOT / 'conf/spark/local.conf'} --master local[1] --driver-memory 1g pyspark-shell"
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": settings, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}

    def start(who: str, commits: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _STOCK, str(folder), who, str(commits)], text=True, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )

    told = int(start("first", 1).communicate()[0].split()[-1])
    both = [start(who, commits) for who in "ab"]
    told += sum(int(p.communicate()[0].split()[-1]) for p in both)
    there = sum(pq.ParquetFile(folder / path).metadata.num_rows for path in DeltaLog(folder).state().files)
    return told, there


def writers(place: Path, commits: int, stock_commits: int) -> dict[str, object]:
    """The second experiment."""
    ours = place / "ours"
    both = [multiprocessing.get_context("fork").Process(target=_commit_ours, args=(ours, who, commits)) for who in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    told, there = _commit_stock(place / "stock", stock_commits)
    return {
        "bench": "fault_ingest", "what": "writers", "peer": "stock Delta, two Java processes", "commits": 2 * commits,
        "lost": 2 * commits - len(DeltaLog(ours).state().files), "peer_commits": told, "peer_lost": told - there,
    }


def full_disk(place: Path) -> dict[str, object]:
    """The third experiment."""
    ward = Ward(place)
    ward.grow()
    ward.finish("local")
    before = ward.warehouse.state(BRONZE_FLOWS)
    ward.grow(times=10)
    # Room for what Spark needs to start, not for the table's new file.
    job = ward.start("local", limit=(_ROOT / "dist/iomt_ids.zip").stat().st_size + 50_000)
    _, said = job.communicate()
    after = ward.warehouse.state(BRONZE_FLOWS)
    folder = ward.warehouse.path(BRONZE_FLOWS)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*.parquet")}
    ward.finish("local")
    return {
        "bench": "fault_ingest", "what": "full disk", "status": job.returncode, "message": said.strip().splitlines()[-1][-200:],
        "old_version_stays": after == before, "left_behind": len(files - set(before.files)),
        "faults_after_next_run": sum(ward.faults(complete=True).values()),
    }


def main(wanted: int, commits: int, stock_commits: int) -> int:
    """Run the three experiments; 1 if anything of ours was lost, doubled or unreadable."""
    with tempfile.TemporaryDirectory(prefix="fault-ingest-") as held:
        outcomes = []
        for name, experiment in (
            ("disk", full_disk), ("writers", lambda p: writers(p, commits, stock_commits)), ("kills", lambda p: kills(p, wanted)),
        ):
            (Path(held) / name).mkdir()
            outcomes.append(experiment(Path(held) / name))
            sys.stdout.write(json.dumps(outcomes[-1]) + "\n")
            sys.stdout.flush()
    bad = ("lost", "doubled", "unreadable", "parts", "left_behind", "faults_after_next_run")
    return int(any(outcome.get(name) for outcome in outcomes for name in bad))


if __name__ == "__main__":
    sys.exit(main(*(int(given) for given in [*sys.argv[1:], "200", "200", "40"][:3])))
