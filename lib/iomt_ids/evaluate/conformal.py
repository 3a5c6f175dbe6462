"""Conformal prediction from counts: sets of classes that hold the true one as often as promised, and p-values of strangeness.

What is promised holds for rows that are exchangeable with the validation rows it was calibrated on, whatever the model [1]_.

References
----------
.. [1] Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", Springer 2005. The sets are the smallest ones on
   average: Sadinle, Lei, Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 114, 2019.
   https://arxiv.org/abs/1609.00451
"""

from __future__ import annotations

import math

import numpy as np

from iomt_ids.evaluate.curves import at_or_above


def set_edge(own: np.ndarray, error: float) -> int:
    """The highest edge such that sets of the classes at or above it hold the true class with a chance of ``1 - error``.

    Parameters
    ----------
    own : ndarray of int64, shape (bins,)
        Validation rows by the bin of their own class's probability, ascending.
    error : float
        The chance that a set lacks the true class.

    Returns
    -------
    int
        Place of the edge; 0, that is every class, if there are too few rows for the promise.

    Examples
    --------
    >>> set_edge(np.array([0, 1, 2, 16]), 0.2), set_edge(np.array([0, 1, 2, 16]), 0.1), set_edge(np.array([0, 0, 0, 3]), 0.1)
    (3, 2, 0)
    """
    # One more than the validation rows: the row that is to come is one of them.
    needed = math.ceil((int(own.sum()) + 1) * (1 - error) - 1e-9)
    held = at_or_above(own)
    return int(np.flatnonzero(held >= needed)[-1]) if held[0] >= needed else 0


def p_values(calibration: np.ndarray) -> np.ndarray:
    """For each bin of a score of strangeness, the chance that a row like those of the calibration is as strange.

    Parameters
    ----------
    calibration : ndarray of int64, shape (bins,)
        Validation rows by strangeness, ascending.

    Returns
    -------
    ndarray of float64, shape (bins,)
        At most `a` for a share of at most `a` of exchangeable rows, for every `a`.

    Examples
    --------
    >>> p_values(np.array([2, 1, 0])).tolist()
    [1.0, 0.5, 0.25]
    """
    return (1 + at_or_above(calibration)) / (1 + calibration.sum())
