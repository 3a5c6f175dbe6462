"""Whether a new model may replace the served one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Decision:
    """What the gate said, for the run record.

    Attributes
    ----------
    promote : bool
        Whether the new model is to be served.
    reason : str
        One sentence with both scores.
    """

    promote: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the run record."""
        return asdict(self)


def best_model(scores: Sequence[dict[str, Any]], *, task: str, features: str) -> str | None:
    """The model of a task and feature set with the best macro-F1 on the validation split.

    The test split has no say: a winner chosen by it would have a flattering test score.

    Returns
    -------
    str or None
        None if no model of the task has a validation score; the first of equals.
    """
    rivals = [
        entry for entry in scores
        if (entry["task"], entry["features"]) == (task, features) and _is_of(entry, "validation") and entry["f1_macro"] is not None
    ]
    return max(rivals, key=lambda entry: entry["f1_macro"])["model"] if rivals else None


def score_on_test(scores: Sequence[dict[str, Any]], model: str | None) -> float | None:
    """A model's macro-F1 on all test rows; None if it has none."""
    for entry in scores:
        if entry["model"] == model and _is_of(entry, "test"):
            return entry["f1_macro"]
    return None


def _is_of(entry: dict[str, Any], split: str) -> bool:
    return (entry["split"], entry["scope"], entry["counted"]) == (split, "all", "rows")


def decide(candidate: float | None, served: float | None, *, has_served: bool, tolerance: float) -> Decision:
    """Let a model pass only if it is not worse on the same test rows.

    Parameters
    ----------
    candidate, served : float or None
        Macro-F1 of the new and of the served model on the same rows; None where it has no meaning.
    has_served : bool
        Whether a model is served at all.
    tolerance : float
        Macro-F1 that the new model may lose.

    Examples
    --------
    >>> decide(0.81, 0.80, has_served=True, tolerance=0.0)
    Decision(promote=True, reason='macro-F1 0.8100 is not worse than the served 0.8000')
    >>> decide(0.79, 0.80, has_served=True, tolerance=0.0).promote
    False
    """
    if candidate is None:
        return Decision(False, "the new model has no macro-F1: there are no test rows")
    if not has_served:
        return Decision(True, f"macro-F1 {candidate:.4f}; no model was served before")
    if served is None:
        return Decision(False, "the served model has no macro-F1: the two cannot be compared")
    if candidate >= served - tolerance:
        return Decision(True, f"macro-F1 {candidate:.4f} is not worse than the served {served:.4f}")
    return Decision(False, f"macro-F1 {candidate:.4f} is worse than the served {served:.4f}; it stays")
