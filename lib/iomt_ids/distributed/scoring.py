"""A network's answers, computed inside Spark's Python workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.problem import HISTORY, Problem
from iomt_ids.distributed.architectures import build_network
from iomt_ids.distributed.network import softmax, weights_from_bytes
from iomt_ids.distributed.shards import scale
from iomt_ids.distributed.tensors import load_tensorflow

_BATCH_ROWS = 8192
_Predict = Callable[[np.ndarray], np.ndarray]


def probabilities(problem: Problem, network: dict[str, Any], weights: bytes) -> Column:
    """Array of double, one probability a class of the task; 0 for classes that were not seen in training.

    Parameters
    ----------
    problem : Problem
        What the net was trained on.
    network : dict
        Its shape, see `architectures.build_network`.
    weights : bytes
        As `network.weights_to_bytes` made them.
    """
    width = inputs_of(problem)
    score = predict_batch_udf(
        _loader(problem, network, weights), return_type=T.ArrayType(T.DoubleType()), batch_size=_BATCH_ROWS,
        input_tensor_shapes=[[width]] if problem.is_sequence else None,
    )
    if problem.is_sequence:
        return score(F.col(HISTORY))
    return score(F.struct(*problem.features)) if width > 1 else score(F.col(problem.features[0]))


def inputs_of(problem: Problem) -> int:
    """Numbers of a row: its features, or of each window its features and whether it was there."""
    n_features = len(problem.features)
    return (problem.past_windows + 1) * (n_features + 1) if problem.is_sequence else n_features


def _loader(problem: Problem, network: dict[str, Any], weights: bytes) -> Callable[[], _Predict]:
    """What a Python worker calls once, before its first batch."""
    pairs = [(s.center, s.scale) for s in problem.scaling]
    labels, n_classes, width = list(problem.labels), problem.n_classes, inputs_of(problem)
    is_sequence, threshold = problem.is_sequence, network.get("threshold")

    def load() -> _Predict:
        # One thread: Spark already runs a worker a core.
        tf = load_tensorflow(threads=1)
        net: Any = build_network(network, width, len(labels), seed=0)
        net.set_weights(weights_from_bytes(weights))
        answer = tf.function(lambda x: net(x, training=False), reduce_retracing=True)

        def predict(flows: np.ndarray) -> np.ndarray:
            rows = np.asarray(flows).reshape(-1, width)
            shown = rows.astype(np.float32) if is_sequence else scale(rows.astype(np.float64), pairs)
            told = answer(tf.constant(shown)).numpy()
            if threshold is not None:
                return alarm(shown, told, threshold)
            answers = np.zeros((len(shown), n_classes))
            answers[:, labels] = softmax(told)
            return answers

        return predict

    return load


def alarm(shown: np.ndarray, told: np.ndarray, threshold: float) -> np.ndarray:
    """Of rows and what an autoencoder gives back: 1 less the alarm score, and that score, ``error / (error + threshold)``."""
    error = np.square(told.astype(np.float64) - shown).mean(axis=1)
    score = error / (error + threshold)
    return np.column_stack([1 - score, score])
