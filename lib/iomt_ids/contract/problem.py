"""What a detector is asked to learn; saved beside every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

from iomt_ids.contract.attacks import class_names, fingerprint
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.splits import OFFICIAL
from iomt_ids.contract.tables import copies_column

# What is learnt from rows of a class with one vector; see `prepare.copies.under_policy`.
DUPLICATES = ("weight", "keep", "drop")
# The column that holds the windows up to a row, for detectors that read them one by one; see `prepare.past.add_history`.
HISTORY = "history"


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of one feature, fitted on the train split by `prepare.features`.

    The value a network sees is ``(sign(x) * log1p(|x|) - center) / scale``.
    """

    feature: str
    center: float
    scale: float


@dataclass(frozen=True)
class Problem:
    """What is to be learnt.

    Attributes
    ----------
    task : str
        One of `contract.attacks.TASKS`.
    features : tuple of str
        Feature columns, in the order of the feature vector.
    feature_set : str
        The name those features go by.
    labels : tuple of int
        Label indices of the task that occur in the train split, ascending. A detector answers
        only with these.
    scaling : tuple of Scaling
        One entry a feature, in the same order.
    past_windows : int
        Windows before a row that its features tell of; 0 if they are of the row alone.
    is_sequence : bool
        Whether those windows are read one by one, each with ``features``; otherwise features sum them up.
    split_scheme : str
        How rows were cut into train and test, see `contract.splits`.
    """

    task: str
    features: tuple[str, ...]
    feature_set: str
    labels: tuple[int, ...]
    scaling: tuple[Scaling, ...]
    # By name only: a text in the place of a truth is true, and nobody complains.
    _: KW_ONLY
    past_windows: int = 0
    is_sequence: bool = False
    split_scheme: str = OFFICIAL

    @property
    def label_column(self) -> str:
        """The column of `gold.features` that holds the label index."""
        return f"{self.task}_id"

    @property
    def context(self) -> str:
        """What is seen of a row: the ``window`` by itself, or the ``past`` of its capture with it."""
        return "past" if self.past_windows else "window"

    @property
    def copies_column(self) -> str:
        """The column that says how many rows a row stands for; 0 where another row stands for it."""
        return copies_column(self.feature_set)

    @property
    def n_classes(self) -> int:
        """Length of the probability vector: every class of the task, seen in training or not."""
        return len(class_names(self.task))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the fingerprint of the taxonomy they refer to."""
        return {**asdict(self), "taxonomy": fingerprint()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Problem:
        """The inverse of `as_dict`.

        Raises
        ------
        ContractError
            If the problem was stated with another taxonomy: its labels would mean other attacks.
        """
        if values["taxonomy"] != fingerprint():
            raise ContractError(
                f"the model was trained with taxonomy {values['taxonomy']}, this code has {fingerprint()}; train it again"
            )
        return cls(
            task=values["task"],
            features=tuple(values["features"]),
            feature_set=values["feature_set"],
            labels=tuple(values["labels"]),
            scaling=tuple(Scaling(**s) for s in values["scaling"]),
            # Models of before these were told do not say.
            past_windows=values.get("past_windows", 0), is_sequence=values.get("is_sequence", False),
            split_scheme=values.get("split_scheme", OFFICIAL),
        )
