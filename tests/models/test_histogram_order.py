"""Rows that trees send the same way lie side by side, and no tree is another for it."""

import numpy as np
import pytest

from iomt_ids.models.histogram import order
from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.forest import Binned, Shape, grow
from iomt_ids.models.histogram.grow import marks_of
from iomt_ids.models.histogram.keep import trees_to_bytes
from iomt_ids.models.histogram.order import neighbours, side_by_side
from tests.models.forest_reference import hashed

ROWS, CLASSES = 1500, 4


@pytest.fixture(scope="module")
def rows():
    dice = np.random.default_rng(4)
    labels = dice.integers(CLASSES, size=ROWS).astype(np.uint8)
    values = dice.normal(size=(ROWS, 5)) + labels[:, None] * [0.0, 0.5, 1.0, 2.0, 0.0]
    edges = [np.quantile(column, np.linspace(0.1, 0.9, 9)) for column in values.T]
    marks = dice.permutation(2**20)[:ROWS].astype(np.uint32)
    return bin_rows(values, edges), labels, 1 + np.arange(ROWS) % 3, marks, edges, CLASSES


def by_marks(columns, labels, weights, marks):
    order = np.argsort(marks)
    return columns[:, order], labels[order], weights[order], marks[order]


def as_they_came(rows):
    columns, labels, weights, marks, edges, classes = rows
    return Binned(columns, labels, weights, marks, edges, classes)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_row_is_there_once_with_its_own_mark(rows, threads):
    found = side_by_side(*rows, threads=threads)
    told = by_marks(found.columns, found.labels, found.weights, found.marks)
    assert all(map(np.array_equal, told, by_marks(*rows[:4])))


@pytest.mark.parametrize("ends", [[1], [700, 701, 1499], [0, 1500]])
def test_their_order_does_not_depend_on_blocks(rows, ends, monkeypatch):
    monkeypatch.setattr(order, "_SAMPLE", 200)  # which rows these are would show
    columns, labels, *_, edges, classes = rows
    whole = neighbours([columns], labels, edges, classes)
    assert np.array_equal(neighbours(np.split(columns, ends, axis=1), labels, edges, classes), whole)


def test_rows_of_a_node_lie_in_fewer_pieces(rows):
    near = side_by_side(*rows)
    tree = grow(near, Shape(1, 3, 16, "all", 1), 5, [0])[0]

    def pieces(binned):
        goes_left = binned.columns[tree.feature[0]] <= np.searchsorted(binned.edges[tree.feature[0]], tree.threshold[0])
        return np.count_nonzero(np.diff(goes_left.astype(int)))

    assert pieces(near) * 5 < pieces(as_they_came(rows))


def test_trees_are_those_of_rows_as_they_came(rows):
    near, plain = side_by_side(*rows), as_they_came(rows)
    shape, boosted = Shape(4, 9, 16, "sqrt", 1), BoostShape(4, 4, 16, 0.3, sampling_threshold=0.5, patience=0)
    assert trees_to_bytes(grow(near, shape, 3, range(4))) == trees_to_bytes(grow(plain, shape, 3, range(4)))
    one, other = (boost(binned, boosted, 3, threads=1)[0] for binned in (near, plain))
    assert [trees_to_bytes(trees) for trees in one.trees] == [trees_to_bytes(trees) for trees in other.trees]


@pytest.mark.parametrize("kept", [0, 1])
def test_few_rows_or_none_are_no_error(rows, kept):
    columns, labels, weights, marks, *rest = rows
    found = side_by_side(np.ascontiguousarray(columns[:, :kept]), labels[:kept], weights[:kept], marks[:kept], *rest)
    assert found.columns.shape == (5, kept) and found.marks.tolist() == marks[:kept].tolist()


def test_marks_are_of_a_row_alone_and_spread_over_all_words():
    ids = np.arange(1 << 16)
    marks = marks_of(ids)
    assert marks_of(ids[::-1][:9]).tolist() == marks[::-1][:9].tolist()
    assert marks.tolist() == [hashed(i) >> 32 for i in ids.tolist()]
    counts = np.bincount(marks >> 26, minlength=64)
    assert np.unique(marks).size > ids.size - 5 and abs(counts - 1024).max() < 5 * 32
