"""What a network is trained for: to tell classes apart, or to give back what it was shown."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Objective(Protocol):
    """A loss a row, and what the answers to a split were worth.

    Attributes
    ----------
    tallies : int
        Numbers of one tally.
    """

    tallies: int

    def losses(self, net: Any, features: Any, classes: Any, training: bool) -> Any:
        """One loss a row, a tensor of float32."""

    def tally(self, net: Any, features: Any, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Numbers that may be added up over batches and ranks; rows count by their weights."""

    def judge(self, tally: np.ndarray) -> tuple[dict[str, float], float]:
        """What the tally of a whole split says, and one number of it that is better when it is higher."""


def row_losses(logits: Any, classes: Any, n_classes: int, smoothing: float = 0.0, gamma: float = 0.0) -> Any:
    """Cross-entropy of each row, with smoothed labels [1]_ and a focus on rows that are still hard [2]_.

    Parameters
    ----------
    logits : tensor of float32, shape (rows, n_classes)
    classes : tensor of int64, shape (rows,)
    smoothing : float
        Share of a label that is spread over all classes.
    gamma : float
        A class that is given probability p weighs ``(1 - p) ** gamma`` of its part of the cross-entropy.

    References
    ----------
    .. [1] Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016. https://arxiv.org/abs/1512.00567
    .. [2] Lin et al., "Focal loss for dense object detection", 2017. https://arxiv.org/abs/1708.02002
    """
    import tensorflow as tf

    if not smoothing and not gamma:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    wanted = tf.one_hot(classes, n_classes, dtype=logits.dtype) * (1.0 - smoothing) + smoothing / n_classes
    logs = tf.nn.log_softmax(logits)
    return -tf.reduce_sum(wanted * (1.0 - tf.exp(logs)) ** gamma * logs, axis=1)


class Classification:
    """Cross-entropy between classes; judged by macro-F1.

    Parameters
    ----------
    class_weights : ndarray, shape (n_classes,)
        What the loss of a row of each class counts.
    smoothing, gamma : float
        See `row_losses`.
    """

    def __init__(self, class_weights: np.ndarray, smoothing: float, gamma: float) -> None:
        import tensorflow as tf

        self.n_classes = len(class_weights)
        self.tallies = self.n_classes**2 + 1
        self._class_weights = tf.constant(class_weights, tf.float32)
        self._smoothing, self._gamma = smoothing, gamma

    def losses(self, net: Any, features: Any, classes: Any, training: bool) -> Any:
        """Weighted by class."""
        import tensorflow as tf

        logits = tf.cast(net(features, training=training), tf.float32)
        losses = row_losses(logits, classes, self.n_classes, self._smoothing, self._gamma)
        return losses * tf.gather(self._class_weights, classes)

    def tally(self, net: Any, features: Any, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Confusion counts, then the sum of plain cross-entropies."""
        logits = net(features)
        counts = np.zeros((self.n_classes, self.n_classes))
        np.add.at(counts, (classes, logits.numpy().argmax(axis=1)), weights)
        loss = float((row_losses(logits, classes, self.n_classes).numpy().astype(np.float64) * weights).sum())
        return np.append(counts.reshape(-1), loss)

    def judge(self, tally: np.ndarray) -> tuple[dict[str, float], float]:
        """Loss, accuracy and macro-F1; the last decides."""
        counts, rows = tally[:-1].reshape(self.n_classes, -1), tally[:-1].sum()
        f1 = _macro_f1(counts)
        judged = {
            "validation_loss": float(tally[-1] / rows), "validation_accuracy": float(np.trace(counts) / rows),
            "validation_f1_macro": f1,
        }
        return judged, f1


class Reconstruction:
    """The mean square of what a net does not give back of a row; judged by its mean."""

    tallies = 2

    def losses(self, net: Any, features: Any, classes: Any, training: bool) -> Any:
        """Of each row, over its features."""
        import tensorflow as tf

        return tf.reduce_mean(tf.square(tf.cast(net(features, training=training), tf.float32) - features), axis=1)

    def tally(self, net: Any, features: Any, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Rows, and the sum of their errors."""
        errors = np.square(net(features).numpy() - features.numpy()).mean(axis=1, dtype=np.float64)
        return np.array([weights.sum(), (errors * weights).sum()])

    def judge(self, tally: np.ndarray) -> tuple[dict[str, float], float]:
        """The mean error; the smaller, the better."""
        loss = float(tally[1] / tally[0])
        return {"validation_loss": loss}, -loss


def _macro_f1(counts: np.ndarray) -> float:
    """Mean F1 over the classes that occur."""
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    return float(f1[true > 0].mean())
