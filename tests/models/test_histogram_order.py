"""Rows that trees send the same way lie side by side, and no tree is another for it."""

import dataclasses

import numpy as np
import pytest

from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.forest import Shape, grow
from iomt_ids.models.histogram.keep import trees_to_bytes
from iomt_ids.models.histogram.order import side_by_side

ROWS, CLASSES = 1500, 4


@pytest.fixture(scope="module")
def rows():
    dice = np.random.default_rng(4)
    labels = dice.integers(CLASSES, size=ROWS).astype(np.uint8)
    values = dice.normal(size=(ROWS, 5)) + labels[:, None] * [0.0, 0.5, 1.0, 2.0, 0.0]
    edges = [np.quantile(column, np.linspace(0.1, 0.9, 9)) for column in values.T]
    return bin_rows(values, edges), labels, 1 + np.arange(ROWS) % 3, edges, CLASSES


def shuffled(rows, seed):
    """The rows in another order, and what their order goes by."""
    columns, labels, weights, *rest = rows
    order = np.random.default_rng(seed).permutation(ROWS)
    return (np.ascontiguousarray(columns[:, order]), labels[order], weights[order], *rest), order


def in_canonical_order(binned):
    order = np.argsort(binned.numbers)
    return dataclasses.replace(
        binned, columns=np.ascontiguousarray(binned.columns[:, order]), labels=binned.labels[order],
        weights=binned.weights[order], numbers=binned.numbers[order],
    )


def test_every_row_is_there_once_with_its_own_number(rows):
    found = in_canonical_order(side_by_side(*rows, first=7))
    assert np.array_equal(found.numbers, np.arange(ROWS)) and found.first == 7
    assert all(map(np.array_equal, (found.columns, found.labels, found.weights), rows))


def test_it_does_not_matter_how_rows_came_nor_how_many_threads_there_are(rows):
    wanted = side_by_side(*rows).content()
    for seed, threads in ((0, 1), (1, 2)):
        other, ids = shuffled(rows, seed)
        assert side_by_side(*other, ids=ids, threads=threads).content() == wanted


def test_rows_of_a_node_lie_in_fewer_pieces(rows):
    near = side_by_side(*rows)
    tree = grow(near, Shape(1, 3, 16, "all", 1), 5, [0])[0]

    def pieces(binned):
        goes_left = binned.columns[tree.feature[0]] <= np.searchsorted(binned.edges[tree.feature[0]], tree.threshold[0])
        return np.count_nonzero(np.diff(goes_left.astype(int)))

    assert pieces(near) * 5 < pieces(in_canonical_order(near))


def test_trees_are_those_of_rows_in_canonical_order(rows):
    near = side_by_side(*rows)
    plain = in_canonical_order(near)
    shape, boosted = Shape(4, 9, 16, "sqrt", 1), BoostShape(4, 4, 16, 0.3, sampling_threshold=0.5, patience=0)
    assert trees_to_bytes(grow(near, shape, 3, range(4))) == trees_to_bytes(grow(plain, shape, 3, range(4)))
    one, other = (boost(binned, boosted, 3, threads=1)[0] for binned in (near, plain))
    assert [trees_to_bytes(trees) for trees in one.trees] == [trees_to_bytes(trees) for trees in other.trees]


@pytest.mark.parametrize("kept", [0, 1])
def test_few_rows_or_none_are_no_error(rows, kept):
    columns, labels, weights, *rest = rows
    found = side_by_side(np.ascontiguousarray(columns[:, :kept]), labels[:kept], weights[:kept], *rest)
    assert found.columns.shape == (5, kept) and found.numbers.tolist() == list(range(kept))
