"""Cutting features into bins: exact for few values, finer where rare classes are, the same however rows are spread."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.models.histogram import sketch
from iomt_ids.models.histogram.bins import bin_rows, class_masses, distinct, edges_of, middles
from iomt_ids.models.histogram.sketch import Sketch

numbers = st.floats(allow_nan=False, allow_infinity=False)
columns = st.lists(numbers, min_size=1, max_size=80).map(np.array)


def bins_of(values, edges):
    return bin_rows(values[:, None], [edges])[0]


@given(columns, st.integers(2, 256))
def test_edges_rise_and_make_at_most_the_bins_wanted(values, bins):
    edges = edges_of(values, np.ones(values.size), bins)
    assert edges.size < bins
    assert (np.diff(edges) > 0).all()
    assert np.isfinite(edges).all()


@given(columns, st.integers(2, 256))
def test_bins_keep_the_order_of_values_and_equal_values_share_one(values, bins):
    put = bins_of(values, edges_of(values, np.ones(values.size), bins))
    for i, value in enumerate(values):
        assert (put[values <= value] <= put[i]).all()
        assert (put[values == value] == put[i]).all()


@given(columns)
def test_few_values_get_a_bin_each(values):
    edges = edges_of(values, np.ones(values.size), 256)
    assert np.unique(bins_of(values, edges)).size == np.unique(values).size


@given(columns)
def test_a_bin_is_what_lies_above_one_edge_and_not_above_the_next(values):
    edges = edges_of(values, np.ones(values.size), 8)
    assert (bins_of(values, edges) == np.searchsorted(edges, values, side="left")).all()


def test_a_value_on_an_edge_belongs_to_the_left_as_in_mllib():
    assert bins_of(np.array([0.5, 1.0, 1.5, 2.0, np.inf, -np.inf]), np.array([1.0, 2.0])).tolist() == [0, 0, 1, 1, 2, 0]


@given(columns)
def test_a_threshold_parts_neighbouring_values(values):
    ordered = np.unique(values)
    between = middles(ordered)
    assert (between >= ordered[:-1]).all()
    assert (between < ordered[1:]).all()


@given(columns, st.integers(1, 90))
def test_distinct_values_are_all_of_them_or_none(values, limit):
    found, wanted = distinct(values, limit), np.unique(values)
    assert np.array_equal(found, wanted if wanted.size <= limit else [])


def test_many_distinct_values_are_found_and_both_zeros_are_one():
    # So many that some of them want the same place in the table.
    wanted = np.arange(-100, 101) / 3
    values = np.append(-0.0, np.random.default_rng(0).permutation(np.tile(wanted, 5)))
    found = distinct(values, 201)
    assert np.array_equal(found, wanted)
    assert np.array_equal(np.signbit(found), wanted < 0)  # of whichever is met first
    assert distinct(values, 200).size == 0


def test_bins_hold_even_shares_and_a_heavy_value_does_not_starve_the_others():
    values = np.concatenate([np.zeros(9000), np.arange(1.0, 1001.0)])
    filled = np.bincount(bins_of(values, edges_of(values, np.ones(values.size), 11)))
    assert filled[0] == 9000
    assert filled[1:].tolist() == [100] * 10


def test_a_rare_class_gets_more_bins_than_its_share_of_rows():
    labels = np.repeat([0, 1], [99_000, 1_000])
    values = np.where(labels == 1, 0.0, 10.0) + np.linspace(0, 1, labels.size)
    plain, aware = (
        edges_of(values, masses, 64)
        for masses in (np.ones(labels.size), class_masses(labels, np.bincount(labels)))
    )
    assert np.count_nonzero(plain < 5) <= 1
    assert np.count_nonzero(aware < 5) >= 4


def rows_of(seed, n):
    dice = np.random.default_rng(seed)
    labels = dice.choice(3, n, p=[0.8, 0.15, 0.05]).astype(np.uint8)
    values = np.column_stack([dice.normal(size=n), dice.integers(9, size=n), dice.integers(40, size=n)]).astype(float)
    return dice.permutation(10 * n)[:n].astype(np.int64), labels, values


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_a_sketch_is_the_same_however_rows_are_spread(monkeypatch, parts):
    monkeypatch.setattr(sketch, "SAMPLE", 50)
    ids, labels, values = rows_of(0, 900)
    merged = added = Sketch.empty(3, 3, 16)
    for part in np.array_split(np.random.default_rng(parts).permutation(900), parts):
        merged = merged.merge(Sketch.from_bytes(Sketch.of(ids[part], labels[part], values[part], 3, 16).as_bytes(), 3, 16))
        added = added.add(ids[part], labels[part], values[part])
    whole = Sketch.of(ids, labels, values, 3, 16)
    assert merged.as_bytes() == added.as_bytes() == whole.as_bytes()
    assert np.bincount(merged.labels).tolist() == [50, 50, min(50, int(np.sum(labels == 2)))]
    assert merged.counts.tolist() == np.bincount(labels).tolist()
    assert [d.size for d in merged.distinct] == [0, 9, 0]


def test_rows_that_are_not_sampled_are_not_copied():
    dice = np.random.default_rng(0)
    values, labels = dice.normal(size=(200_000, 42)), dice.integers(3, size=200_000).astype(np.uint8)
    Sketch.of(np.arange(9), labels[:9], values[:9], 3, 16)  # so that compiling is not counted
    tracemalloc.start()
    Sketch.of(np.arange(200_000), labels, values, 3, 16)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < values.nbytes / 2
