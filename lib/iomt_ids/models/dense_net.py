"""A dense neural net on centred logarithms, trained by TensorFlow on several ranks through Horovod."""

from __future__ import annotations

from dataclasses import dataclass

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


DETECTOR = network_detector(
    Params, "dense net of TensorFlow, trained on several ranks by Horovod",
    lambda params, problem: {"kind": "dense_net", "layers": list(params.layers)},
)
