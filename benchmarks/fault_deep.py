"""Deaths while a network is trained on a cluster: does it hang, and does it end with the weights it would have had?

    PYTHONPATH=lib:. python benchmarks/fault_deep.py [DEATHS] [SEED]

On a standalone cluster of its own, two ranks train again and again, and at a random moment one process is struck: a rank,
an executor or the driver, by SIGKILL, by an exception (a rank only: KeyboardInterrupt wherever it is) or by SIGSTOP for
60 s. A dead driver is started again, as by `--resume`. `hangs` counts trainings that are not over `60 s` and twice an
undisturbed training after the blow (and after the 60 s of a stopped driver); `different` counts those whose weights are not
the undisturbed one's, bit for bit; `missed` blows found nobody left and are repeated. `bound` is 3/N, the 95 % bound on the
share of deaths that could go wrong unseen. Prints one JSON line. Rows are made up.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet as pq
from pyspark.sql import SparkSession

from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.distributed.work import Work
from iomt_ids.distributed.worker import NAME
from iomt_ids.models.dense_net import Params
from iomt_ids.runtime import standalone
from iomt_ids.runtime.place import find_java, spark_command

_ROOT = Path(__file__).resolve().parents[1]
_BLOWS = [
    (victim, how) for victim in ("rank", "executor", "driver") for how in ("kill", "stop", "raise")
    if victim == "rank" or how != "raise"
]
_STOPPED_S, _PATIENCE_S, _START_S = 60.0, 60.0, 180.0
_STEPS, _ROWS = 6000, 20_000


def _job(folder: Path) -> dict[str, Any]:
    files = {}
    for split, rows, seed in (("train", _ROWS, 1), ("validation", 2000, 2)):
        dice = np.random.default_rng(seed)
        label = dice.choice([0, 2, 5], rows, p=[0.6, 0.3, 0.1])
        told = {f"f{i}": label + dice.normal(0, 1, rows) for i in range(20)}
        pq.write_table(pa.table({"y": label.astype("int32"), **told}), folder / f"{split}.parquet")
        files[split] = [str(folder / f"{split}.parquet")]
    params = Params(layers=(64, 32), steps=_STEPS, epochs_at_least=1, epochs_at_most=1000, patience=1000)
    return {
        **files, "features": [f"f{i}" for i in range(20)], "label": "y", "labels": [0, 2, 5], "scaling": [[0.7, 1.0]] * 20,
        "seed": 7, "network": {"kind": "dense_net", "layers": [64, 32], "dropout": 0.1}, "params": asdict(params),
    }


@contextlib.contextmanager
def own_cluster(folder: Path) -> Iterator[tuple[Path, list[int]]]:
    """A standalone cluster of an experiment's own: what to submit with, and the processes, the master's first."""
    home, _ = find_java()
    environment = {"JAVA_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    standalone.cluster_up(folder, _ROOT / "conf" / "spark" / "standalone.conf", spark_command("spark-class"), environment)
    try:
        state = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
        yield standalone.submit_properties(folder), [daemon["pid"] for daemon in state["daemons"]]
    finally:
        standalone.cluster_down(folder)


def drive(folder: Path) -> int:
    """The driver: a training for each name on stdin, what became of it on stdout."""
    session = SparkSession.builder.appName("fault_deep").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    say({"ready": True})
    for name in map(str.strip, sys.stdin):
        launcher = ResumingLauncher(
            HorovodLauncher(session), folder / name, Endurance(200, 3, _PATIENCE_S), lambda line: say({"told": line})
        )
        try:
            results = launcher.run(Work("iomt_ids.distributed.train:train_rank", job), 2)
            say({"weights": [r.facts["weights_sha256"] for r in results], "restarts": results[0].facts["restarts"]})
        except Exception as error:
            say({"error": repr(error)})
    return 0


def say(what: dict[str, Any]) -> None:
    """A line of JSON on stdout."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Driver:
    """A driver in a process of its own, and what it says."""

    def __init__(self, folder: Path, properties: Path, script: str = __file__) -> None:
        path = f"{_ROOT / 'lib'}{os.pathsep}{_ROOT}"
        settings = (
            f"--properties-file {shlex.quote(str(properties))} --driver-memory 1g "
            f"--conf spark.executorEnv.PYTHONPATH={path} pyspark-shell"
        )
        environment = os.environ | {
            "PYSPARK_SUBMIT_ARGS": settings, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": path
        }
        self.process = subprocess.Popen(
            [sys.executable, script, "--drive", str(folder)], text=True, env=environment, cwd=_ROOT, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        self.said: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait(_START_S)

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            with contextlib.suppress(ValueError):
                self.said.put(json.loads(line))
        self.said.put({"gone": True})

    def train(self, name: str) -> None:
        """Begin a training."""
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()

    def wait(self, seconds: float, told: list[str] | None = None) -> dict[str, Any]:
        """What became of it; empty if nothing has."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                what = self.said.get(timeout=left)
                if "told" not in what:
                    return what
                if told is not None:
                    told.append(what["told"])
        return {}

    def family(self) -> list[psutil.Process]:
        """Its process and Java's."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def end(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def named(word: str) -> list[psutil.Process]:
    """Processes of this experiment that have a word in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # Nobody else's: whatever works for this experiment has this folder's Python or this cluster's Java above it.
            if word in " ".join(process.cmdline()) and MINE & {p.pid for p in process.parents()}:
                found.append(process)
    return found


def ranks() -> list[psutil.Process]:
    """Processes of this experiment that are ranks, whether they have a command line of their own or are forks."""
    found = []
    for process in named(""):
        with contextlib.suppress(psutil.Error):
            if process.name() == NAME:
                found.append(process)
    return found


MINE: set[int] = set()
_VICTIMS: dict[str, Callable[[Driver], list[psutil.Process]]] = {
    "rank": lambda _: ranks(),
    "executor": lambda _: named("CoarseGrainedExecutorBackend"),
    "driver": Driver.family,
}
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "raise": signal.SIGINT}


class Experiment:
    """A cluster, its driver, and the blows."""

    def __init__(self, folder: Path, properties: Path, seed: int) -> None:
        self.folder, self.properties = folder, properties
        self.dice = random.Random(seed)
        self.counts: Counter[str] = Counter(hangs=0, different=0, failed=0, missed=0, restarts=0, drivers_started_again=0)
        self.slowest_s = 0.0
        self.driver = Driver(folder, properties)
        self.usual_s, self.weights = self._undisturbed()

    def _undisturbed(self) -> tuple[float, str]:
        hashes, seconds = set(), []
        for name in ("first", "second"):
            begin = time.monotonic()
            self.driver.train(name)
            hashes |= set(self.driver.wait(10 * _PATIENCE_S)["weights"])
            seconds.append(time.monotonic() - begin)
        if len(hashes) > 1:
            raise SystemExit("two undisturbed trainings ended with different weights")
        return min(seconds), hashes.pop()

    def strike(self, number: int, victim: str, how: str) -> bool:
        """One training with one blow; False if the blow came too late."""
        name, told = f"training-{number}", []
        self.driver.train(name)
        time.sleep(self.dice.uniform(0.0, self.usual_s))
        found = _VICTIMS[victim](self.driver)
        chosen = found if victim == "driver" else self.dice.sample(found, min(1, len(found)))
        if not chosen or not self.driver.said.empty():
            self.counts["missed"] += 1
            self._settle(name, told, 10 * _PATIENCE_S)
            return False
        for process in chosen:
            with contextlib.suppress(psutil.Error):
                process.send_signal(_SIGNALS[how])
        begin = time.monotonic()
        if how == "stop":
            threading.Timer(_STOPPED_S, _go_on, [chosen]).start()
        if victim == "driver" and how == "kill":
            self._start_again(name)
        stopped_s = _STOPPED_S if (victim, how) == ("driver", "stop") else 0.0
        what = self._settle(name, told, stopped_s + _PATIENCE_S + 2 * self.usual_s)
        self.slowest_s = max(self.slowest_s, time.monotonic() - begin - stopped_s)
        self._judge(number, victim, how, what, told)
        if how == "stop" and victim != "driver":
            time.sleep(max(0.0, _STOPPED_S - (time.monotonic() - begin)))
        return True

    def _settle(self, name: str, told: list[str], seconds: float) -> dict[str, Any]:
        what = self.driver.wait(seconds, told)
        if "gone" in what:
            self._start_again(name)
            what = self.driver.wait(seconds, told)
        return what

    def _start_again(self, name: str) -> None:
        self.driver.end()
        self.counts["drivers_started_again"] += 1
        self.driver = Driver(self.folder, self.properties)
        MINE.add(self.driver.process.pid)
        self.driver.train(name)

    def _judge(self, number: int, victim: str, how: str, what: dict[str, Any], told: list[str]) -> None:
        fault = "hangs" if not what else "failed" if "weights" not in what else ""
        if not fault and set(what["weights"]) != {self.weights}:
            fault = "different"
        if fault:
            self.counts[fault] += 1
            sys.stderr.write(f"{number}: {victim} {how}: {fault}: {what} {told}\n")
            if fault == "hangs":
                self._start_again(f"after-{number}")
                self.driver.wait(10 * _PATIENCE_S)
        self.counts["restarts"] += what.get("restarts", 0)


def _go_on(stopped: list[psutil.Process]) -> None:
    for process in stopped:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGCONT)


def main(deaths: int, seed: int) -> int:
    """Strike so often; 1 if anything hung, failed or ended with other weights."""
    with tempfile.TemporaryDirectory(prefix="fault-deep-") as held:
        folder = Path(held)
        (folder / "job.json").write_text(json.dumps(_job(folder)), encoding="utf-8")
        with own_cluster(folder / "cluster") as (properties, daemons):
            MINE.update(daemons)
            experiment = Experiment(folder, properties, seed)
            number, struck = 0, 0
            while struck < deaths:
                victim, how = _BLOWS[struck % len(_BLOWS)]
                struck += experiment.strike(number, victim, how)
                number += 1
            experiment.driver.end()
    counts = dict(experiment.counts)
    say({
        "bench": "fault_deep", "deaths": deaths, **counts, "bound": round(3 / deaths, 3),
        "undisturbed_s": round(experiment.usual_s, 1), "slowest_after_blow_s": round(experiment.slowest_s, 1),
    })
    return int(bool(counts["hangs"] or counts["different"] or counts["failed"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        sys.exit(drive(Path(sys.argv[2])))
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(given[0] if given else 50, given[1] if given[1:] else 7))
