"""Exact intervals are SciPy's, and cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.intervals import clopper_pearson


@given(st.integers(1, 3_000_000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_is_that_of_the_beta_distribution(rows: int, share: float, level: float) -> None:
    hits = round(rows * share**3)
    low, high = clopper_pearson(hits, rows, level=level)
    tail = (1 - level) / 2
    assert low == (pytest.approx(beta.ppf(tail, hits, rows - hits + 1), rel=1e-6) if hits else 0)
    assert high == (pytest.approx(beta.ppf(1 - tail, hits + 1, rows - hits), rel=1e-6) if hits < rows else 1)
    assert low <= hits / rows <= high


def test_it_covers_the_truth_at_least_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(0).binomial(2000, 0.004, 1000)
    found = {int(hits): clopper_pearson(int(hits), 2000) for hits in np.unique(drawn)}
    assert np.mean([found[int(hits)][0] <= 0.004 <= found[int(hits)][1] for hits in drawn]) >= 0.95


def test_no_hit_in_many_rows_leaves_about_four_in_so_many() -> None:
    assert clopper_pearson(0, 10_000)[1] == pytest.approx(-math.log(0.025) / 10_000, rel=1e-3)


def test_without_rows_there_is_no_interval() -> None:
    assert all(map(math.isnan, clopper_pearson(0, 0)))


@pytest.mark.parametrize(("hits", "rows"), [(-1, 5), (6, 5)])
def test_what_is_no_share_is_refused(hits: int, rows: int) -> None:
    with pytest.raises(ContractError, match="no share"):
        clopper_pearson(hits, rows)
