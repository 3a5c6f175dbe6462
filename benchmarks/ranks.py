"""What a second rank is worth: rows a second of a training by Horovod on two executors of one core each, against one.

    PYTHONPATH=lib:. python benchmarks/ranks.py [ROWS] [PAIRS] [NETWORK ...]

Prints one JSON line a network. A standalone cluster of its own has two workers, each held to one core. `ratio` is rows a
second that two ranks train on over those of one, the median of interleaved pairs (2: nothing is lost); `low` and `high` are
the extremes. `ceiling` is the same for two ranks that train without speaking to each other: what the machine gives two
processes, whoever wrote them. Every rank takes batches of the same size, so two ranks take half as many steps, each twice as
long; `f1_macro` is of held-out rows after as many epochs, for one rank and for two. `data_s`, `reduce_s` and `compute_s`
split a training of two ranks: rows read and gathered, the same number of all-reduces of the same gradient by themselves, and
the rest. Rows are those of `benchmarks/loader.py`.
"""

from __future__ import annotations

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

from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import count_rows, read_rows
from iomt_ids.distributed.train import train_rank
from iomt_ids.distributed.work import Alone, Communicator, RankResult, Work
from iomt_ids.models.network import TrainingParams

_ROOT = Path(__file__).resolve().parents[1]
_EPOCHS, _BATCH, _HELD_OUT = 6, 1024, 20_000


def apart(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Train on all rows as if there were no other rank, while the others do the same."""
    ranks.sum(np.zeros(1))
    return train_rank(job, Alone())


def pieces(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Seconds of what a training does besides computing: rows read and gathered, gradients reduced."""
    import tensorflow as tf

    start = time.perf_counter()
    rows = read_rows(job, "train", ranks.rank, ranks.size)
    plan = ShardPlan(count_rows(job["train"], job["copies"]), ranks.size, _BATCH)
    for epoch in range(1, _EPOCHS + 1):
        for numbers in plan.batches(ranks.rank, job["seed"], epoch):
            of = rows.shard[numbers]
            tf.constant(rows.features[of])
    data = time.perf_counter() - start
    reduce, flat = tf.function(ranks.mean_gradient), tf.zeros(job["weights"])
    reduce(flat)
    start = time.perf_counter()
    for _ in range(_EPOCHS * plan.steps):
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


def _speed(results: list[RankResult], epochs_of_rows: int) -> float:
    return epochs_of_rows / max(r.facts["train_seconds"] for r in results)


def _network(kind: str) -> dict[str, Any]:
    # A network's own parameters are its shape; the others are its training's.
    params = asdict(import_module(f"iomt_ids.models.{kind}").Params())
    trained = set(asdict(TrainingParams())) - {"dropout"}
    return {"kind": kind, **{name: value for name, value in params.items() if name not in trained}}


def _measured(launcher: HorovodLauncher, job: dict[str, Any], rows: int, pairs: int) -> dict[str, Any]:
    train = Work("iomt_ids.distributed.train:train_rank", job)
    launcher.run(train, 2)
    seen, found, ceilings = _EPOCHS * rows, [], []
    for _ in range(pairs):
        one, two = launcher.run(train, 1), launcher.run(train, 2)
        both = launcher.run(Work("ranks:apart", job), 2)
        found.append((_speed(one, seen), _speed(two, seen)))
        ceilings.append(_speed(both, 2 * seen) / found[-1][0])
    told = {"weights": two[0].facts["parameters"], **job}
    parts = launcher.run(Work("ranks:pieces", told), 2)[0].facts
    ratios, seconds = [two / one for one, two in found], statistics.median(seen / two for _, two in found)
    f1 = {f"f1_macro_{n}": round(r[0].facts["curves"][-1]["validation_f1_macro"], 4) for n, r in (("one", one), ("two", two))}
    return {
        "pairs": pairs, "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "ceiling": round(statistics.median(ceilings), 2), "rows_per_s": round(statistics.median(two for _, two in found)),
        "one_rows_per_s": round(statistics.median(one for one, _ in found)), **f1,
        "data_s": round(parts["data_s"], 2), "reduce_s": round(parts["reduce_s"], 2),
        "compute_s": round(seconds - parts["data_s"] - parts["reduce_s"], 2),
    }


def main(rows: int, pairs: int, kinds: list[str]) -> int:
    """Measure and print the JSON lines."""
    with tempfile.TemporaryDirectory(prefix="bench-ranks-") as held:
        source, job = written(held, rows, _HELD_OUT)
        job["params"] |= {"batch_rows": _BATCH, "steps": 0, "epochs_at_least": _EPOCHS, "epochs_at_most": _EPOCHS}
        with own_cluster(Path(held) / "cluster") as (properties, (_, *workers)):
            one_core_each(workers)
            launcher = HorovodLauncher(_session(properties))
            for kind in kinds:
                measured = _measured(launcher, {**job, "network": _network(kind)}, rows, pairs)
                sys.stdout.write(json.dumps({
                    "bench": "ranks", "peer": "one rank", "network": kind, "data": source, "rows": rows, "batch": _BATCH,
                    "epochs": _EPOCHS, **measured,
                }) + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    rows, pairs, *kinds = [*sys.argv[1:], *("200000", "5")[len(sys.argv) - 1:]]
    sys.exit(main(int(rows), int(pairs), kinds or ["dense_net", "conv_net"]))
