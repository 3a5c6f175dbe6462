"""One recording of a class: a pool of its windows and flows, and the rows drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from iomt_ids.contract.flows import columns_of
from iomt_ids.demo.lines import CLOCK, FragmentPool, blocks, format_rows
from iomt_ids.demo.traffic import RECIPES, Behaviour, Recipe
from iomt_ids.demo.windows import BUFFER, Columns, Drift, Place, draw_windows

BLOCK_ROWS = 8192
_POOL_WINDOWS = {10: 2048, 100: 1024}
_POOL_WINDOWS_OF_DEVICE = 512
# 26 August 2023, when the synthetic campaign starts; the clock of every class counts from its own hour of it.
_CAMPAIGN_START_S = 1_693_008_000
_LONGEST_RECORDING_S = 2.5 * 3600
# The real clock has a microsecond; what is averaged over ten packets has a tenth of it.
_TICK_S = 2.0**-20 / 10


@dataclass(frozen=True)
class _Group:
    """The windows of a pool that behave alike and lie alike in the buffer."""

    first: int
    size: int
    is_frozen: bool


class Recording:
    """What the parts of one recording are written from.

    Parameters
    ----------
    attack : str
        Name of the class; Wi-Fi and MQTT only.
    rows : int
        Rows that will be drawn, so that a small recording has a small pool.
    is_test : bool
        Whether it is the end of the capture, where everything has drifted.
    device : str or None
        Of a profiling capture; a device behaves in its own way.
    release : str
        ``v1`` or ``v2``.
    seed : int
        Of the whole demo.
    """

    def __init__(self, attack: str, rows: int, is_test: bool, device: str | None, release: str, seed: int) -> None:
        self._recipe = RECIPES[attack] if device is None else _as_device(RECIPES[attack], seeded(seed, device))
        self._release = release
        self._drift = _drift(is_test, seeded(seed, f"drift {attack}"))
        shares = np.array([behaviour.share for behaviour in self._recipe.behaviours])
        self._edges = np.cumsum(shares / shares.sum())[:-1]
        self._places = (Place(10), Place(10, before=10)) if self._recipe.window == 10 else (Place(self._recipe.window),)
        size = min(rows, _POOL_WINDOWS[self._recipe.window] if device is None else _POOL_WINDOWS_OF_DEVICE)
        self._fill_pool(size, shares / shares.sum(), seeded(seed, f"pool {attack} {is_test} {device}"))

    def _fill_pool(self, size: int, shares: np.ndarray, rng: np.random.Generator) -> None:
        drawn: list[Columns] = []
        self._groups: list[_Group] = []
        first = 0
        for behaviour, share in zip(self._recipe.behaviours, shares, strict=True):
            for place in self._places:
                count = 1 if behaviour.is_frozen else max(8, round(size * share / len(self._places)))
                drawn.append(draw_windows(behaviour, place, count, self._drift, self._release, rng))
                self._groups.append(_Group(first, count, behaviour.is_frozen))
                first += count
        self._pool = FragmentPool({name: np.concatenate([d[name] for d in drawn]) for name in drawn[0]}, self._release)

    def text(self, rows: int, offset: int, of_class: int, rng: np.random.Generator) -> Iterator[str]:
        """The lines of one part, the last window of which is short.

        Parameters
        ----------
        rows : int
            Lines to write, at least 1.
        offset, of_class : int
            Rows of the class captured before this part, and in all: they set the clock.
        rng : Generator
            Source of chance.
        """
        pause = min(self._recipe.pause, _LONGEST_RECORDING_S / of_class)
        start = _CAMPAIGN_START_S + 3600 * self._recipe.hour + pause * offset
        for first, count in blocks(rows - 1, BLOCK_ROWS):
            yield self._block(first, count, start, pause, rng)
        yield self._short_line(start + pause * rows, rng)

    def _block(self, first: int, rows: int, start: float, pause: float, rng: np.random.Generator) -> str:
        order = np.arange(first, first + rows)
        phase = order % len(self._places)
        group = np.searchsorted(self._edges, rng.random(rows)) * len(self._places) + phase
        firsts = np.array([g.first for g in self._groups])[group]
        sizes = np.array([g.size for g in self._groups])[group]
        windows, flows = (firsts + (rng.random(rows) * sizes).astype(np.int64) for _ in range(2))
        seconds = start + pause * (order + rng.random(rows))
        if self._recipe.window == 10:
            frozen = np.array([g.is_frozen for g in self._groups])[group]
            clock = np.where(phase == 1, seconds / 10, _pauses(frozen, rng))
        else:
            clock = seconds / BUFFER
        same = _repeats(rows, self._recipe.repeats, rng)
        return self._pool.lines(windows[same], flows[same], clock[same])

    def _short_line(self, seconds: float, rng: np.random.Generator) -> str:
        behaviour: Behaviour = self._recipe.behaviours[0]
        place = Place(int(rng.integers(2, 10)))
        columns = draw_windows(behaviour, place, 1, self._drift, self._release, rng)
        clock = seconds / place.packets if self._recipe.window != 10 else _pauses(np.zeros(1, dtype=bool), rng)[0]
        names = [column.name for column in columns_of(self._release)]
        return format_rows(columns | {CLOCK: np.array([clock])}, names, self._release)[0] + "\n"


def seeded(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each consumer."""
    return np.random.default_rng([seed, *name.encode()])


def _drift(is_test: bool, rng: np.random.Generator) -> Drift:
    pace, grown, length = rng.normal((0.0, 0.15, 0.0), (0.15, 0.1, 0.04))
    start, end = (1.0, 1.25) if is_test else (0.0, 1.0)
    return Drift(float(pace), float(grown), float(length), start, end)


def _as_device(recipe: Recipe, rng: np.random.Generator) -> Recipe:
    """Benign behaviour as one device has it: its own mixture, pace and age of flows."""
    factors = np.exp(rng.normal(0, (0.6, 0.35, 0.35), (len(recipe.behaviours), 3)))
    return replace(recipe, behaviours=tuple(
        replace(behaviour, share=behaviour.share * own[0], pace=(behaviour.pace[0] * own[1], behaviour.pace[1]),
                grown=(behaviour.grown[0] * own[2], behaviour.grown[1]))
        for behaviour, own in zip(recipe.behaviours, factors, strict=True)
    ))


def _pauses(frozen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Honest times between packets; a few packets arrive out of order."""
    ticks = np.ceil(np.exp(np.where(frozen, 1.5, 8.0) + np.where(frozen, 0.6, 2.5) * rng.standard_normal(len(frozen))))
    return np.where(rng.random(len(frozen)) < 0.002, -1.0, 1.0) * np.minimum(ticks * _TICK_S, 60.0)


def _repeats(rows: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of rows in which a share repeats the row before."""
    fresh = rng.random(rows) >= share
    fresh[0] = True
    return np.maximum.accumulate(np.where(fresh, np.arange(rows), 0))
