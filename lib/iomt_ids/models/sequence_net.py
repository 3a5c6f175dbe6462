"""A temporal convolution over the consecutive windows of one capture, up to and with the row.

A capture holds one kind of traffic only, so its score with the past of captures is not one for a live network; see
docs/experiments.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from iomt_ids.models.network import TrainingParams, network_detector


@dataclass(frozen=True)
class Params(TrainingParams):
    """Hyperparameters.

    Attributes
    ----------
    units : int
        Of a window, and filters of each convolution. How many windows there are is ``features.past_windows``.
    """

    units: int = 32
    dropout: float = 0.2


DETECTOR = network_detector(
    Params, "temporal convolution over the windows of a capture, of TensorFlow, trained on several ranks by Horovod",
    lambda params, problem: {"kind": "sequence_net", "units": params.units, "windows": problem.past_windows + 1},
    is_sequential=True,
)
