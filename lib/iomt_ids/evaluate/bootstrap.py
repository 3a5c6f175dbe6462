"""Intervals of averages from counts: rows drawn again, or captures and then their rows.

Drawing rows with replacement and counting them is drawing the counts from a multinomial, so no row is needed. All resamples
of a matrix are scored at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

AVERAGES = ("f1_macro", "f1_weighted")
_LEVEL = 0.95


def resampled_rows(matrix: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Confusion matrices of as many rows, drawn again.

    Parameters
    ----------
    matrix : ndarray of int64, shape (n, n)
        One row or more.

    Returns
    -------
    ndarray of int64, shape (resamples, n, n)
    """
    rows = int(matrix.sum())
    drawn = np.random.default_rng(seed).multinomial(rows, (matrix / rows).ravel(), size=resamples)
    return drawn.reshape(resamples, *matrix.shape)


def resampled_captures(
    captures: Mapping[str, Sequence[tuple[int, np.ndarray]]], classes: int, resamples: int, seed: int
) -> np.ndarray:
    """Confusion matrices of as many captures of each attack, drawn again, and of their rows, drawn again.

    Rows of a capture resemble each other, so that other captures would have changed a score by more than other rows of the
    same ones. An attack of a single capture says nothing of how captures differ: its rows alone are drawn.

    Parameters
    ----------
    captures : mapping of str to sequence of (int, ndarray of int64, shape (classes,))
        By attack: true label of each of its captures, and its rows by what was predicted.

    Returns
    -------
    ndarray of int64, shape (resamples, classes, classes)
    """
    dice = np.random.default_rng(seed)
    drawn = np.zeros((resamples, classes, classes), np.int64)
    for attack in sorted(captures):
        found = captures[attack]
        times = dice.multinomial(len(found), np.full(len(found), 1 / len(found)), size=resamples)
        for i, (label, predicted) in enumerate(found):
            rows = int(predicted.sum())
            if rows:
                drawn[:, label] += dice.multinomial(times[:, i] * rows, predicted / rows)
    return drawn


def f1_averages(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Macro and weighted F1 of many matrices, as `scores.f1_macro` and `scores.f1_weighted` have them.

    Parameters
    ----------
    matrices : ndarray of int64, shape (samples, n, n)

    Returns
    -------
    dict of str to ndarray of float64, shape (samples,)
        By name of `AVERAGES`; nan for a matrix without rows.
    """
    hits = np.diagonal(matrices, axis1=1, axis2=2).astype(float)
    support, predicted = (matrices.sum(axis=axis).astype(float) for axis in (2, 1))
    occurs = support > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(occurs, 2 * hits / (support + predicted), 0.0)
        macro, weighted = f1.sum(axis=1) / occurs.sum(axis=1), (f1 * support).sum(axis=1) / support.sum(axis=1)
    return dict(zip(AVERAGES, (macro, weighted), strict=True))


def f1_intervals(matrices: np.ndarray, level: float = _LEVEL) -> dict[str, float]:
    """Percentile intervals of both averages, as ``f1_macro_low`` and so on."""
    found = {}
    for name, values in f1_averages(matrices).items():
        found[f"{name}_low"], found[f"{name}_high"] = percentiles(values, level)
    return found


def percentiles(values: np.ndarray, level: float = _LEVEL) -> tuple[float, float]:
    """The middle part of resampled values; what has no value is left out."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
