"""Two detectors on the same rows: SciPy's exact binomial test, and Holm's correction as he states it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.mcnemar import holm, mcnemar


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_probability_is_that_of_the_exact_binomial_test(first: int, second: int) -> None:
    wanted = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    # Far out a probability is too small to be told by subtraction.
    assert mcnemar(first, second) == pytest.approx(wanted, rel=1e-7, abs=1e-300)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_true_differences_of_nothing_are_found_no_more_often_than_promised() -> None:
    # All outcomes of 60 rows, weighted by their probability under equal detectors.
    wrong = sum(binom.pmf(k, 60, 0.5) for k in range(61) if mcnemar(k, 60 - k) < 0.05)
    assert 0.01 < wrong <= 0.05


def obvious_holm(values: list[float]) -> list[float]:
    """Step down from the smallest; none gets less than one before it."""
    found, least = [0.0] * len(values), 0.0
    for place, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - place) * values[i]))
        found[i] = least
    return found


@given(st.lists(st.floats(0, 1), max_size=12))
def test_the_correction_is_holms(values: list[float]) -> None:
    assert holm(values) == pytest.approx(obvious_holm(values))


def test_what_is_no_count_is_refused() -> None:
    with pytest.raises(ContractError, match="no counts"):
        mcnemar(-1, 3)
