"""Traces of the recording in a column: a clock, an index, the cutting of windows, a grid.

Each test looks at one feature of the captures of one protocol and answers in counts of captures.
A threshold is a statement on what traffic can do, said beside it; none was fitted to a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from iomt_ids.evaluate.captures import Capture

# Fewer rows tell nothing of an order: of 40 random ones, none in a million has a rank correlation of 0.7.
LEAST_ROWS = 40
# No capture of network traffic with a medical device in it is older, and 2040 lies ahead.
_FIRST_S, _LAST_S = 946_684_800.0, 2_208_988_800.0
# What turns a mean into the clock behind it: all packets of a window hold it, one in 10, 20 or 100, or (a
# buffer of 20 seldom ends with a window of 100) six in 100; and clocks in milli-, micro- and nanoseconds.
_FACTORS = (1.0, 10.0, 20.0, 100 / 6, 100.0, 1e-3, 1e-6, 1e-9)
# A campaign of captures lasts months, not years: half a per cent of the time since 1970 to either side.
_BAND = 0.01
_CAMPAIGN_S = 366 * 86_400.0
# One packet in twenty held the clock; a twentieth of the rows, eight at least, so that a stray number is no date.
_LEAST_SHARE, _LEAST_HITS = 0.05, 8
# Traffic wanders. That nine tenths of the order of rows is the order of capture is no wandering.
_ORDERED = 0.9
# Half that: suspicious, said in the evidence.
DRIFT = 0.7
# A counter that starts with the capture is near zero at its start, compared with what it grows to.
_START = 0.05
# Rows resemble their neighbours most. Equal at a distance, but not beside each other, is a rule, not traffic.
_LAGS, _RECURS, _GAIN = range(2, 21), 0.8, 0.5
_CONSTANT = 0.95
# Two or three captures may each have a shortest frame of their own; a column that is one number in every one of many is set.
_LEAST_CAPTURES = 4
# Dividing by windows of 10 or 100 packets twice leaves four decimals; what needs more was measured or divided otherwise.
_DECIMALS = 4
_ON_GRID, _OFF_GRID, _LEAST_LEVELS = 0.99, 0.5, 12
# Sums of doubles are off by some last bits; a grid is not finer than that.
_LAST_BITS = 16 * np.finfo(float).eps


@dataclass(frozen=True)
class Place:
    """One feature of one capture."""

    capture: Capture
    values: np.ndarray

    @property
    def varies(self) -> bool:
        """Whether there is anything to see."""
        return len(self.values) >= LEAST_ROWS and bool(np.nanmax(self.values) > np.nanmin(self.values))


def places_of(captures: Sequence[Capture], feature: int) -> list[Place]:
    """The captures that are long enough and have the feature."""
    long = [c for c in captures if len(c.lines) >= LEAST_ROWS]
    return [Place(c, c.values[:, feature]) for c in long if np.isfinite(c.values[:, feature]).all()]


def clock_evidence(places: Sequence[Place]) -> dict[str, Any]:
    """How a feature follows the time of capture.

    Parameters
    ----------
    places : sequence of Place
        One feature of the captures of one protocol.

    Returns
    -------
    dict
        ``captures`` (in which the feature varies), ``dated`` (in which it reads as seconds since 1970 of one
        year), ``factor``, ``first`` and ``last`` (days, or None), ``indexed`` (in which it takes the same step from
        row to row), ``ordered`` (in which its rank correlation with the place is 0.9 or more), ``restarts`` (of
        those, where it starts near zero) and ``rho``, the largest rank correlation in size.
    """
    varying = [p for p in places if p.varies]
    rhos = [rank_correlation(p.values, p.capture.lines) for p in varying]
    ordered = [p for p, rho in zip(varying, rhos, strict=True) if abs(rho) >= _ORDERED]
    return {
        "captures": len(varying), **_dates(varying), "indexed": sum(_is_index(p) for p in varying),
        "ordered": len(ordered), "restarts": sum(_restarts(p.values) for p in ordered),
        "rho": max(rhos, key=abs, default=0.0),
    }


def window_evidence(places: Sequence[Place]) -> dict[str, Any]:
    """How far a feature is a function of how the capture was cut into rows.

    Returns
    -------
    dict
        ``captures``, ``periodic`` (in which values recur at a distance but not beside each other, at ``lag``),
        ``constant`` (in which nearly all rows agree), ``levels`` (sets of values by capture, at most 8 shown) and
        ``is_rule``: every capture is one or the other, and classes differ in their values.
    """
    periods = [_period(p) for p in places]
    steady = [p for p, lag in zip(places, periods, strict=True) if lag is None and _top_share(p.values) >= _CONSTANT]
    periodic = [lag for lag in periods if lag is not None]
    settled = [p for p, lag in zip(places, periods, strict=True) if lag is not None or _top_share(p.values) >= _CONSTANT]
    levels = {_levels(p.values) for p in settled}
    by_class: dict[str, set[tuple[float, ...]]] = {}
    for p in settled:
        by_class.setdefault(p.capture.attack, set()).add(_levels(p.values))
    differ = len({frozenset(found) for found in by_class.values()}) > 1
    # Without an alternation, only whole numbers above one can be counts of packets: shares of a flood are constant too.
    counts = len(places) >= _LEAST_CAPTURES and all(v > 1 and v == round(v) for level in levels for v in level)
    ruled = len(settled) == len(places) and differ and (bool(periodic) or counts)
    return {
        "captures": len(places), "periodic": len(periodic), "constant": len(steady),
        "lag": min(periodic, default=None), "levels": [list(level) for level in sorted(levels)[:8]], "is_rule": ruled,
    }


def rounding_evidence(places: Sequence[Place]) -> dict[str, Any]:
    """Whether some classes are written on a grid that others are not on.

    Returns
    -------
    dict
        ``gridded`` and ``free``: names of classes; ``decimals``, the largest number that a gridded class needs.
        Both lists are filled only where there are both.
    """
    by_class: dict[str, list[np.ndarray]] = {}
    for p in places:
        by_class.setdefault(p.capture.attack, []).append(p.values)
    needed = {name: _decimals(np.concatenate(parts)) for name, parts in by_class.items()}
    gridded = sorted(name for name, d in needed.items() if d is not None and d <= _DECIMALS)
    free = sorted(name for name, d in needed.items() if d is not None and d > _DECIMALS)
    both = bool(gridded and free)
    return {
        "gridded": gridded if both else [], "free": free if both else [],
        "decimals": max(needed[name] or 0 for name in gridded) if both else None,
    }


def rank_correlation(values: np.ndarray, lines: np.ndarray) -> float:
    """Spearman's, ties shared; 0 where one of the two does not vary."""
    ranks = _ranks(values)
    place = np.argsort(np.argsort(lines, kind="stable"), kind="stable").astype(float)
    x, y = ranks - ranks.mean(), place - place.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[where]


def _dates(places: Sequence[Place]) -> dict[str, Any]:
    """In how many captures the feature reads as a date of the year in which most of them do."""
    read = [(i, when, factor) for i, p in enumerate(places) for when, factor in _readings(p.values)]
    best: dict[int, tuple[float, float]] = {}
    for _, start, _ in read:
        near = {i: (when, factor) for i, when, factor in read if 0 <= when - start <= _CAMPAIGN_S}
        best = near if len(near) > len(best) else best
    days = sorted(datetime.fromtimestamp(when, UTC).date().isoformat() for when, _ in best.values())
    factors = sorted({factor for _, factor in best.values()})
    return {"dated": len(best), "factors": factors, "first": days[0] if days else None, "last": days[-1] if days else None}


def _readings(values: np.ndarray) -> list[tuple[float, float]]:
    """Dates, in seconds since 1970, that enough rows agree on; each with its factor."""
    sizes = np.sort(np.abs(values))
    need = max(_LEAST_HITS, math.ceil(_LEAST_SHARE * len(sizes)))
    found = []
    for factor in _FACTORS:
        seconds = sizes[(sizes * factor >= _FIRST_S) & (sizes * factor <= _LAST_S)] * factor
        if len(seconds) < need:
            continue
        ends = np.searchsorted(seconds, seconds * (1 + _BAND), side="right")
        start = int(np.argmax(ends - np.arange(len(seconds))))
        band = seconds[start:ends[start]]
        # A clock does not stand still.
        if len(band) >= need and len(np.unique(band)) >= len(band) / 2:
            found.append((float(np.median(band)), factor))
    return found


def _is_index(place: Place) -> bool:
    """Whether nearly every row is the one before plus the same step."""
    steps = np.concatenate([np.diff(place.values[block]) for block in place.capture.blocks()])
    step = np.median(steps) if len(steps) else 0.0
    if not step:
        return False
    slack = 1e-6 * abs(step) + 4 * np.finfo(float).eps * np.abs(place.values).max()
    return bool(np.mean(np.abs(steps - step) <= slack) >= _CONSTANT)


def _restarts(values: np.ndarray) -> bool:
    return bool(abs(values[0]) <= _START * (values.max() - values.min()))


def _period(place: Place) -> int | None:
    """The distance at which values recur although neighbours differ; None where there is none."""
    # Values that seldom occur twice cannot recur in most rows.
    if not place.varies or len(np.unique(place.values)) > len(place.values) / 2:
        return None
    beside = _recurrence(place, 1)
    found = [(_recurrence(place, lag), -lag) for lag in _LAGS]
    share, lag = max(found)
    return -lag if share >= _RECURS and share - beside >= _GAIN else None


def _recurrence(place: Place, lag: int) -> float:
    same = [place.values[b][lag:] == place.values[b][:-lag] for b in place.capture.blocks() if b.stop - b.start > lag]
    return float(np.concatenate(same).mean()) if same else 0.0


def _top_share(values: np.ndarray) -> float:
    return float(np.unique(values, return_counts=True)[1].max() / len(values))


def _levels(values: np.ndarray) -> tuple[float, ...]:
    """The values that at least one row in ten has."""
    found, counts = np.unique(values, return_counts=True)
    return tuple(float(v) for v in found[counts >= len(values) / 10])


def _decimals(values: np.ndarray) -> int | None:
    """Decimals that a class needs, more than `_DECIMALS` where it is on no grid; None where it cannot be told."""
    distinct = np.unique(values)
    # Too few levels say nothing; of numbers so large, doubles do not keep the decimals.
    if len(distinct) < _LEAST_LEVELS or np.abs(distinct).max() * 10.0**_DECIMALS * _LAST_BITS > 0.1:
        return None
    on = [_on_grid(distinct, d) for d in range(_DECIMALS + 1)]
    found = next((d for d, share in enumerate(on) if share >= _ON_GRID), None)
    if found is not None:
        return found
    return _DECIMALS + 1 if 1 - on[-1] >= _OFF_GRID else None


def _on_grid(values: np.ndarray, decimals: int) -> float:
    scaled = values * 10.0**decimals
    return float(np.mean(np.abs(scaled - np.round(scaled)) <= 1e-6 + _LAST_BITS * np.abs(scaled)))
