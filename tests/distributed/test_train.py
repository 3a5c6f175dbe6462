"""Training itself, on one rank in this process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.architectures import build_network
from iomt_ids.distributed.checkpoint import Checkpoint
from iomt_ids.distributed.network import hash_weights, softmax, weights_from_bytes, weights_to_bytes
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import read_rows
from iomt_ids.distributed.train import Training, _follow_epochs, epochs_of, train_rank
from iomt_ids.distributed.work import Alone
from iomt_ids.models.dense_net import Params

_SHAPE = {"kind": "dense_net", "layers": [16, 8], "dropout": 0.1}
_PARAMS = Params(layers=(16, 8), ranks=1, batch_rows=64, steps=200, learning_rate=0.01)


def _write(path: Path, rows: int, seed: int) -> list[str]:
    dice = np.random.default_rng(seed)
    label = dice.choice([0, 2, 5], rows, p=[0.6, 0.3, 0.1])
    table = pa.table({"y": label.astype("int32"), "a": label + dice.normal(0, 0.2, rows), "b": dice.normal(0, 1, rows)})
    pq.write_table(table, path)
    return [str(path)]


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    return {
        "train": _write(tmp_path / "train.parquet", 700, 1), "validation": _write(tmp_path / "val.parquet", 211, 2),
        "features": ["a", "b"], "label": "y", "labels": [0, 2, 5], "scaling": [[0.7, 0.6], [0.0, 0.6]],
        "seed": 0, "network": _SHAPE, "params": asdict(_PARAMS),
    }


def test_a_separable_toy_is_learnt(job: dict[str, Any]) -> None:
    facts, payload = train_rank(job, Alone())
    best = facts["curves"][facts["best_epoch"] - 1]
    assert best["validation_accuracy"] > 0.97
    assert facts["curves"][-1]["train_loss"] < facts["curves"][0]["train_loss"] / 2
    assert hash_weights(weights_from_bytes(payload)) == facts["weights_sha256"]


def test_half_as_many_bits_learn_as_much_and_leave_whole_weights(job: dict[str, Any]) -> None:
    whole, _ = train_rank(job, Alone())
    facts, payload = train_rank({**job, "params": {**job["params"], "precision": "bfloat16"}}, Alone())
    assert facts["weights_sha256"] != whole["weights_sha256"]
    assert facts["curves"][-1]["validation_accuracy"] > 0.97
    assert {weight.dtype for weight in weights_from_bytes(payload)} == {np.dtype(np.float32)}
    # What is built next computes as it did.
    assert train_rank(job, Alone())[0]["weights_sha256"] == whole["weights_sha256"]


class _Scripted:
    """A training whose validation scores are known beforehand; its weights are the number of the epoch."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores
        self.epoch = 0
        self.net = self
        self.plan = ShardPlan(1, 1, 1)

    def run_steps(self, epoch: int, first: int, last: int) -> float:
        self.epoch = epoch
        return 1.0 / epoch

    def judge(self, rows: Any) -> tuple[dict[str, float], float]:
        return {}, self.scores[self.epoch - 1]

    def get_weights(self) -> list[np.ndarray]:
        return [np.array([self.epoch])]


@pytest.mark.parametrize(
    ("scores", "best", "epochs"),
    [([0.3, 0.9, 0.5, 0.6], 2, 4), ([0.3, 0.9, 0.5, 0.6, 0.7, 0.99], 2, 5), ([0.1, 0.2, 0.3], 3, 3)],
    ids=["neither first nor last", "stopped before a later best", "last"],
)
def test_the_weights_kept_are_those_of_the_best_epoch(scores: list[float], best: int, epochs: int) -> None:
    params = {"steps": len(scores), "epochs_at_least": 1, "epochs_at_most": 99, "patience": 3}
    training = _Scripted(scores)
    learnt, _ = _follow_epochs(training, None, params, Checkpoint(None, training))  # type: ignore[arg-type]
    assert (learnt.best_epoch, int(learnt.weights[0][0]), len(learnt.curves)) == (best, best, epochs)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(job: dict[str, Any]) -> None:
    hashes = [train_rank({**job, "seed": seed}, Alone())[0]["weights_sha256"] for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_without_validation_rows_the_last_epoch_is_kept(job: dict[str, Any], tmp_path: Path) -> None:
    facts, _ = train_rank({**job, "validation": _write(tmp_path / "none.parquet", 0, 3)}, Alone())
    assert facts["best_epoch"] == facts["epochs"]
    assert set(facts["curves"][0]) == {"epoch", "train_loss"}


def test_a_train_label_that_the_problem_does_not_name_is_refused(job: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=r"labels \[5\]"):
        train_rank({**job, "labels": [0, 2]}, Alone())


def test_weights_survive_bytes_bit_for_bit() -> None:
    weights = build_network(_SHAPE, 7, 3, 0).get_weights()
    assert hash_weights(weights_from_bytes(weights_to_bytes(weights))) == hash_weights(weights)


def test_a_single_changed_bit_changes_the_hash() -> None:
    weights = [np.zeros((2, 2), np.float32)]
    assert hash_weights(weights) != hash_weights([np.nextafter(weights[0], np.float32(1))])


def test_large_logits_do_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)), [[1, 0], [0.5, 0.5]])


def test_a_small_table_is_seen_often_and_a_large_one_at_least_twice() -> None:
    params = asdict(Params())
    assert epochs_of(params, 3) == params["epochs_at_most"]
    assert epochs_of(params, 1_000_000) == params["epochs_at_least"]


def _step(job: dict[str, Any], **params: Any) -> list[np.ndarray]:
    """The weights after one step."""
    wanted = {**job, "network": {**_SHAPE, "dropout": 0.0}, "params": {**job["params"], **params}}
    train = read_rows(wanted, "train", 0, 1)
    training = Training(wanted, ShardPlan(len(train.shard), 1, wanted["params"]["batch_rows"]), train, Alone())
    training.optimizer = keras_sgd(training)
    before = training.net.get_weights()
    training.run_steps(1, 0, 1)
    return [after - start for after, start in zip(training.net.get_weights(), before, strict=True)]


def keras_sgd(training: Training) -> Any:
    """Steps that are the gradient itself."""
    import keras

    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(training.net.trainable_variables)
    return optimizer


def test_a_step_in_parts_is_the_same_step_and_a_long_one_is_clipped(job: dict[str, Any]) -> None:
    whole = _step(job)
    for one, other in zip(_step(job, accumulate=3), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    length = float(np.sqrt(sum((w**2).sum() for w in whole)))
    clipped = _step(job, clip_norm=length / 4)
    for one, other in zip(clipped, whole, strict=True):
        np.testing.assert_allclose(one, other / 4, atol=1e-6)
    np.testing.assert_allclose(_step(job, clip_norm=length * 2)[0], whole[0], atol=1e-7)
