"""What a second rank is worth: rows a second of a training on two executors of one core each, against one.

    PYTHONPATH=lib:. python benchmarks/ranks.py [ROWS] [PAIRS] [BATCH] [EPOCHS] [NETWORK ...] [LAUNCHER ...]

Prints one JSON line a network and launcher, Horovod's and the ring of sockets. A standalone cluster of its own has two
workers, each held to one core. `ratio` is rows a second that two ranks train on over those of one, the median of interleaved
pairs (2: nothing is lost); `low` and `high` are the extremes. Rows a second are those of a run's median epoch, validation and
all, without the first, in which TensorFlow compiles; `whole_ratio` is of whole trainings. `ceiling` is the ratio of two ranks
that train without speaking to each other, once: what the machine gives two processes, whoever wrote them. A step has as many
rows on two ranks as on one, half on each, and the same learning rate; `f1_macro` is of held-out rows in the end, for one rank
and for two. `data_s`, `reduce_s` and `compute_s` split an epoch of two ranks: rows gathered, the same number of all-reduces
of the same gradient by themselves, and the rest. Rows are those of `benchmarks/loader.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fault_deep import own_cluster
from ingest import started_session
from loader import written

from iomt_ids.distributed.launch import Launcher, launcher_of
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import count_rows, read_rows
from iomt_ids.distributed.train import train_rank
from iomt_ids.distributed.work import LAUNCHERS, Alone, Communicator, RankResult, Work
from iomt_ids.models.network import TrainingParams

_ROOT = Path(__file__).resolve().parents[1]
_HELD_OUT = 20_000
# Rows, pairs, rows of a step, epochs.
_DEFAULTS = (200_000, 5, 8192, 8)


def apart(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Train on all rows as if there were no other rank, while the others do the same."""
    ranks.sum(np.zeros(1))
    return train_rank(job, Alone())


def pieces(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Seconds of what an epoch does besides computing: rows gathered, gradients reduced."""
    import tensorflow as tf

    rows = read_rows(job, "train", ranks.rank, ranks.size)
    plan = ShardPlan(count_rows(job["train"], job["copies"]), ranks.size, job["params"]["batch_rows"])
    start = time.perf_counter()
    for numbers in plan.batches(ranks.rank, job["seed"], 1):
        of = rows.shard[numbers]
        tf.constant(rows.features[of])
    data = time.perf_counter() - start
    reduce, flat = tf.function(ranks.mean_gradient), tf.zeros(job["weights"])
    reduce(flat)
    start = time.perf_counter()
    for _ in range(plan.steps):
        reduce(flat).numpy()
    return {"data_s": data, "reduce_s": time.perf_counter() - start}, b""


def _session(properties: Path) -> Any:
    path = os.pathsep.join(map(str, (_ROOT / "lib", _ROOT, _ROOT / "benchmarks")))
    settings = f"--properties-file {shlex.quote(str(properties))} --conf spark.executorEnv.PYTHONPATH={path}"
    return started_session("ranks", settings)


def one_core_each(workers: list[int]) -> None:
    """Hold each worker of a cluster to a core of its own."""
    for pid, core in zip(workers, os.sched_getaffinity(0), strict=False):
        # What a worker starts stays where it is.
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, {core})


def _speed(results: list[RankResult], rows: int) -> float:
    # The median of all epochs but the first, in which TensorFlow compiles what the others repeat.
    return rows / max(statistics.median(r.facts["epoch_seconds"][1:]) for r in results)


def network(kind: str) -> dict[str, Any]:
    # A network's own parameters are its shape; the others are its training's.
    params = asdict(import_module(f"iomt_ids.models.{kind}").Params())
    trained = set(asdict(TrainingParams())) - {"dropout"}
    return {"kind": kind, **{name: value for name, value in params.items() if name not in trained}}


def _measured(launcher: Launcher, job: dict[str, Any], rows: int, pairs: int) -> dict[str, Any]:
    def run(function: str, ranks: int, share: int) -> list[RankResult]:
        params = job["params"]
        same = {"batch_rows": params["batch_rows"] // share, "learning_rate": params["learning_rate"] / ranks}
        return launcher.run(Work(function, {**job, "params": {**params, **same}}), ranks)

    train = "iomt_ids.distributed.train:train_rank"
    run(train, 2, 2)
    found, whole = [], []
    for _ in range(pairs):
        one, two = run(train, 1, 1), run(train, 2, 2)
        found.append((_speed(one, rows), _speed(two, rows)))
        whole.append(one[0].facts["train_seconds"] / max(r.facts["train_seconds"] for r in two))
    ceiling = _speed(run("ranks:apart", 2, 2), 2 * rows) / statistics.median(one for one, _ in found)
    told = {"weights": two[0].facts["parameters"], **job}
    told["params"] = {**told["params"], "batch_rows": told["params"]["batch_rows"] // 2}
    parts = launcher.run(Work("ranks:pieces", told), 2)[0].facts
    ratios, seconds = [two / one for one, two in found], statistics.median(rows / two for _, two in found)
    f1 = {f"f1_macro_{n}": round(r[0].facts["curves"][-1]["validation_f1_macro"], 4) for n, r in (("one", one), ("two", two))}
    return {
        "pairs": pairs, "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "whole_ratio": round(statistics.median(whole), 2), "ceiling": round(ceiling, 2),
        "rows_per_s": round(statistics.median(two for _, two in found)),
        "one_rows_per_s": round(statistics.median(one for one, _ in found)), **f1,
        "data_s": round(parts["data_s"], 2), "reduce_s": round(parts["reduce_s"], 2),
        "compute_s": round(seconds - parts["data_s"] - parts["reduce_s"], 2),
    }


def main(rows: int, pairs: int, batch: int, epochs: int, kinds: list[str], launchers: list[str]) -> int:
    """Measure and print the JSON lines."""
    with tempfile.TemporaryDirectory(prefix="bench-ranks-") as held:
        source, job = written(held, rows, _HELD_OUT)
        job["params"] |= {"batch_rows": batch, "steps": 0, "epochs_at_least": epochs, "epochs_at_most": epochs}
        with own_cluster(Path(held) / "cluster") as (properties, (_, *workers)):
            one_core_each(workers)
            session = _session(properties)
            for kind, launcher in itertools.product(kinds, launchers):
                measured = _measured(launcher_of(launcher, session), {**job, "network": network(kind)}, rows, pairs)
                sys.stdout.write(json.dumps({
                    "bench": "ranks", "peer": "one rank", "network": kind, "launcher": launcher,
                    "data": source, "rows": rows, "batch": batch,
                    "epochs": epochs, **measured,
                }) + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:] if word.isdigit()]
    launchers = [word for word in sys.argv[1:] if word in LAUNCHERS]
    kinds = [word for word in sys.argv[1:] if not word.isdigit() and word not in LAUNCHERS]
    sys.exit(main(*given, *_DEFAULTS[len(given):], kinds or ["dense_net", "conv_net"], launchers or ["horovod", "sockets"]))
