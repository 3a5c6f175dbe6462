"""Rows end in the leaf that a walk from the root, one comparison after the other, ends in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.descend import BLOCK, find_leaves, pack_nodes


def grown(dice: np.random.Generator, depth: int, features: int, bins: int, splits: float) -> list[np.ndarray]:
    """Feature, cut and right child of a tree in pre-order, each node split with this chance."""
    feature, cut, right = [], [], []

    def grow(level: int) -> None:
        node = len(feature)
        inner = level < depth and dice.random() < splits
        feature.append(int(dice.integers(features)) if inner else -1)
        cut.append(int(dice.integers(bins - 1)) if inner else -1)
        right.append(-1)
        if inner:
            grow(level + 1)
            right[node] = len(feature)
            grow(level + 1)

    grow(0)
    return [np.array(a, np.int32) for a in (feature, cut, right)]


def walked(columns: np.ndarray, feature: np.ndarray, cut: np.ndarray, right: np.ndarray) -> list[int]:
    ends = []
    for row in columns.T:
        node = 0
        while feature[node] >= 0:
            node = node + 1 if row[feature[node]] <= cut[node] else int(right[node])
        ends.append(node)
    return ends


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@given(st.integers(0, 2**32), st.integers(0, 11), st.sampled_from([0.5, 0.8, 1.0]), st.sampled_from([0, 1, 63, BLOCK, BLOCK + 65]))
def test_every_row_ends_where_a_walk_ends(kind, seed, depth, splits, rows):
    dice, bins = np.random.default_rng(seed), 256 if kind is np.uint8 else 40_000
    columns = dice.integers(bins, size=(5, rows)).astype(kind)
    tree = grown(dice, depth, 5, bins, splits)
    leaves = np.full(rows, -7, np.int32)
    find_leaves(columns, pack_nodes(*tree), leaves)
    assert leaves.tolist() == walked(columns, *tree)


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 511, 513]))
def test_a_bin_is_how_many_thresholds_lie_below(seed, rows):
    dice = np.random.default_rng(seed)
    edges = [np.unique(dice.integers(-9, 9, n).astype(float)) for n in (0, 1, 2, 3, 60)] + [np.sort(dice.normal(size=700))]
    values = np.where(dice.random((rows, 6)) < 0.5, dice.integers(-10, 10, (rows, 6)), dice.normal(size=(rows, 6)))
    values[dice.random((rows, 6)) < 0.02] = np.inf
    wanted = [np.searchsorted(e, column).tolist() for e, column in zip(edges, values.T, strict=True)]
    assert bin_rows(values, edges).tolist() == wanted
    assert bin_rows(values[:, :5], edges[:5]).dtype == np.uint8
