"""Time and seeds."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.runtime.clock import derive_seed, new_run_id, now, seconds_since


@given(st.integers(), st.text())
def test_a_derived_seed_is_one_that_every_library_takes(seed: int, name: str) -> None:
    assert 0 <= derive_seed(seed, name) < 2**31
    assert derive_seed(seed, name) == derive_seed(seed, name)


def test_a_derived_seed_is_the_same_on_every_machine() -> None:
    assert (derive_seed(7, "random_forest"), derive_seed(0, "random_forest")) == (20524325, 1220238401)


def test_consumers_and_seeds_do_not_share_a_derived_seed() -> None:
    derived = {derive_seed(seed, name) for seed in range(40) for name in ("split", "random_forest", "dense_net", "")}
    assert len(derived) == 160


def test_run_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_run_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run_id) for run_id in ids)
    assert ids[0][:16] <= ids[-1][:16]


def test_now_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now())
    assert now()[:13] == time.strftime("%Y-%m-%dT%H", time.gmtime())


def test_seconds_are_counted_by_a_clock_that_never_goes_back() -> None:
    assert 4.99 <= seconds_since(time.monotonic() - 5) < 6
