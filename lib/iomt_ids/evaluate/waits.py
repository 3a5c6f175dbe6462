"""How long one waits for something in a sequence of windows, from every place in it, as a few counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# What `Number` of release v1 shows of a buffer that starts again every twenty packets.
_BUFFER_OF_TEN, _BUFFER_OF_HUNDRED = (5.5, 13.5), (9.5,)
_MOSTLY = 0.9


@dataclass(frozen=True)
class Waits:
    """Runs of windows without a hit.

    Attributes
    ----------
    gaps : dict of int to int
        How often so many windows lie before a hit, after the start or the hit before.
    first : int or None
        Windows before the first hit; None if there is none.
    rest : int
        Windows after the last hit, all of them if there is none.
    """

    gaps: dict[int, int]
    first: int | None
    rest: int

    @property
    def windows(self) -> int:
        """Places in the sequence."""
        return sum((gap + 1) * n for gap, n in self.gaps.items()) + self.rest


def waits_of(hits: np.ndarray) -> Waits:
    """The runs of a sequence.

    Examples
    --------
    >>> waits_of(np.array([False, False, True, True, False]))
    Waits(gaps={0: 1, 2: 1}, first=2, rest=1)
    """
    at = np.flatnonzero(hits)
    if not at.size:
        return Waits({}, None, len(hits))
    lengths, counts = np.unique(np.diff(at, prepend=-1) - 1, return_counts=True)
    return Waits(dict(zip(lengths.tolist(), counts.tolist(), strict=True)), int(at[0]), int(len(hits) - 1 - at[-1]))


def stable_starts(alert: np.ndarray, kind: np.ndarray, windows: int) -> np.ndarray:
    """Where so many alerts in a row begin that all name one category.

    Parameters
    ----------
    alert : ndarray of bool, shape (rows,)
    kind : ndarray of int, shape (rows,)

    Returns
    -------
    ndarray of bool, shape (max(0, rows - windows + 1),)
    """
    if len(alert) < windows:
        return np.zeros(0, bool)
    named = np.where(alert, kind, -1)
    runs = np.lib.stride_tricks.sliding_window_view(named, windows)
    return (runs[:, 0] >= 0) & (runs == runs[:, :1]).all(axis=1)


def quantile(waits: Iterable[Waits], share: float) -> int | None:
    """Windows, the one with the hit included, that are enough from so large a share of places to start at.

    Returns
    -------
    int or None
        None if from more places than are left no hit follows.

    Examples
    --------
    >>> found = [waits_of(np.array([False, False, True, True, False]))]
    >>> quantile(found, 0.4), quantile(found, 0.8), quantile(found, 0.9)
    (1, 3, None)
    """
    found = list(waits)
    places, longest = sum(w.windows for w in found), max((g for w in found for g in w.gaps), default=-1)
    # From the hit back to the start of its gap, one place each needs 1, 2 ... gap + 1 windows.
    ends = np.zeros(longest + 2, np.int64)
    for w in found:
        for gap, n in w.gaps.items():
            ends[gap] += n
    needing = ends[::-1].cumsum()[::-1]
    enough = np.flatnonzero(needing.cumsum() >= share * places - 1e-9) if places else np.array([])
    return int(enough[0]) + 1 if enough.size and needing.sum() else None


def stretches_with_a_hit(waits: Iterable[Waits], length: int) -> tuple[int, int]:
    """Of all stretches of neighbouring windows of a length, those with a hit, and all of them.

    Examples
    --------
    >>> stretches_with_a_hit([waits_of(np.array([False, False, True, True, False]))], 2)
    (3, 4)
    """
    quiet = total = 0
    for w in waits:
        total += max(0, w.windows - length + 1)
        quiet += sum(n * max(0, gap - length + 1) for gap, n in w.gaps.items()) + max(0, w.rest - length + 1)
    return total - quiet, total


def packets_of_windows(buffer: np.ndarray, window: np.ndarray) -> float | None:
    """Packets of most windows of a capture, where the columns tell.

    Release v2 says it. In v1 ``Number`` is the mean fill of a buffer that starts again every 20 packets: 5.5 and 13.5 in turn
    are windows of ten, 9.5 throughout is windows of a hundred; on Bluetooth it counts on, by so many from window to window.

    Parameters
    ----------
    buffer, window : ndarray of float64, shape (rows,)
        `buffer_packets` and `window_packets`; nan where the release lacks it.

    Examples
    --------
    >>> none = np.full(4, np.nan)
    >>> [packets_of_windows(np.array(b), none) for b in ([5.5, 13.5, 5.5, 13.5], [9.5] * 4, [5.5, 15.5, 25.5, 35.5], [1, 7, 2, 9.])]
    [10.0, 100.0, 10.0, None]
    """
    if np.isfinite(window).all():
        return float(np.median(window))
    for levels, packets in ((_BUFFER_OF_TEN, 10.0), (_BUFFER_OF_HUNDRED, 100.0)):
        if np.isin(buffer, levels).mean() >= _MOSTLY:
            return packets
    steps = np.diff(buffer)
    step = np.median(steps) if steps.size else 0.0
    return float(step) if step >= 1 and (steps == step).mean() >= _MOSTLY else None
