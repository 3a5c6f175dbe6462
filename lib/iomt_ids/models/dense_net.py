"""A dense neural net on centred logarithms, trained by TensorFlow on several ranks through Horovod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iomt_ids.models.network import TrainingParams, network_detector


@dataclass(frozen=True)
class Params(TrainingParams):
    """Hyperparameters.

    Attributes
    ----------
    layers : tuple of int
        Units of each hidden layer. Dadkhah et al. 2024, who made the data, have 32-32-32.
    """

    layers: tuple[int, ...] = (256, 128, 64)


# What `--tune` chooses from.
SPACE: dict[str, tuple[Any, ...]] = {
    "layers": ((128, 64), (256, 128, 64), (512, 256, 128)), "dropout": (0.0, 0.1, 0.3), "learning_rate": (0.001, 0.002, 0.004),
    "weight_decay": (1e-5, 1e-4, 1e-3), "class_weight_power": (0.0, 0.25, 0.5),
}

DETECTOR = network_detector(
    Params, "dense net of TensorFlow, trained on several ranks by Horovod",
    lambda params, problem: {"kind": "dense_net", "layers": list(params.layers)},
    space=SPACE,
)
