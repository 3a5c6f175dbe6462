"""Waits from counts of gaps are those of walking from every window."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.evaluate.waits import quantile, stable_starts, stretches_with_a_hit, waits_of

SEQUENCES = st.lists(st.lists(st.booleans(), max_size=30), min_size=1, max_size=4)


def walked(hits: list[bool], start: int) -> float:
    """Windows from a place until a hit, that one included."""
    return next((i - start + 1 for i in range(start, len(hits)) if hits[i]), math.inf)


@given(SEQUENCES, st.floats(0.01, 1))
def test_a_quantile_is_that_of_walking_from_every_window(sequences: list[list[bool]], share: float) -> None:
    waits = sorted(walked(hits, i) for hits in sequences for i in range(len(hits)))
    found = quantile([waits_of(np.array(hits, bool)) for hits in sequences], share)
    if not waits:
        assert found is None
        return
    wanted = waits[max(0, math.ceil(share * len(waits) - 1e-9) - 1)]
    assert found == (None if wanted == math.inf else wanted)


@given(SEQUENCES, st.integers(1, 12))
def test_stretches_are_those_of_looking_at_each(sequences: list[list[bool]], length: int) -> None:
    looked = [any(hits[i : i + length]) for hits in sequences for i in range(len(hits) - length + 1)]
    found = stretches_with_a_hit([waits_of(np.array(hits, bool)) for hits in sequences], length)
    assert found == (sum(looked), len(looked))


@given(st.lists(st.booleans(), max_size=40))
def test_no_window_is_lost(hits: list[bool]) -> None:
    found = waits_of(np.array(hits, bool))
    assert found.windows == len(hits)
    assert found.first == next((i for i, hit in enumerate(hits) if hit), None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=30), st.integers(1, 5))
def test_a_verdict_is_stable_after_so_many_alerts_of_one_category(rows: list[tuple[bool, int]], windows: int) -> None:
    alert, kind = np.array([a for a, _ in rows], bool), np.array([k for _, k in rows], int)
    wanted = [
        all(a for a, _ in rows[i : i + windows]) and len({k for _, k in rows[i : i + windows]}) == 1
        for i in range(len(rows) - windows + 1)
    ]
    assert stable_starts(alert, kind, windows).tolist() == wanted


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_capture_without_a_hit_never_shows_one(share: float) -> None:
    assert quantile([waits_of(np.zeros(50, bool))], share) is None
