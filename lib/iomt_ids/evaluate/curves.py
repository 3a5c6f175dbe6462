"""ROC and precision-recall of each class against all others, from counts by the bin of its probability.

Rows of one bin count as ties. Where the probabilities of different bins differ and those of one bin do not, the areas are
those of the rows themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_DIGITS = 6  # significant ones of what is drawn


def roc_auc(others: np.ndarray, own: np.ndarray) -> float | None:
    """Chance that a row of the class has a higher score than one of the others; ties count half.

    Parameters
    ----------
    others, own : ndarray of int64, shape (bins,)
        Rows by score, in ascending order.

    Returns
    -------
    float or None
        None if the class, or all others, do not occur.

    Examples
    --------
    >>> roc_auc(np.array([3, 1, 0]), np.array([0, 1, 1]))
    0.9375
    """
    if not own.any() or not others.any():
        return None
    below = np.cumsum(others) - others
    # In doubles: the product of two counts of rows may not fit in 64 bits.
    return float(own.astype(float) @ (below + others / 2) / own.sum() / others.sum())


def average_precision(others: np.ndarray, own: np.ndarray) -> float | None:
    """Precision at each score, weighted by the rows of the class that have it, as scikit-learn's is.

    Parameters
    ----------
    others, own : ndarray of int64, shape (bins,)
        Rows by score, in ascending order.

    Returns
    -------
    float or None
        None if the class does not occur.
    """
    if not own.any():
        return None
    found, said = at_or_above(own), at_or_above(own + others)
    with np.errstate(invalid="ignore"):
        precision = np.where(own > 0, found / said, 0.0)
    return float(precision @ own / own.sum())


def at_or_above(rows: np.ndarray) -> np.ndarray:
    """Rows in each bin and all that follow, along the last axis."""
    return np.cumsum(rows[..., ::-1], axis=-1)[..., ::-1]


def describe_curves(rest: np.ndarray, classes: Sequence[str], points: int = 100) -> dict[str, Any]:
    """The ``classes`` of a model's operating points in `scores.json`.

    Parameters
    ----------
    rest : ndarray of int64, shape (classes, 2, bins)
        As in `ScoreCounts`, of one split.
    classes : sequence of str
        Their names.
    points : int
        Most points of a curve.

    Returns
    -------
    dict of str to dict
        ``rows``, ``roc_auc``, ``average_precision``, and along the curve, from the highest threshold to the lowest,
        ``false_positive_rate``, ``recall`` and ``precision``. A class that does not occur, or that nothing else occurs
        beside, has neither areas nor a curve.
    """
    found = {}
    for name, (others, own) in zip(classes, rest, strict=True):
        entry: dict[str, Any] = {"rows": int(own.sum()), "roc_auc": roc_auc(others, own), "average_precision": None}
        if entry["roc_auc"] is not None:
            entry |= {"average_precision": average_precision(others, own), **_curve(others, own, points)}
        found[name] = entry
    return found


def _curve(others: np.ndarray, own: np.ndarray, points: int) -> dict[str, list[float]]:
    false, found = (at_or_above(rows)[::-1] for rows in (others, own))
    there = np.flatnonzero(np.diff(false + found, prepend=0))
    rate, recall = false[there] / others.sum(), found[there] / own.sum()
    precision = found[there] / (false[there] + found[there])
    kept = spread_out(np.stack([rate, recall, precision]), points)
    return {"false_positive_rate": rounded(rate[kept]), "recall": rounded(recall[kept]), "precision": rounded(precision[kept])}


def spread_out(path: np.ndarray, points: int) -> np.ndarray:
    """Places of at most so many points at even distances along a path, both ends included.

    Parameters
    ----------
    path : ndarray of float64, shape (dimensions, n)
        Distances are added over the dimensions.

    Examples
    --------
    >>> spread_out(np.array([[0.0, 0.01, 0.02, 0.5, 1.0]]), 3).tolist()
    [0, 3, 4]
    """
    walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(path)).sum(axis=0))])
    wanted = np.linspace(0, walked[-1], points)
    return np.unique(np.concatenate([np.searchsorted(walked, wanted[:-1]), [path.shape[1] - 1]]))


def rounded(values: np.ndarray) -> list[float]:
    """To six significant digits, for files."""
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]
