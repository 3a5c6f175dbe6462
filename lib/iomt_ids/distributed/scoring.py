"""The dense net's answers, computed inside Spark's Python workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.network import build_network, softmax, weights_from_bytes
from iomt_ids.distributed.shards import scale
from iomt_ids.distributed.tensors import load_tensorflow

_BATCH_ROWS = 8192
_Predict = Callable[[np.ndarray], np.ndarray]


def probabilities(problem: Problem, layers: Sequence[int], weights: bytes) -> Column:
    """Array of double, one probability a class of the task; 0 for classes that were not seen in training.

    Parameters
    ----------
    problem : Problem
        What the net was trained on.
    layers : sequence of int
        Its hidden layers.
    weights : bytes
        As `network.weights_to_bytes` made them.
    """
    score = predict_batch_udf(
        _loader(problem, tuple(layers), weights), return_type=T.ArrayType(T.DoubleType()), batch_size=_BATCH_ROWS
    )
    return score(F.struct(*problem.features)) if len(problem.features) > 1 else score(F.col(problem.features[0]))


def _loader(problem: Problem, layers: tuple[int, ...], weights: bytes) -> Callable[[], _Predict]:
    """What a Python worker calls once, before its first batch."""
    pairs = [(s.center, s.scale) for s in problem.scaling]
    labels, n_classes, n_features = list(problem.labels), problem.n_classes, len(problem.features)

    def load() -> _Predict:
        # One thread: Spark already runs a worker a core.
        tf = load_tensorflow(threads=1)
        net: Any = build_network(n_features, len(labels), layers, dropout=0.0, seed=0)
        net.set_weights(weights_from_bytes(weights))
        logits = tf.function(lambda x: net(x, training=False), reduce_retracing=True)

        def predict(flows: np.ndarray) -> np.ndarray:
            scaled = scale(np.asarray(flows, dtype=np.float64).reshape(-1, n_features), pairs)
            answers = np.zeros((len(scaled), n_classes))
            answers[:, labels] = softmax(logits(tf.constant(scaled)).numpy())
            return answers

        return predict

    return load
