"""What can be said of networks without training one."""

from __future__ import annotations

import numpy as np
import pytest

from iomt_ids.distributed.architectures import ARCHITECTURES, build_network
from iomt_ids.distributed.objective import Reconstruction, row_losses
from iomt_ids.distributed.scoring import alarm

_SHAPES = {
    "dense_net": {"layers": [6, 5]}, "conv_net": {"filters": [3, 4], "width": 3, "units": 6},
    "attention_net": {"units": 8, "heads": 2, "blocks": 2}, "sequence_net": {"units": 6, "windows": 4},
    "autoencoder": {"layers": [6], "code": 2},
}
_INPUTS = 12


def _net(kind: str, seed: int, dropout: float = 0.1):
    return build_network({"kind": kind, "dropout": dropout, **_SHAPES[kind]}, _INPUTS, 3, seed)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_seed_decides_all_first_weights_and_no_two_are_alike(kind: str) -> None:
    first, again, other = (_net(kind, seed).get_weights() for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    drawn = [i for i, weights in enumerate(first) if np.std(weights) > 0]
    assert drawn
    for i in drawn:
        assert not np.array_equal(first[i], other[i])
        assert not any(np.array_equal(first[i], first[j]) for j in drawn if j != i)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_number_of_a_row_has_a_say(kind: str) -> None:
    net, row = _net(kind, 1), np.random.default_rng(1).normal(size=(1, _INPUTS)).astype(np.float32)
    moved = np.repeat(row, _INPUTS, axis=0) + 0.5 * np.eye(_INPUTS, dtype=np.float32)
    told = net(np.concatenate([row, moved]), training=False).numpy()
    assert told.shape == (_INPUTS + 1, _INPUTS if kind == "autoencoder" else 3)
    assert (np.abs(told[1:] - told[0]).max(axis=1) > 1e-6).all()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_network_is_its_weights_and_nothing_that_only_its_seed_knows(kind: str) -> None:
    net, other = _net(kind, 1), _net(kind, 2)
    other.set_weights(net.get_weights())
    rows = np.random.default_rng(3).normal(size=(9, _INPUTS)).astype(np.float32)
    np.testing.assert_array_equal(net(rows, training=False), other(rows, training=False))


@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.1, 0.0), (0.0, 2.0), (0.2, 1.5)])
def test_losses_are_what_keras_says(smoothing: float, gamma: float) -> None:
    import keras
    import tensorflow as tf

    dice = np.random.default_rng(2)
    logits, classes = dice.normal(0, 3, (50, 4)).astype(np.float32), dice.integers(0, 4, 50)
    theirs = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=gamma, from_logits=True, label_smoothing=smoothing, reduction=None
    )(tf.one_hot(classes, 4), tf.constant(logits))
    np.testing.assert_allclose(row_losses(logits, classes, 4, smoothing, gamma), theirs, rtol=1e-4, atol=1e-5)


def test_rows_weigh_in_a_reconstruction_as_often_as_they_stand_for() -> None:
    import tensorflow as tf

    shown = tf.constant([[1.0, 1.0], [3.0, 1.0]])
    tally = Reconstruction().tally(lambda rows: rows * 0, shown, np.zeros(2, int), np.array([3, 1]))
    assert tally.tolist() == [4, 3 * 1 + 5]
    assert Reconstruction().judge(tally) == ({"validation_loss": 2.0}, -2.0)


def test_an_alarm_score_is_a_half_at_the_threshold_and_rises_with_the_error() -> None:
    told = alarm(np.zeros((3, 2)), np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]], np.float32), threshold=2.0)
    assert told[:, 1].tolist() == pytest.approx([0, 0.5, 81 / 83])
    assert told.sum(axis=1).tolist() == [1, 1, 1]
