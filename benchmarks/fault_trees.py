"""Kills while trees are grown on a cluster: do they end, and are they to the last bit the trees that they would have been?

    PYTHONPATH=lib:. python benchmarks/fault_trees.py [KILLS] [SEED] [shared] [spread]

On a standalone cluster of its own (two executors of one core), a forest and boosted trees are grown by turns, and at a
random moment a process is killed by SIGKILL: a task's Python worker (or a rank, where bins are spread over ranks), an
executor, or the driver, which is then started again, as by `--resume`. `hangs` counts trainings that are not over two
minutes and three times an undisturbed training after the kill; `different` counts those whose trees are not the undisturbed
ones, bit for bit, which are also the same whether bins are shared or spread; `missed` kills found nobody left and are
repeated. `in_the_middle` counts kills that found some chunks of trees finished and not all. `bound` is 3/N, the 95 % bound
on the share of kills that could go wrong unseen. Prints one JSON line. Rows are made up.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from fault_deep import MINE, Driver, named, own_cluster, ranks, say
from forest import problem_of
from pyarrow import parquet as pq
from pyspark.sql import SparkSession

from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.launch import HorovodLauncher, Launcher
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.models.histogram.boost import BoostShape
from iomt_ids.models.histogram.forest import Shape
from iomt_ids.models.histogram.keep import trees_to_bytes
from iomt_ids.models.histogram.ranks import boosting_to_bytes
from iomt_ids.models.histogram.share import fit_boosting, fit_forest

_ROWS, _FEATURES, _CLASSES = 20_000, 20, 4
_PROBLEM = problem_of(_FEATURES, _CLASSES)
_SHAPES = {"forest": Shape(320, 14, 64, "0.5", 1), "boosting": BoostShape(160, 6, 64, 0.1, patience=0)}
_VICTIMS, SHARINGS = ("task", "executor", "driver"), ("shared", "spread")
_PATIENCE_S, _LONGEST_S = 120.0, 1800.0


def trees_of(
    shape: Shape | BoostShape, rows: Any, problem: Problem, seed: int, sharing: str, launcher: Launcher | None = None
) -> bytes:
    """Trees of a whole fit through Spark."""
    if isinstance(shape, Shape):
        return trees_to_bytes(fit_forest(rows, problem, shape, seed, launcher, sharing).trees)
    return boosting_to_bytes(*fit_boosting(rows, problem, shape, seed, launcher, sharing, validation=rows))


def launcher_in(session: SparkSession, folder: Path) -> ResumingLauncher:
    """Ranks as the job starts them, with finished trees kept in the folder."""
    endurance = Endurance(1, 3, _PATIENCE_S)
    return ResumingLauncher(HorovodLauncher(session), folder, endurance, lambda told: say({"told": told}))


def _write_rows(path: Path) -> None:
    dice = np.random.default_rng(1)
    label = dice.choice(_CLASSES, _ROWS, p=[0.5, 0.3, 0.15, 0.05])
    told = {name: label * dice.choice([0.0, 0.4, 0.8]) + dice.normal(0, 1, _ROWS) for name in _PROBLEM.features}
    # So heavy that ranks split the first levels of a tree together.
    copies = {_PROBLEM.copies_column: dice.integers(1, 30, _ROWS).astype("int32")}
    pq.write_table(pa.table({"flow_id": np.arange(_ROWS), "attack_id": label.astype("int32"), **copies, **told}), path)


def drive(folder: Path) -> int:
    """The driver: a training for each line on stdin, the hash of its trees on stdout."""
    session = SparkSession.builder.appName("fault_trees").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    rows = session.read.parquet(str(folder / "rows.parquet")).repartition(4)
    say({"ready": True})
    for line in sys.stdin:
        name, kind, sharing = line.split()
        try:
            content = trees_of(_SHAPES[kind], rows, _PROBLEM, 7, sharing, launcher_in(session, folder / name))
            say({"trees": hashlib.sha256(content).hexdigest()})
        except Exception as error:
            say({"error": repr(error)[-300:]})
    return 0


def _workers() -> list[psutil.Process]:
    """Ranks, or the Python workers if there are none: what a task works in."""
    found = []
    # A daemon forks workers, which have its command line.
    for process in named("pyspark.worker"):
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            if parent and "pyspark.worker" in parent.cmdline():
                found.append(process)
    return ranks() or found


class Experiment:
    """A cluster, its driver, and the kills."""

    def __init__(self, folder: Path, properties: Path, seed: int, sharings: list[str]) -> None:
        self.folder, self.properties, self.dice = folder, properties, random.Random(seed)
        self.counts: Counter[str] = Counter(hangs=0, different=0, failed=0, missed=0, in_the_middle=0, drivers_started_again=0)
        self.driver = self._driver()
        self.usual_s: dict[tuple[str, str], float] = {}
        self.chunks: dict[str, int] = {}
        self.trees: dict[str, str] = {}
        for kind, sharing in itertools.product(_SHAPES, sharings):
            self._undisturbed(kind, sharing)

    def _driver(self) -> Driver:
        driver = Driver(self.folder, self.properties, __file__)
        MINE.add(driver.process.pid)
        return driver

    def _undisturbed(self, kind: str, sharing: str) -> None:
        # The first one compiles, and starts Python.
        for name in ("first", "second"):
            begin = time.monotonic()
            self.driver.train(f"{name}-{kind}-{sharing} {kind} {sharing}")
            what = self.driver.wait(_LONGEST_S)
            if self.trees.setdefault(kind, what.get("trees", "")) != what.get("trees"):
                raise SystemExit(f"undisturbed trainings ended with different trees: {kind} {sharing} {what}")
            self.usual_s[kind, sharing] = time.monotonic() - begin
        self.chunks[kind] = self._kept(f"second-{kind}-{sharing}")

    def _kept(self, name: str) -> int:
        return sum(1 for pattern in ("trees-*", "rounds-*") for _ in self.folder.glob(f"{name}/*/{pattern}"))

    def strike(self, number: int, victim: str, kind: str, sharing: str) -> bool:
        """One training with one kill; False if the kill came too late."""
        asked, usual = f"training-{number} {kind} {sharing}", self.usual_s[kind, sharing]
        self.driver.train(asked)
        time.sleep(self.dice.uniform(0.1, 1.0) * usual)
        found = self.driver.family() if victim == "driver" else named("CoarseGrainedExecutorBackend")
        if victim == "task":
            found = _workers()
        chosen = found if victim == "driver" else self.dice.sample(found, min(1, len(found)))
        if not chosen or not self.driver.said.empty():
            self.counts["missed"] += 1
            self.driver.wait(_LONGEST_S)
            return False
        kept = self._kept(f"training-{number}")
        for process in chosen:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.counts["in_the_middle"] += 0 < kept < self.chunks[kind]
        what = {} if victim == "driver" else self.driver.wait(_PATIENCE_S + 3 * usual, [])
        if victim == "driver" or "gone" in what:
            self._start_again(asked)
            what = self.driver.wait(_PATIENCE_S + 3 * usual, [])
        self._judge(f"{number}: {victim} {kind} {sharing}", what, self.trees[kind])
        return True

    def _start_again(self, asked: str) -> None:
        self.driver.end()
        self.counts["drivers_started_again"] += 1
        self.driver = self._driver()
        self.driver.train(asked)

    def _judge(self, which: str, what: dict[str, Any], wanted: str) -> None:
        fault = "hangs" if not what else "failed" if "trees" not in what else "different" if what["trees"] != wanted else ""
        sys.stderr.write(f"{which}: {fault or 'the same'}{f' {what}' if fault else ''}\n")
        if fault:
            self.counts[fault] += 1
        if fault == "hangs":
            self._start_again("after-a-hang forest shared")
            self.driver.wait(_LONGEST_S)


def main(kills: int, seed: int, sharings: list[str]) -> int:
    """Kill so often; 1 if anything hung, failed or ended with other trees."""
    with tempfile.TemporaryDirectory(prefix="fault-trees-") as held:
        folder = Path(held)
        _write_rows(folder / "rows.parquet")
        with own_cluster(folder / "cluster") as (properties, daemons):
            MINE.update(daemons)
            experiment = Experiment(folder, properties, seed, sharings)
            turns = itertools.cycle(itertools.product(sharings, _VICTIMS, _SHAPES))
            numbers = itertools.count()
            for sharing, victim, kind in itertools.islice(turns, kills):
                while not experiment.strike(next(numbers), victim, kind, sharing):
                    pass
            experiment.driver.end()
    counts = dict(experiment.counts)
    usual = {" ".join(key): round(seconds, 1) for key, seconds in experiment.usual_s.items()}
    say({"bench": "fault_trees", "kills": kills, **counts, "bound": round(3 / kills, 3), "undisturbed_s": usual})
    return int(bool(counts["hangs"] or counts["different"] or counts["failed"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        sys.exit(drive(Path(sys.argv[2])))
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    named_ones = [word for word in sys.argv[1:] if word in SHARINGS]
    sys.exit(main(numbers[0] if numbers else 30, numbers[1] if numbers[1:] else 7, named_ones or list(SHARINGS)))
