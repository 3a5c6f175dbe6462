"""What every rank does to train a network.

Lines that exist only because there is more than one rank start with ``# Horovod:``; without them this is
ordinary training on one machine.
"""

from __future__ import annotations

import time
from itertools import islice, pairwise
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.architectures import build_network
from iomt_ids.distributed.checkpoint import Checkpoint, Progress
from iomt_ids.distributed.network import hash_weights, weights_to_bytes
from iomt_ids.distributed.objective import Classification, Objective, Reconstruction
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import Rows, count_rows, read_rows
from iomt_ids.distributed.work import Communicator

_EVALUATION_ROWS = 8192
# Steps whose rows are gathered at once: handing rows over costs as much for many as for few.
_TOGETHER = 8


def train_rank(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Train on this rank's share.

    Parameters
    ----------
    job : dict
        What `shards.read_rows` asks for; ``network`` (see `architectures.build_network`), ``labels``, ``seed`` and
        ``params`` (of `models.network.TrainingParams`); ``checkpoint`` if it is to go on where an earlier one ended
        (see `checkpoint.Checkpoint`). A network of kind ``autoencoder`` learns to give rows back.
    ranks : Communicator
        The other ranks.

    Returns
    -------
    facts : dict
        ``weights_sha256``, ``curves``, ``best_epoch``, ``epochs``, ``steps``, ``rows``, ``parameters``, ``train_seconds``,
        ``epoch_seconds`` of the epochs that this process has finished.
    payload : bytes
        Weights of the best epoch as ``.npz``; empty except on rank 0, since all ranks hold the same.
    """
    plan = ShardPlan(count_rows(job["train"], job.get("copies")), ranks.size, job["params"]["batch_rows"])
    plan.require_rows()
    train, validation = (read_rows(job, split, ranks.rank, ranks.size) for split in ("train", "validation"))
    started = time.monotonic()
    training = Training(job, plan, train, ranks)
    progress, seconds = _follow_epochs(training, validation, job["params"], Checkpoint(job.get("checkpoint"), training))
    facts = {
        "weights_sha256": hash_weights(progress.weights), "curves": progress.curves, "best_epoch": progress.best_epoch,
        "epochs": len(progress.curves), "steps": len(progress.curves) * plan.steps, "rows": len(train.shard),
        "parameters": training.net.count_params(),
        "train_seconds": round(time.monotonic() - started, 3), "epoch_seconds": seconds,
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
        self.labels = np.asarray(job["labels"])
        self.kind = job["network"]["kind"]
        self.seed = int(job["seed"])
        # Horovod: another seed on each rank, or all would leave out the same units; weights are made equal below.
        own_seed = self.seed + 1000 * ranks.rank
        self.net = build_network(
            job["network"], train.features.shape[1], len(self.labels), own_seed, params["precision"]
        )
        self.classes = self._known_classes(train)
        self.optimizer = _optimizer(params, ranks.size, epochs_of(params, plan.steps) * plan.steps)
        self.optimizer.build(self.net.trainable_variables)
        # What dropout has thrown so far; Keras does not count these among the weights.
        kept = {id(v) for v in self.net.weights}
        self.dice = [v for v in self.net.variables if id(v) not in kept]
        # Horovod: all ranks start from the weights of rank 0.
        ranks.broadcast(self.net.weights)
        self._clip_norm = float(params["clip_norm"])
        self._parts = min(int(params["accumulate"]), plan.batch_rows)
        self.objective = self._objective(params)
        self._places = [tf.constant(place) for place in range(_TOGETHER)]
        self._step = tf.function(self._take_step, reduce_retracing=True, autograph=False)
        self._answers = tf.function(
            lambda x: tf.cast(self.net(x, training=False), tf.float32), reduce_retracing=True, autograph=False
        )

    def run_steps(self, epoch: int, first: int, last: int) -> float:
        """Take the steps ``first`` to ``last - 1`` of an epoch; the sum of their losses, averaged over ranks."""
        import tensorflow as tf

        losses = []
        steps = islice(self.plan.batches(self.ranks.rank, self.seed, epoch), first, last)
        while some := list(islice(steps, _TOGETHER)):
            # Fewer steps than that are filled up: of another shape all would be compiled again.
            rows = self.train.shard[np.concatenate([*some, *some[:1] * (_TOGETHER - len(some))])]
            features, classes = tf.constant(np.take(self.train.features, rows, axis=0)), tf.constant(self.classes[rows])
            losses += [self._step(features, classes, place) for place in self._places[: len(some)]]
        # Horovod: a metric is averaged before anybody reads it.
        return float(self.ranks.sum([float(tf.reduce_sum(tf.stack(losses)))])[0] / self.ranks.size)

    def judge(self, rows: Rows) -> tuple[dict[str, float], float]:
        """What the rows of all ranks say of the net, see `Objective.judge`; empty and nan if there are none."""
        import tensorflow as tf

        # Rows of a class that was not in the train split say nothing of a net that cannot name it.
        known = np.flatnonzero(np.isin(rows.labels, self.labels))
        classes, weights = np.searchsorted(self.labels, rows.labels), rows.weights
        total = np.zeros(self.objective.tallies + 1)
        for start in range(0, len(known), _EVALUATION_ROWS):
            some = known[start:start + _EVALUATION_ROWS]
            tally = self.objective.tally(self._answers, tf.constant(rows.features[some]), classes[some], weights[some])
            total += np.append(tally, weights[some].sum())
        # Horovod: counts and sums are added up, never means, so that uneven shards weigh what they hold.
        total = np.asarray(self.ranks.sum(total))
        return self.objective.judge(total[:-1]) if total[-1] else ({}, float("nan"))

    def _take_step(self, features: Any, classes: Any, place: Any) -> Any:
        """Learn from the rows of one step among those of several."""
        import tensorflow as tf

        variables, rows = self.net.trainable_variables, self.plan.batch_rows
        own = [tf.ensure_shape(a[place * rows : (place + 1) * rows], (rows, *a.shape[1:])) for a in (features, classes)]
        loss, flat = self._accumulate(*own)
        # Horovod: one message a step, so that the sum is formed in one order whatever arrives first.
        flat = self.ranks.mean_gradient(flat)
        if self._clip_norm:
            # After the mean, so that it does not depend on how rows are dealt (Pascanu et al. 2013, arXiv:1211.5063).
            flat = tf.clip_by_norm(flat, self._clip_norm)
        pieces = tf.split(flat, [int(np.prod(v.shape)) for v in variables])
        self.optimizer.apply_gradients(
            [(tf.reshape(piece, v.shape), v) for piece, v in zip(pieces, variables, strict=True)]
        )
        return loss

    def _accumulate(self, features: Any, classes: Any) -> tuple[Any, Any]:
        """Loss and flat gradient of a step's rows, gathered over parts of it if they would not fit at once."""
        import tensorflow as tf

        rows = self.plan.batch_rows
        bounds = [rows * part // self._parts for part in range(self._parts + 1)]
        loss, flat = tf.constant(0.0), tf.constant(0.0)
        for first, last in pairwise(bounds):
            with tf.GradientTape() as tape:
                own = self.objective.losses(self.net, features[first:last], classes[first:last], training=True)
                part = tf.reduce_sum(own) / rows
            gradients = tape.gradient(part, [v.value for v in self.net.trainable_variables])
            loss, flat = loss + part, flat + tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)
        return loss, flat

    def _known_classes(self, train: Rows) -> np.ndarray:
        strangers = sorted(set(train.labels.tolist()) - set(self.labels.tolist()))
        if strangers:
            raise ContractError(f"train rows have labels {strangers} that the problem does not name")
        return np.searchsorted(self.labels, train.labels)

    def _objective(self, params: dict[str, Any]) -> Objective:
        if self.kind == "autoencoder":
            return Reconstruction()
        weights = self._temper(params["class_weight_power"])
        return Classification(weights, params["label_smoothing"], params["focal_gamma"])

    def _temper(self, power: float) -> np.ndarray:
        # Horovod: frequencies of the whole train split; a shard may lack a rare class.
        own = np.bincount(self.classes[self.train.shard], minlength=len(self.labels))
        counts = np.maximum(self.ranks.sum(own), 1.0)
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
    training: Training, validation: Rows, params: dict[str, Any], checkpoint: Checkpoint
) -> tuple[Progress, list[float]]:
    """Train to the end, or until validation has not improved for a while; keep the best epoch's weights. Seconds an epoch, too."""
    progress, seconds = checkpoint.load() or Progress(training.net.get_weights()), list[float]()
    while not progress.done:
        started = time.monotonic()
        _finish_epoch(training, progress, checkpoint)
        loss, (judged, worth) = progress.loss / training.plan.steps, training.judge(validation)
        progress.curves.append({"epoch": progress.epoch, "train_loss": loss, **judged})
        if not np.isfinite(loss):
            raise ContractError(f"the loss is {loss} in epoch {progress.epoch}; lower models.{training.kind}.learning_rate")
        # Without validation rows the last epoch is the best known. Every rank sees the same numbers and decides alike.
        worth = progress.best if np.isnan(worth) else worth
        if worth >= progress.best:
            progress.best, progress.best_epoch, progress.weights = worth, progress.epoch, training.net.get_weights()
        elif progress.epoch - progress.best_epoch >= params["patience"]:
            progress.done = True
        progress.done |= progress.epoch >= epochs_of(params, training.plan.steps)
        progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
        checkpoint.save(progress)
        seconds.append(round(time.monotonic() - started, 4))
    return progress, seconds


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


def _optimizer(params: dict[str, Any], size: int, steps: int) -> Any:
    import keras

    # Horovod: the batch is `size` times as large, and so is the step; it is approached slowly, from a tenth, or from the
    # rate of one rank if that is less (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
    peak = params["learning_rate"] * size
    warm_up = max(1, int(steps * params["warm_up"]))
    schedule = keras.optimizers.schedules.CosineDecay(
        peak / max(size, 10), max(1, steps - warm_up), warmup_target=peak, warmup_steps=warm_up
    )
    return keras.optimizers.AdamW(schedule, weight_decay=params["weight_decay"])
