"""Every score, one function each, from a confusion matrix.

To add a metric, write one function of a `Tally` under `@overall` or `@per_class`; the report, the run
record and `gold.scores` follow. A score that has no meaning is nan (null in files): an absent class has
no score, it does not have a bad one. Averages are over the classes that occur in the truth, as
scikit-learn's are when it is given those labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.bootstrap import AVERAGES, f1_intervals, percentiles, resampled_rows

OVERALL: dict[str, Callable[[Tally], float]] = {}
PER_CLASS: dict[str, Callable[[Tally], np.ndarray]] = {}


@dataclass(frozen=True)
class Tally:
    """A confusion matrix and what is read off it.

    Attributes
    ----------
    matrix : ndarray of int64, shape (n, n)
        Row is the true class, column the predicted one.
    benign : tuple of int
        Classes that mean "no attack".
    """

    matrix: np.ndarray
    benign: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.shape[0] != self.matrix.shape[1] or (self.matrix < 0).any():
            raise ContractError(f"a confusion matrix is square and not negative, not {self.matrix.shape}")

    @cached_property
    def hits(self) -> np.ndarray:
        """Rows predicted right, by class."""
        return np.diag(self.matrix).astype(float)

    @cached_property
    def support(self) -> np.ndarray:
        """Rows that belong to a class."""
        return self.matrix.sum(axis=1).astype(float)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Rows that a class was predicted for."""
        return self.matrix.sum(axis=0).astype(float)

    @property
    def rows(self) -> float:
        """All rows."""
        return float(self.matrix.sum())


def overall(function: Callable[[Tally], float]) -> Callable[[Tally], float]:
    """Register a metric of the whole matrix under its name."""
    OVERALL[function.__name__] = function
    return function


def per_class(function: Callable[[Tally], np.ndarray]) -> Callable[[Tally], np.ndarray]:
    """Register a metric of each class under its name."""
    PER_CLASS[function.__name__] = function
    return function


@per_class
def precision(tally: Tally) -> np.ndarray:
    """Share of a class's predictions that are right; nan if it is never predicted."""
    return _share(tally.hits, tally.predicted)


@per_class
def recall(tally: Tally) -> np.ndarray:
    """Share of a class's rows that are found; nan if it never occurs."""
    return _share(tally.hits, tally.support)


@per_class
def f1(tally: Tally) -> np.ndarray:
    """Harmonic mean of precision and recall; nan if the class never occurs, 0 if it is never found."""
    return np.where(tally.support > 0, _share(2 * tally.hits, tally.support + tally.predicted), np.nan)


@per_class
def false_alarm_rate(tally: Tally) -> np.ndarray:
    """Share of other classes' rows that are taken for this class; nan if there are no others."""
    return _share(tally.predicted - tally.hits, tally.rows - tally.support)


@per_class
def support(tally: Tally) -> np.ndarray:
    """Rows that belong to the class."""
    return tally.support.astype(np.int64)


@overall
def accuracy(tally: Tally) -> float:
    """Share of rows predicted right."""
    return float(_share(tally.hits.sum(), tally.rows))


@overall
def precision_macro(tally: Tally) -> float:
    """Mean precision of the classes that occur, 0 for those never predicted."""
    return _mean(np.nan_to_num(precision(tally)), tally.support > 0)


@overall
def recall_macro(tally: Tally) -> float:
    """Mean recall of the classes that occur: balanced accuracy."""
    return _mean(recall(tally), tally.support > 0)


@overall
def f1_macro(tally: Tally) -> float:
    """Mean F1 of the classes that occur."""
    return _mean(f1(tally), tally.support > 0)


@overall
def precision_weighted(tally: Tally) -> float:
    """Mean precision weighted by rows, 0 for classes never predicted."""
    return _mean(np.nan_to_num(precision(tally)), tally.support)


@overall
def recall_weighted(tally: Tally) -> float:
    """Mean recall weighted by rows: accuracy."""
    return _mean(np.nan_to_num(recall(tally)), tally.support)


@overall
def f1_weighted(tally: Tally) -> float:
    """Mean F1 weighted by rows."""
    return _mean(np.nan_to_num(f1(tally)), tally.support)


@overall
def mcc(tally: Tally) -> float:
    """Matthews correlation coefficient of several classes [1]_; 0 if all rows or all predictions are of one class.

    References
    ----------
    .. [1] Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient",
       Computational Biology and Chemistry 28, 2004.
    """
    if tally.rows == 0:
        return math.nan
    n, hits = tally.rows, tally.hits.sum()
    both = hits * n - tally.support @ tally.predicted
    spread = math.sqrt(n**2 - tally.predicted @ tally.predicted) * math.sqrt(n**2 - tally.support @ tally.support)
    return float(both / spread) if spread > 0 else 0.0


@overall
def benign_false_alarm_rate(tally: Tally) -> float:
    """Share of benign rows that any attack is predicted for; nan without benign rows.

    Per million benign windows on a ward, 1e-4 means a hundred false alarms.
    """
    benign = list(tally.benign)
    rows = tally.matrix[benign].sum()
    return float(_share(rows - tally.matrix[np.ix_(benign, benign)].sum(), rows))


def interval(
    tally: Tally, metric: Callable[[Tally], float], *, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a score over rows.

    Drawing rows with replacement and counting them is drawing the matrix from a multinomial, so the
    rows themselves are not needed. Rows of one capture resemble their neighbours, so the interval is a
    lower bound of the uncertainty.

    Parameters
    ----------
    resamples : int
        Bootstrap samples.
    level : float
        Coverage.

    Returns
    -------
    low, high : float
        nan without rows.
    """
    if tally.rows == 0:
        return math.nan, math.nan
    drawn = resampled_rows(tally.matrix, resamples, seed)
    return percentiles(np.array([metric(Tally(sample, tally.benign)) for sample in drawn]), level)


def score(tally: Tally, classes: tuple[str, ...], *, resamples: int, seed: int) -> dict[str, Any]:
    """All scores as plain values for a file; what has no meaning is None.

    Parameters
    ----------
    classes : tuple of str
        Names, in label order.
    resamples, seed : int
        Of the bootstrap behind `f1_macro_low`, `f1_macro_high` and the same of `f1_weighted`; see `interval`.
    """
    intervals = f1_intervals(resampled_rows(tally.matrix, resamples, seed)) if tally.rows else {}
    columns = {name: metric(tally) for name, metric in PER_CLASS.items()}
    by_class = {
        name: {metric: _plain(values[i]) for metric, values in columns.items()} for i, name in enumerate(classes)
    }
    return {
        "rows": int(tally.rows),
        **{_public(name): _plain(metric(tally)) for name, metric in OVERALL.items()},
        **{f"{name}_{end}": intervals.get(f"{name}_{end}") for name in AVERAGES for end in ("low", "high")},
        "per_class": by_class, "classes": list(classes), "confusion": tally.matrix.tolist(),
    }


def _public(name: str) -> str:
    # Of the whole matrix, the false alarms that matter are those on benign rows.
    return name.removeprefix("benign_")


def _plain(value: Any) -> float | int | None:
    return None if math.isnan(value) else np.asarray(value).item()


def _share(part: Any, whole: Any) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(part, whole) if not np.isscalar(whole) else (part / whole if whole else math.nan)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    chosen = weights > 0
    return float(np.average(values[chosen], weights=weights[chosen].astype(float))) if chosen.any() else math.nan
