"""Clean recordings and the leaks that are planted in them: traffic that differs by class, and nothing that names the recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from iomt_ids.evaluate.captures import Capture

# Name of the class, packets a window, captures.
_CLASSES = (("Benign", 10, 1), ("Scan", 10, 1), ("Spoof", 10, 2), ("Flood", 100, 3), ("Storm", 100, 2), ("Sweep", 10, 1))
_CAMPAIGN_S = 1_693_000_000.0

COLUMNS = (
    "rate", "length", "spread", "pause", "total", "share", "flag", "ttl", "flow_counter", "capture_counter", "wander", "zero",
)
# Those that are measured, not counted: a grid is a change to them.
MEASURED = ("rate", "length", "spread", "pause", "total", "wander")


def clean_captures(seed: int) -> list[Capture]:
    """Captures of six classes, 200 to 700 rows each."""
    dice = np.random.default_rng(seed)
    captures = []
    for place, (attack, packets, files) in enumerate(_CLASSES):
        character = dice.normal(0, 1, 8)
        for part in range(files):
            rows = int(dice.integers(200, 700))
            values = np.column_stack([_column(name, character, place, packets, rows, dice) for name in COLUMNS])
            lines = np.arange(2, 2 + rows)
            captures.append(Capture(f"{attack}{part}", attack, "wifi_mqtt", False, lines, values, dice.random(rows) < 0.2))
    return captures


def _column(
    name: str, character: np.ndarray, place: int, packets: int, rows: int, dice: np.random.Generator
) -> np.ndarray:
    noise = dice.standard_normal(rows)
    if name == "flow_counter":
        # Flows of a random length; each counts from zero, and the rows of several are mixed.
        starts = np.maximum.accumulate(np.where(dice.random(rows) < 0.03, np.arange(rows), 0))
        return (np.arange(rows) - starts) * np.exp(3 + character[0]) + np.exp(2 + noise)
    made = {
        "rate": np.exp(3 + character[1] + 0.6 * noise), "length": 300 + 150 * character[2] + 60 * noise,
        "spread": np.abs(40 + 10 * character[3] + 15 * noise), "pause": np.exp(-6 + character[4] + 1.5 * noise),
        "total": np.exp(14 + character[5] + noise), "zero": np.zeros(rows),
        "share": dice.binomial(packets, 1 / (1 + np.exp(-character[6])), rows) / packets,
        # A flood is nothing else; other classes have some of it.
        "flag": np.full(rows, float(place == 3)) if place > 2 else dice.binomial(packets, 0.3, rows) / packets,
        "ttl": np.round(64 + 30 * (dice.random(rows) < 0.2) + dice.integers(0, 3, rows) / packets, 2),
        # Bytes since the capture began.
        "capture_counter": np.cumsum(np.exp(5 + 0.8 * noise)),
        "wander": 50 + np.convolve(dice.standard_normal(rows + 49), np.ones(50) / 7, "valid"),
    }
    return made[name]


def plant_epoch(captures: list[Capture], column: int, seed: int) -> list[Capture]:
    """Seconds since 1970 on top of what is there, over 1, 10 or 20; in every row, or in every second one."""
    dice = np.random.default_rng(seed)
    factor, every = float(dice.choice([1.0, 10.0, 20.0])), int(dice.integers(1, 3))
    return _added(captures, column, lambda c, t: np.where(np.arange(len(t)) % every == 0, (_CAMPAIGN_S + t) / factor, 0.0), dice)


def plant_elapsed(captures: list[Capture], column: int, seed: int) -> list[Capture]:
    """Time since the campaign began, in a unit in which a capture lasts ten standard deviations of the column."""
    dice = np.random.default_rng(seed)
    own = max(float(np.concatenate([c.values[:, column] for c in captures]).std()), 1.0)
    return _added(captures, column, lambda c, t: t / np.ptp(t) * 10 * own, dice)


def plant_index(captures: list[Capture], column: int, seed: int) -> list[Capture]:
    """The number of the row instead of what was there: from zero in each capture, or going on from the one before."""
    dice = np.random.default_rng(seed)
    step, goes_on = float(dice.choice([1.0, 10.0, 0.5])), bool(dice.integers(2))
    changed, before = [], 0
    for capture in captures:
        rows = before + np.arange(len(capture.lines))
        before = int(rows[-1]) + 1 if goes_on else 0
        changed.append(_with(capture, column, 5.5 + step * rows))
    return changed


def plant_rounding(captures: list[Capture], column: int, seed: int) -> list[Capture]:
    """Half of the classes rounded to as many decimals as leave some thirty levels or more."""
    dice = np.random.default_rng(seed)
    names = sorted({c.attack for c in captures})
    rounded = set(dice.permutation(names)[: len(names) // 2])
    least = min(float(c.values[:, column].std()) for c in captures)
    decimals = int(np.clip(np.ceil(-np.log10(least / 30)), 0, 4))
    return [_with(c, column, np.round(c.values[:, column], decimals)) if c.attack in rounded else c for c in captures]


def _added(captures: list[Capture], column: int, clock, dice: np.random.Generator) -> list[Capture]:
    changed, start = [], 3600.0
    for capture in captures:
        # Captures follow each other with hours between them.
        times = start + np.cumsum(dice.exponential(0.5, len(capture.lines)))
        start = float(times[-1]) + dice.uniform(3600, 80_000)
        changed.append(_with(capture, column, capture.values[:, column] + clock(capture, times)))
    return changed


def _with(capture: Capture, column: int, values: np.ndarray) -> Capture:
    changed = capture.values.copy()
    changed[:, column] = values
    return replace(capture, values=changed)
