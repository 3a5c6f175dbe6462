"""What our training costs on one rank, against plain Keras on the same network, rows, batches and optimizer.

    PYTHONPATH=lib:. python benchmarks/single.py [ROWS] [PAIRS]

Prints one JSON line. `ratio` is the time of an epoch of `keras.Model.fit` over that of ours, the median of interleaved pairs
after one warm-up (above 1: ours is faster); `low` and `high` are the extremes of the pairs. Times are wall clock of one
process on one core; ours is the code that every rank runs, with nobody to reduce gradients with. `f1_macro` is of the train
rows after all epochs, ours and the peer's. Rows are those of `benchmarks/loader.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from forest import measured, timed
from loader import written
from sklearn.metrics import f1_score

from iomt_ids.distributed.architectures import build_network
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import Rows, read_rows
from iomt_ids.distributed.tensors import load_tensorflow
from iomt_ids.distributed.train import Training
from iomt_ids.distributed.work import Alone
from iomt_ids.models.dense_net import Params


def _plain(job: dict[str, Any], rows: Rows) -> tuple[Any, Callable[[], Any]]:
    import keras

    params = job["params"]
    net = build_network(job["network"], rows.features.shape[1], len(job["labels"]), job["seed"])
    net.compile(
        keras.optimizers.AdamW(params["learning_rate"], weight_decay=params["weight_decay"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return net, lambda: net.fit(rows.features, rows.labels, batch_size=params["batch_rows"], verbose=0)


def _ours(job: dict[str, Any], rows: Rows) -> tuple[Any, Callable[[], Any]]:
    plan = ShardPlan(len(rows.labels), 1, job["params"]["batch_rows"])
    training = Training(job, plan, rows, Alone())
    epochs = iter(range(1, 1000))
    return training.net, lambda: training.run_steps(next(epochs), 0, plan.steps)


def main(rows: int, pairs: int) -> int:
    """Measure and print the JSON line."""
    load_tensorflow(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        source, job = written(folder, rows)
        held = read_rows(job, "train", 0, 1)
    job["params"]["class_weight_power"] = 0.0
    net, ours = _ours(job, held)
    peer, theirs = _plain(job, held)
    ours()
    theirs()
    both = [(timed(ours), timed(theirs)) for _ in range(pairs)]
    answers = [model.predict(held.features, batch_size=8192, verbose=0).argmax(axis=1) for model in (net, peer)]
    marks = [round(f1_score(held.labels, said, average="macro"), 3) for said in answers]
    sys.stdout.write(json.dumps({
        "bench": "single", "peer": "plain Keras", "data": source, "rows": rows, "batch": Params().batch_rows, "pairs": pairs,
        **measured(both), "f1_macro": marks[0], "peer_f1_macro": marks[1],
    }) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000, int(sys.argv[2]) if len(sys.argv) > 2 else 5))
