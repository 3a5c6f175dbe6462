"""Exact intervals of a share of rows."""

from __future__ import annotations

import math

import numpy as np

from iomt_ids.contract.errors import ContractError

# Tails are summed until a term no longer changes the sum.
_NEGLIGIBLE = 1e-18
_TERMS = 512
_HALVINGS = 60


def clopper_pearson(hits: int, rows: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share, by Clopper and Pearson [1]_.

    The shares that are not refuted by the hits at half of ``1 - level`` on either side. It holds for rows that are drawn
    independently; windows of one capture resemble their neighbours, so it is a lower bound of the uncertainty.

    Parameters
    ----------
    hits, rows : int
        ``0 <= hits <= rows``.
    level : float
        Least coverage.

    Returns
    -------
    low, high : float
        nan without rows.

    Raises
    ------
    ContractError
        If there are more hits than rows, or less than none.

    References
    ----------
    .. [1] Clopper, Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
       Biometrika 26, 1934. https://doi.org/10.1093/biomet/26.4.404

    Examples
    --------
    >>> low, high = clopper_pearson(0, 100)
    >>> low, round(high, 6)
    (0.0, 0.036217)
    >>> low, high = clopper_pearson(7, 50)
    >>> round(low, 6), round(high, 6)
    (0.058192, 0.267396)
    """
    if not 0 <= hits <= rows:
        raise ContractError(f"{hits} of {rows} rows is no share")
    if rows == 0:
        return math.nan, math.nan
    # Misses are hits of the opposite share.
    return _lower_bound(hits, rows, (1 - level) / 2), 1 - _lower_bound(rows - hits, rows, (1 - level) / 2)


def chance_of_so_few(hits: int, rows: int, share: float) -> float:
    """Probability of at most so many hits, if the share of hits is `share` or more.

    Parameters
    ----------
    hits, rows : int
        ``0 <= hits <= rows``.
    share : float
        Between 0 and 1, both excluded.

    Returns
    -------
    float
        Exact where hits are rarer than `share`, which is where it is of use; 1 where they are not.

    Examples
    --------
    >>> round(chance_of_so_few(0, 100, 0.03), 6), chance_of_so_few(4, 100, 0.03)
    (0.047553, 1.0)
    """
    # Misses are as many as that or more, and their share is at most what was seen of them.
    return upper_tail(rows - hits, rows, 1 - share) if hits < share * rows else 1.0


def _lower_bound(hits: int, rows: int, tail: float) -> float:
    """The share at which so many hits or more have the probability `tail`; it lies below ``hits / rows``."""
    if hits == 0:
        return 0.0
    low, high = 0.0, hits / rows
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if high - low <= 1e-14 * high:
            break
        low, high = (low, middle) if upper_tail(hits, rows, middle) > tail else (middle, high)
    return (low + high) / 2


def upper_tail(hits: int, rows: int, share: float) -> float:
    """Probability of `hits` or more among `rows`, for a share of at most ``hits / rows``: terms only get smaller."""
    if share <= 0:
        return 0.0
    log_first = (
        math.lgamma(rows + 1) - math.lgamma(hits + 1) - math.lgamma(rows - hits + 1)
        + hits * math.log(share) + ((rows - hits) * math.log1p(-share) if rows > hits else 0.0)
    )
    total, term, start = 1.0, 1.0, hits
    while start < rows and term > _NEGLIGIBLE * total:
        j = np.arange(start, min(rows, start + _TERMS))
        terms = term * np.cumprod((rows - j) / (j + 1) * (share / (1 - share)))
        total, term, start = total + float(terms.sum()), float(terms[-1]), start + len(j)
    return math.exp(log_first) * total
