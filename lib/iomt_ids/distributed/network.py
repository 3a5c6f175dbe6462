"""A network's weights as bytes, and its answers as probabilities."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np


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
