"""TensorFlow, imported once a process, quietly and with a known number of threads."""

from __future__ import annotations

import os
from typing import Any


def load_tensorflow(threads: int, gpu: str = "") -> Any:
    """Import TensorFlow.

    Parameters
    ----------
    threads : int
        Of one operation. Without a limit each rank takes every core and ranks slow each other down.
    gpu : str
        The one GPU that is used, by its number; none if it is empty.

    Returns
    -------
    module
        ``tensorflow``.
    """
    # TensorFlow's native part reads these when it is loaded.
    os.putenv("TF_CPP_MIN_LOG_LEVEL", "3")
    os.putenv("CUDA_VISIBLE_DEVICES", gpu or "-1")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # it has run in this process before, with the threads it had then
    tf.get_logger().setLevel("ERROR")
    return tf
