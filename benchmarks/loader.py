"""How fast rows reach a network: from Parquet into memory, then epoch by epoch in a new order; and how long a step waits.

    PYTHONPATH=lib:. python benchmarks/loader.py [ROWS] [PAIRS]

Prints one JSON line. Times are processor time, so that rows a second are those of one core. `read_rows_per_s` is Parquet
(snappy, row groups as Spark writes them) decoded and scaled, which happens once; `rows_per_s` is an epoch of shuffled
batches as TensorFlow's tensors. `ratio` is the time of a tf.data pipeline (tensor slices of the same arrays, a shuffle
buffer of all rows, batches, a prefetch) over ours, the median of interleaved pairs after one warm-up. `stall` is the share
of the wall clock of an epoch of the default dense net, on one core, in which a step waits for its rows. Rows are
those of `benchmarks/forest.py`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from forest import drawn_rows

from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import Rows, read_rows
from iomt_ids.distributed.tensors import load_tensorflow
from iomt_ids.distributed.train import Training
from iomt_ids.distributed.work import Alone
from iomt_ids.models.dense_net import Params

_GROUP_ROWS, _SEED = 400_000, 7


def written(folder: str, rows: int, held_out: int = 0) -> tuple[str, dict[str, Any]]:
    """Rows as a Parquet file, some more as a second one for validation, and the job of a rank that learns from them."""
    source, values, labels = drawn_rows(rows + held_out)
    names = [f"f{i}" for i in range(values.shape[1])]
    columns = {"y": labels.astype(np.int32), "c": np.ones(len(labels), np.int32), **dict(zip(names, values.T, strict=True))}
    table, files = pa.table(columns), {"train": f"{folder}/part-0.parquet", "validation": f"{folder}/part-1.parquet"}
    for path, part in zip(files.values(), (table.slice(0, rows), table.slice(rows)), strict=True):
        pq.write_table(part, path, compression="snappy", row_group_size=_GROUP_ROWS)
    logs = np.sign(values) * np.log1p(np.abs(values))
    scaling = list(zip(logs.mean(axis=0).tolist(), np.maximum(logs.std(axis=0), 1e-6).tolist(), strict=True))
    params = Params()
    return source, {
        **{split: [path] for split, path in files.items()}, "features": names, "scaling": scaling, "label": "y", "copies": "c",
        "labels": sorted(set(labels.tolist())), "seed": _SEED, "params": asdict(params),
        "network": {"kind": "dense_net", "layers": list(params.layers), "dropout": params.dropout},
    }


def _core_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def _ours(tf: Any, rows: Rows, plan: ShardPlan) -> Callable[[], int]:
    def epoch() -> int:
        seen = 0
        for numbers in plan.batches(0, _SEED, 1):
            of = rows.shard[numbers]
            features, labels = tf.constant(np.take(rows.features, of, axis=0)), tf.constant(rows.labels[of])
            seen += int(features.shape[0]) + 0 * int(labels.shape[0])
        return seen

    return epoch


def _tf_data(tf: Any, rows: Rows, batch: int) -> Callable[[], int]:
    def epoch() -> int:
        slices = tf.data.Dataset.from_tensor_slices((rows.features, rows.labels))
        flow = slices.shuffle(len(rows.labels), seed=_SEED).batch(batch).prefetch(1)
        return sum(int(features.shape[0]) for features, _ in flow)

    return epoch


def _stall(job: dict[str, Any], rows: Rows, plan: ShardPlan) -> tuple[float, float]:
    """Share of the wall clock in which steps wait, and seconds of a step."""
    training = Training(job, plan, rows, Alone())
    inner, spent = training._step, [0.0]

    def step(*asked: Any) -> Any:
        start = time.perf_counter()
        loss = inner(*asked)
        loss.numpy()
        spent[0] += time.perf_counter() - start
        return loss

    training._step = step
    training.run_steps(1, 0, 20)
    spent[0], start = 0.0, time.perf_counter()
    training.run_steps(2, 0, plan.steps)
    wall = time.perf_counter() - start
    return 1 - spent[0] / wall, wall / plan.steps


def main(rows: int, pairs: int) -> int:
    """Measure and print the JSON line."""
    tf = load_tensorflow(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        source, job = written(folder, rows)
        read_rows(job, "train", 0, 1)
        reading, held = zip(*(_core_seconds(lambda: read_rows(job, "train", 0, 1)) for _ in range(pairs)), strict=True)
    batch = Params().batch_rows
    plan = ShardPlan(rows, 1, batch)
    ours, theirs = _ours(tf, held[0], plan), _tf_data(tf, held[0], batch)
    ours()
    theirs()
    both = [(_core_seconds(ours)[0], _core_seconds(theirs)[0]) for _ in range(pairs)]
    ratios = [peer / own for own, peer in both]
    stall, step = _stall(job, held[0], plan)
    sys.stdout.write(json.dumps({
        "bench": "loader", "peer": "tf.data", "data": source, "rows": rows, "features": len(job["features"]), "batch": batch,
        "pairs": pairs, "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "rows_per_s": round(rows / statistics.median(own for own, _ in both)),
        "peer_rows_per_s": round(rows / statistics.median(peer for _, peer in both)),
        "read_rows_per_s": round(rows / statistics.median(reading)), "stall": round(stall, 4), "step_ms": round(1000 * step, 2),
    }) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 5))
