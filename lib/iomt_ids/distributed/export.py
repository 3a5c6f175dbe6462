"""A network with its scaling inside as TensorFlow's SavedModel: scored without Spark and without this package.

    import tensorflow as tf
    score = tf.saved_model.load(OUT).signatures["serving_default"]
    score(flows=tf.constant(rows))["probability"]

``rows`` are doubles as the tables hold them, of shape (rows, features). A network over windows wants (rows, windows,
features), oldest first, the row itself last, and nan in windows that its capture did not have yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.contract.attacks import class_names
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.architectures import build_network
from iomt_ids.distributed.network import weights_from_bytes
from iomt_ids.distributed.scoring import inputs_of
from iomt_ids.distributed.tensors import load_tensorflow

_SIGNATURE = "signature.json"


def write_saved_model(problem: Problem, network: dict[str, Any], weights: bytes, folder: Path) -> None:
    """Write the net, and beside it, as JSON, what its input and output mean.

    Parameters
    ----------
    folder : Path
        Written to; files of a model that is already there are replaced.
    """
    tf = load_tensorflow(threads=1)
    net = build_network(network, inputs_of(problem), len(problem.labels), seed=0)
    net.set_weights(weights_from_bytes(weights))
    shape = [None, problem.past_windows + 1, len(problem.features)] if problem.is_sequence else [None, len(problem.features)]
    module = tf.Module()
    module.net = net
    module.score = tf.function(
        _scorer(tf, problem, network, net), input_signature=[tf.TensorSpec(shape, tf.float64, name="flows")]
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.score})
    told = {
        "input": {"flows": {"type": "float64", "shape": shape, "features": list(problem.features)}},
        "output": {"probability": {"type": "float64", "classes": list(class_names(problem.task))}},
        "windows": problem.past_windows + 1, "task": problem.task, "network": network,
    }
    (folder / _SIGNATURE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _scorer(tf: Any, problem: Problem, network: dict[str, Any], net: Any) -> Any:
    centers = np.array([s.center for s in problem.scaling])
    scales = np.array([s.scale for s in problem.scaling])
    # Places of the problem's labels among all classes; the others get 0.
    spread = np.zeros((len(problem.labels), problem.n_classes))
    spread[np.arange(len(problem.labels)), list(problem.labels)] = 1.0

    def score(flows: Any) -> dict[str, Any]:
        shown = tf.cast((tf.sign(flows) * tf.math.log1p(tf.abs(flows)) - centers) / scales, tf.float32)
        if problem.is_sequence:
            is_there = tf.math.is_finite(shown[:, :, :1])
            shown = tf.concat([tf.where(is_there, shown, 0.0), tf.cast(is_there, tf.float32)], axis=2)
            shown = tf.reshape(shown, [-1, inputs_of(problem)])
        told = net(shown, training=False)
        if "threshold" in network:
            error = tf.reduce_mean(tf.square(tf.cast(told, tf.float64) - tf.cast(shown, tf.float64)), axis=1)
            alarm = error / (error + network["threshold"])
            return {"probability": tf.stack([1 - alarm, alarm], axis=1)}
        return {"probability": tf.matmul(tf.nn.softmax(tf.cast(told, tf.float64)), tf.constant(spread))}

    return score
