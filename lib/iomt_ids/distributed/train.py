"""What every rank does to train the dense net.

Lines that exist only because there is more than one rank start with ``# Horovod:``; without them this is
ordinary training on one machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.checkpoint import Checkpoint, Progress
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
        and ``params`` (of `models.dense_net.Params`); ``checkpoint`` if it is to go on where an earlier one ended
        (see `checkpoint.Checkpoint`).
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
    progress = _follow_epochs(training, validation, job["params"], Checkpoint(job.get("checkpoint"), training))
    facts = {
        "weights_sha256": hash_weights(progress.weights), "curves": progress.curves, "best_epoch": progress.best_epoch,
        "epochs": len(progress.curves), "steps": len(progress.curves) * plan.steps, "rows": len(train.classes),
        "train_seconds": round(time.monotonic() - started, 3),
    }
    # Horovod: one rank saves.
    return facts, weights_to_bytes(progress.weights) if ranks.rank == 0 else b""


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
        # What dropout has thrown so far; Keras does not count these among the weights.
        kept = {id(v) for v in self.net.weights}
        self.dice = [v for v in self.net.variables if id(v) not in kept]
        # Horovod: all ranks start from the weights of rank 0.
        ranks.broadcast(self.net.weights)
        self._class_weights = tf.constant(self._temper(params["class_weight_power"]), tf.float32)
        self._step = tf.function(self._take_step, reduce_retracing=True)
        self.logits = tf.function(lambda x: self.net(x, training=False), reduce_retracing=True)

    def run_steps(self, epoch: int, first: int, last: int) -> float:
        """Take the steps ``first`` to ``last - 1`` of an epoch; the sum of their losses, averaged over ranks."""
        import tensorflow as tf

        order = np.random.default_rng([self.seed, epoch, self.ranks.rank]).permutation(len(self.train.classes))
        losses = [
            self._step(tf.constant(self.train.features[rows]), tf.constant(self.train.classes[rows]))
            for rows in islice(self.plan.batches(self.ranks.rank, order), first, last)
        ]
        # Horovod: a metric is averaged before anybody reads it.
        return float(self.ranks.sum([float(tf.reduce_sum(tf.stack(losses)))])[0] / self.ranks.size)

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


def _follow_epochs(training: Training, validation: Rows, params: dict[str, Any], checkpoint: Checkpoint) -> Progress:
    """Train to the end, or until validation has not improved for a while; keep the best epoch's weights."""
    progress = checkpoint.load() or Progress(training.net.get_weights())
    while not progress.done:
        _finish_epoch(training, progress, checkpoint)
        loss, judged = progress.loss / training.plan.steps, training.judge(validation)
        progress.curves.append({"epoch": progress.epoch, "train_loss": loss, **judged})
        if not np.isfinite(loss):
            raise ContractError(f"the loss is {loss} in epoch {progress.epoch}; lower models.dense_net.learning_rate")
        # Without validation rows the last epoch is the best known. Every rank sees the same numbers and decides alike.
        worth = judged.get("validation_f1_macro", progress.best)
        if worth >= progress.best:
            progress.best, progress.best_epoch, progress.weights = worth, progress.epoch, training.net.get_weights()
        elif progress.epoch - progress.best_epoch >= params["patience"]:
            progress.done = True
        progress.done |= progress.epoch >= epochs_of(params, training.plan.steps)
        progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
        checkpoint.save(progress)
    return progress


def _finish_epoch(training: Training, progress: Progress, checkpoint: Checkpoint) -> None:
    """Take the steps that are left, in pieces that end at the same steps whether or not anybody was interrupted."""
    steps = training.plan.steps
    piece = checkpoint.every_steps or steps
    while progress.step < steps:
        last = min(steps, (progress.step // piece + 1) * piece)
        progress.loss += training.run_steps(progress.epoch, progress.step, last)
        progress.step = last
        if last < steps:
            checkpoint.save(progress)


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
