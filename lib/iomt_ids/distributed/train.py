"""What every rank does to train the dense net.

Lines that exist only because there is more than one rank start with ``# Horovod:``; without them this is
ordinary training on one machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.network import build_network, hash_weights, weights_to_bytes
from iomt_ids.distributed.shards import ShardPlan, count_rows, read_shard, scale
from iomt_ids.distributed.work import Communicator

_EVALUATION_ROWS = 8192


@dataclass(frozen=True)
class Rows:
    """Rows of one split on one rank.

    Attributes
    ----------
    features : ndarray of float32, shape (rows, features)
    classes : ndarray of int64, shape (rows,)
        Position in the job's labels.
    """

    features: np.ndarray
    classes: np.ndarray


def train_rank(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Train on this rank's share.

    Parameters
    ----------
    job : dict
        ``train``, ``validation`` (files), ``features``, ``label`` (columns), ``labels``, ``scaling``, ``seed``
        and ``params`` (of `models.dense_net.Params`).
    ranks : Communicator
        The other ranks.

    Returns
    -------
    facts : dict
        ``weights_sha256``, ``curves``, ``best_epoch``, ``epochs``, ``steps``, ``rows``, ``train_seconds``.
    payload : bytes
        Weights of the best epoch as ``.npz``; empty except on rank 0, since all ranks hold the same.
    """
    plan = ShardPlan(count_rows(job["train"]), ranks.size, job["params"]["batch_rows"])
    plan.require_rows()
    train, validation = _read(job, "train", ranks), _read(job, "validation", ranks)
    started = time.monotonic()
    training = Training(job, plan, train, ranks)
    curves, best_epoch, weights = _follow_epochs(training, validation, job["params"], plan)
    facts = {
        "weights_sha256": hash_weights(weights), "curves": curves, "best_epoch": best_epoch, "epochs": len(curves),
        "steps": len(curves) * plan.steps, "rows": len(train.classes),
        "train_seconds": round(time.monotonic() - started, 3),
    }
    # Horovod: one rank saves.
    return facts, weights_to_bytes(weights) if ranks.rank == 0 else b""


class Training:
    """A net, its optimizer and one rank's rows.

    Parameters
    ----------
    job : dict
        See `train_rank`.
    plan : ShardPlan
        Of the train split.
    train : Rows
        This rank's.
    ranks : Communicator
        The other ranks.
    """

    def __init__(self, job: dict[str, Any], plan: ShardPlan, train: Rows, ranks: Communicator) -> None:
        import tensorflow as tf

        params = job["params"]
        self.ranks, self.plan, self.train = ranks, plan, train
        self.n_classes = len(job["labels"])
        self.seed = int(job["seed"])
        # Horovod: another seed on each rank, or all would leave out the same units; weights are made equal below.
        own_seed = self.seed + 1000 * ranks.rank
        self.net = build_network(len(job["features"]), self.n_classes, params["layers"], params["dropout"], own_seed)
        self.optimizer = _optimizer(params, ranks.size, epochs_of(params, plan.steps) * plan.steps)
        self.optimizer.build(self.net.trainable_variables)
        # Horovod: all ranks start from the weights of rank 0.
        ranks.broadcast(self.net.weights)
        self._class_weights = tf.constant(self._temper(params["class_weight_power"]), tf.float32)
        self._step = tf.function(self._take_step, reduce_retracing=True)
        self.logits = tf.function(lambda x: self.net(x, training=False), reduce_retracing=True)

    def run_epoch(self, epoch: int) -> float:
        """Learn from every row once; the mean loss over ranks."""
        import tensorflow as tf

        order = np.random.default_rng([self.seed, epoch, self.ranks.rank]).permutation(len(self.train.classes))
        losses = [
            self._step(tf.constant(self.train.features[rows]), tf.constant(self.train.classes[rows]))
            for rows in self.plan.batches(self.ranks.rank, order)
        ]
        # Horovod: a metric is averaged before anybody reads it.
        return float(self.ranks.sum([float(tf.reduce_mean(tf.stack(losses)))])[0] / self.ranks.size)

    def judge(self, rows: Rows) -> dict[str, float]:
        """Loss, accuracy and macro-F1 over the rows of all ranks; empty if there are none."""
        import tensorflow as tf

        counts = np.zeros((self.n_classes, self.n_classes))
        loss = 0.0
        for start in range(0, len(rows.classes), _EVALUATION_ROWS):
            logits = self.logits(tf.constant(rows.features[start:start + _EVALUATION_ROWS]))
            truth = rows.classes[start:start + _EVALUATION_ROWS]
            loss += float(tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)))
            np.add.at(counts, (truth, logits.numpy().argmax(axis=1)), 1)
        # Horovod: counts and sums are added up, never means, so that uneven shards weigh what they hold.
        total = self.ranks.sum(np.append(counts.reshape(-1), loss))
        counts, loss = total[:-1].reshape(counts.shape), float(total[-1])
        if counts.sum() == 0:
            return {}
        return {
            "validation_loss": loss / counts.sum(), "validation_accuracy": float(np.trace(counts) / counts.sum()),
            "validation_f1_macro": _macro_f1(counts),
        }

    def _take_step(self, features: Any, classes: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, self.net(features, training=True))
            loss = tf.reduce_mean(losses * tf.gather(self._class_weights, classes))
        variables = self.net.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        # Horovod: one message a step, so that the sum is formed in one order whatever arrives first.
        flat = self.ranks.mean_gradient(tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0))
        pieces = tf.split(flat, [int(np.prod(v.shape)) for v in variables])
        self.optimizer.apply_gradients(
            [(tf.reshape(piece, v.shape), v) for piece, v in zip(pieces, variables, strict=True)]
        )
        return loss

    def _temper(self, power: float) -> np.ndarray:
        # Horovod: frequencies of the whole train split; a shard may lack a rare class.
        counts = np.maximum(self.ranks.sum(np.bincount(self.train.classes, minlength=self.n_classes)), 1.0)
        weights = counts ** -power
        return weights * counts.sum() / (weights * counts).sum()


def epochs_of(params: dict[str, Any], steps: int) -> int:
    """Epochs for about ``params["steps"]`` steps, within ``epochs_at_least`` and ``epochs_at_most``.

    Examples
    --------
    >>> limits = {"steps": 3000, "epochs_at_least": 2, "epochs_at_most": 40}
    >>> [epochs_of(limits, steps) for steps in (10, 150, 20000)]
    [40, 20, 2]
    """
    return int(min(max(-(-params["steps"] // steps), params["epochs_at_least"]), params["epochs_at_most"]))


def _follow_epochs(
    training: Training, validation: Rows, params: dict[str, Any], plan: ShardPlan
) -> tuple[list[dict[str, Any]], int, list[np.ndarray]]:
    """Train to the end, or until validation has not improved for a while; keep the best epoch's weights."""
    curves: list[dict[str, Any]] = []
    best, best_epoch, weights = -1.0, 0, training.net.get_weights()
    for epoch in range(1, epochs_of(params, plan.steps) + 1):
        loss = training.run_epoch(epoch)
        judged = training.judge(validation)
        curves.append({"epoch": epoch, "train_loss": loss, **judged})
        if not np.isfinite(loss):
            raise ContractError(f"the loss is {loss} in epoch {epoch}; lower models.dense_net.learning_rate")
        # Without validation rows the last epoch is the best known. Every rank sees the same numbers and decides alike.
        if judged.get("validation_f1_macro", best) >= best:
            best, best_epoch, weights = judged.get("validation_f1_macro", best), epoch, training.net.get_weights()
        elif epoch - best_epoch >= params["patience"]:
            break
    return curves, best_epoch, weights


def _read(job: dict[str, Any], split: str, ranks: Communicator) -> Rows:
    table = read_shard(job[split], [job["label"], *job["features"]], ranks.rank, ranks.size)
    labels = np.asarray(job["labels"])
    found = table[:, 0].astype(np.int64)
    known = np.isin(found, labels)
    if split == "train" and not known.all():
        strangers = sorted(set(found[~known].tolist()))
        raise ContractError(f"train rows have labels {strangers} that the problem does not name")
    features = scale(table[known, 1:], job["scaling"])
    return Rows(features, np.searchsorted(labels, found[known]).astype(np.int64))


def _optimizer(params: dict[str, Any], size: int, steps: int) -> Any:
    import keras

    # Horovod: the batch is `size` times as large, and so is the step; it is approached slowly (Goyal et al. 2017,
    # https://arxiv.org/abs/1706.02677).
    peak = params["learning_rate"] * size
    warm_up = max(1, int(steps * params["warm_up"]))
    schedule = keras.optimizers.schedules.CosineDecay(
        peak / size / 10, max(1, steps - warm_up), warmup_target=peak, warmup_steps=warm_up
    )
    return keras.optimizers.AdamW(schedule, weight_decay=params["weight_decay"])


def _macro_f1(counts: np.ndarray) -> float:
    """Mean F1 over the classes that occur."""
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    return float(f1[true > 0].mean())
