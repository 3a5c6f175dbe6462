"""A convolution along the features of a row, in the order in which the contract lists them."""

from __future__ import annotations

from dataclasses import dataclass

from iomt_ids.models.network import TrainingParams, network_detector


@dataclass(frozen=True)
class Params(TrainingParams):
    """Hyperparameters.

    Attributes
    ----------
    filters : tuple of int
        Of each convolution.
    width : int
        Features that a convolution looks at.
    units : int
        Of the dense layer after them.
    """

    filters: tuple[int, ...] = (16, 32)
    width: int = 3
    units: int = 128


DETECTOR = network_detector(
    Params, "convolution along the features of a row, of TensorFlow, trained on several ranks by Horovod",
    lambda params, problem: {
        "kind": "conv_net", "filters": list(params.filters), "width": params.width, "units": params.units,
    },
)
