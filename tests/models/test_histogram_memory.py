"""Memory that trees leave to the next ones changes no tree."""

import dataclasses

import numpy as np
import pytest

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.work import Alone
from iomt_ids.models.histogram.forest import Shape, grow
from iomt_ids.models.histogram.grow import bootstrap_rows
from iomt_ids.models.histogram.levels import grow_together
from iomt_ids.models.histogram.memory import Memory
from tests.models.test_histogram_forest import toy
from tests.models.test_histogram_keep import same

SHAPE = Shape(4, 8, 16, "sqrt", 1)


def spoil(memory):
    for held in memory._held.values():
        held.view(np.uint8)[:] = 255


def test_the_same_memory_comes_back_as_long_as_it_fits():
    memory = Memory()
    first = memory.array("rows", 80, np.uint32)
    assert first.shape == (80,) and first.dtype == np.uint32
    assert np.shares_memory(first, memory.array("rows", 88, np.uint32))
    assert memory.array("rows", 8000, np.uint32).shape == (8000,)
    assert not np.shares_memory(memory.array("rows", 80, np.uint32), memory.array("codes", 80, np.uint32))


def test_trees_in_step_have_rows_of_their_own_and_the_same_to_spare():
    memory = Memory()
    one, other = memory.room(50, 0), memory.room(50, 1)
    assert len({array.__array_interface__["data"][0] for array in (*one, *other)}) == 6


@pytest.mark.parametrize("small", [1, 60, 1 << 30], ids=["level_by_level", "some_below", "below_the_root"])
def test_trees_in_used_memory_are_the_same(small):
    memory, binned, fewer = Memory(), toy(), toy(rows=300)
    for rows in (binned, fewer, binned):
        wanted = grow(rows, SHAPE, 11, range(4))
        for first in (0, 2):
            found = grow_together(rows, SHAPE, 11, range(first, first + 2), Alone(), small=small, memory=memory)
            assert same(found, wanted[first : first + 2])
            spoil(memory)


def test_rows_are_drawn_by_themselves_however_many_there_are():
    dice = np.random.default_rng(0)
    labels, weights = dice.integers(5, size=50_000).astype(np.uint8), dice.integers(4, size=50_000)
    marks = dice.integers(2**32, size=50_000).astype(np.uint32)

    def drawn(start, stop):
        rows, codes = np.empty((2, stop - start), np.uint32)
        n, total, most = bootstrap_rows(labels[start:stop], weights[start:stop], marks[start:stop], np.uint64(7), rows, codes)
        times = codes[:n] >> 8
        assert (total, most) == (times.sum(), times.max(initial=0)) and (times > 0).all()
        return rows[:n] + np.uint32(start), codes[:n]

    rows, codes = drawn(0, 50_000)
    parts = zip(*(drawn(start, start + 1250) for start in range(0, 50_000, 1250)), strict=True)
    assert all(np.array_equal(whole, np.concatenate(of)) for whole, of in zip((rows, codes), parts, strict=True))
    assert np.array_equal(codes & 255, labels[rows]) and not np.isin(np.flatnonzero(weights == 0), rows).any()
    # Poisson(1) for each that a row stands for.
    for weight in (1, 2, 3):
        times = np.zeros(50_000)
        times[rows] = codes >> 8
        own = times[weights == weight]
        assert own.mean() == pytest.approx(weight, rel=0.03) and own.var() == pytest.approx(weight, rel=0.05)


def test_a_row_that_stands_for_too_many_is_refused():
    binned = toy(rows=40)
    heavy = dataclasses.replace(binned, weights=np.where(np.arange(40) == 3, 2**24 + 2**16, 1))
    with pytest.raises(ContractError, match=r"2\*\*24"):
        grow(heavy, SHAPE, 0, [0])
    with pytest.raises(ContractError, match=r"2\*\*24"):
        grow_together(heavy, SHAPE, 0, [0], Alone())
