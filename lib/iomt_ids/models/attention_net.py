"""A small transformer over the features of a row (Gorishniy et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from iomt_ids.models.network import TrainingParams, network_detector


@dataclass(frozen=True)
class Params(TrainingParams):
    """Hyperparameters.

    Attributes
    ----------
    units : int
        Numbers of a token; a multiple of the heads.
    heads, blocks : int
        Of attention; rounds of attention.
    """

    units: int = 32
    heads: int = 4
    blocks: int = 2
    learning_rate: float = 0.001


DETECTOR = network_detector(
    Params, "transformer over the features of a row, of TensorFlow, trained on several ranks by Horovod",
    lambda params, problem: {
        "kind": "attention_net", "units": params.units, "heads": params.heads, "blocks": params.blocks,
    },
)
