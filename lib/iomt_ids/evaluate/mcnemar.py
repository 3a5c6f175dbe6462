"""Whether two detectors differ by more than chance on the same rows, and how many such questions were asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.intervals import upper_tail


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact test of McNemar [1]_: if both are right equally often, as many rows are right by one alone as by the other.

    Exact at every number of rows, so that few of them need no approximation.

    Parameters
    ----------
    first_only, second_only : int
        Rows that the first alone, and the second alone, is right on.

    Returns
    -------
    float
        Two-sided probability of a difference at least as large; 1 without such rows.

    Raises
    ------
    ContractError
        If a count is negative.

    References
    ----------
    .. [1] McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
       Psychometrika 12, 1947. https://doi.org/10.1007/BF02295996

    Examples
    --------
    >>> mcnemar(0, 0), round(mcnemar(6, 0), 6), round(mcnemar(2, 9), 6)
    (1.0, 0.03125, 0.06543)
    """
    if min(first_only, second_only) < 0:
        raise ContractError(f"{first_only} and {second_only} are no counts of rows")
    rows = first_only + second_only
    return min(1.0, 2 * upper_tail(max(first_only, second_only), rows, 0.5)) if rows else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Probabilities corrected for how many there are, by Holm [1]_: each may be compared with the level as it stands.

    References
    ----------
    .. [1] Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    scaled = np.array(values)[order] * np.arange(len(values), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(values) else scaled
    return corrected.tolist()
