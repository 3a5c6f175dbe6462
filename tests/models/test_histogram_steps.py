"""What trees want summed at the same time travels together, and each gets its own sums back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.distributed.work import Alone
from iomt_ids.models.histogram.boost import _groups
from iomt_ids.models.histogram.steps import in_step
from tests.models.test_histogram_spread import Meeting, Place


def asking(*arrays):
    """A tree that wants these summed, one after the other; its outcome is what it was told."""
    told = []
    for array in arrays:
        told.append((yield array))
    return told


SHAPES = [[(2, 3), (1,)], [], [(4,), (0, 5), (2, 2, 2)]]


def test_each_has_its_own_sums_of_all_ranks_and_all_wait_together():
    def of(rank, shapes):
        return [np.full(shape, 10**rank, np.int64) * (1 + i) for i, shape in enumerate(shapes)]

    waits = []

    class Counted(Place):
        def sum(self, values):
            waits.append(self.rank)
            return super().sum(values)

    meeting = Meeting(2)

    def work(ranks):
        return in_step(Counted(meeting, ranks.rank), [asking(*of(ranks.rank, shapes)) for shapes in SHAPES])

    wanted = [[one + other for one, other in zip(of(0, shapes), of(1, shapes), strict=True)] for shapes in SHAPES]
    for found in meeting.run(work):
        assert [[a.tolist() for a in told] for told in found] == [[a.tolist() for a in told] for told in wanted]
        assert [[a.shape for a in told] for told in found] == SHAPES
    assert sorted(waits) == [0, 0, 0, 1, 1, 1]


def test_alone_what_is_asked_is_the_sum():
    arrays = [np.arange(3), np.arange(4)]
    assert all(a is b for a, b in zip(in_step(Alone(), [asking(*arrays)])[0], arrays, strict=True))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 100))
def test_groups_are_neighbours_that_fit_together_and_as_few_as_can_be(sizes, most):
    groups = _groups(np.array(sizes), most)
    assert [i for group in groups for i in group] == list(range(len(sizes)))
    weights = [sum(sizes[i] for i in group) for group in groups]
    assert all(weight <= most or len(group) == 1 for weight, group in zip(weights, groups, strict=True))
    assert all(weight + sizes[after[0]] > most for weight, after in zip(weights, groups[1:], strict=False))
