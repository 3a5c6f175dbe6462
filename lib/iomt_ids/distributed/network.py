"""The dense net: its shape, its weights as bytes, its answers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np


def build_network(features: int, classes: int, layers: Sequence[int], dropout: float, seed: int) -> Any:
    """A dense net that answers with one logit a class.

    Each hidden layer is normalised over its units (Ba et al. 2016), not over the batch: a batch's statistics
    would differ between ranks and would have to be reduced too.

    Parameters
    ----------
    features, classes : int
        Width of input and output.
    layers : sequence of int
        Units of each hidden layer.
    dropout : float
        Share of a hidden layer's units left out of a training step.
    seed : int
        Of initial weights and dropout.

    Returns
    -------
    keras.Model
    """
    import keras

    flow = keras.Input((features,), dtype="float32")
    hidden = flow
    for depth, units in enumerate(layers):
        start = keras.initializers.GlorotUniform(seed=seed + 2 * depth)
        hidden = keras.layers.Dense(units, kernel_initializer=start)(hidden)
        hidden = keras.layers.LayerNormalization()(hidden)
        hidden = keras.layers.Activation("gelu")(hidden)
        if dropout > 0:
            hidden = keras.layers.Dropout(dropout, seed=seed + 2 * depth + 1)(hidden)
    last = keras.initializers.GlorotUniform(seed=seed + 2 * len(layers))
    return keras.Model(flow, keras.layers.Dense(classes, kernel_initializer=last)(hidden))


def count_parameters(features: int, classes: int, layers: Sequence[int]) -> int:
    """Weights of such a net.

    Examples
    --------
    >>> count_parameters(3, 2, [4])
    34
    """
    widths = [features, *layers]
    hidden = sum(a * b + 3 * b for a, b in pairwise(widths))
    return hidden + widths[-1] * classes + classes


def weights_to_bytes(weights: Sequence[np.ndarray]) -> bytes:
    """Weights as an ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez(buffer, **{f"w{i:03d}": w for i, w in enumerate(weights)})
    return buffer.getvalue()


def weights_from_bytes(content: bytes) -> list[np.ndarray]:
    """The inverse of `weights_to_bytes`; pickled objects are refused."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return [file[name] for name in sorted(file.files)]


def hash_weights(weights: Sequence[np.ndarray]) -> str:
    """SHA-256 of the weights, bit for bit."""
    digest = hashlib.sha256()
    for array in weights:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities in double; every row sums to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
