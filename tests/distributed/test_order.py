"""The order of an epoch: of seed and epoch alone, dealt to ranks without a rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.order import ShardPlan

_PLANS = st.builds(
    ShardPlan, rows=st.integers(1, 5000), ranks=st.integers(1, 9), batch=st.integers(1, 700)
).filter(lambda plan: plan.rows >= plan.ranks)


def _steps(plan: ShardPlan, seed: int, epoch: int) -> list[np.ndarray]:
    """The rows of all ranks in each step, by their numbers among all rows."""
    dealt = [list(plan.batches(rank, seed, epoch)) for rank in range(plan.ranks)]
    return [
        np.stack([mine * plan.ranks + rank for rank, mine in enumerate(step)], axis=1).ravel()
        for step in zip(*dealt, strict=True)
    ]


@given(_PLANS, st.integers(0, 99))
def test_every_rank_takes_equal_steps_of_equal_size_and_sees_all_its_rows(plan: ShardPlan, epoch: int) -> None:
    assert sum(plan.rows_of(rank) for rank in range(plan.ranks)) == plan.rows
    for rank in range(plan.ranks):
        batches = list(plan.batches(rank, 7, epoch))
        assert len(batches) == plan.steps
        assert {len(b) for b in batches} == {plan.batch_rows}
        assert set(np.concatenate(batches).tolist()) == set(range(plan.rows_of(rank)))


@given(st.integers(1536, 9000), st.integers(1, 40), st.sampled_from([2, 3, 4, 6, 12]), st.integers(0, 9))
def test_any_number_of_ranks_sees_the_same_rows_in_the_same_step(rows: int, batch: int, ranks: int, epoch: int) -> None:
    alone, together = ShardPlan(rows, 1, batch * ranks), ShardPlan(rows, ranks, batch)
    steps, same = _steps(alone, 3, epoch), _steps(together, 3, epoch)
    assert len(steps) == len(same)
    for one, other in zip(steps, same, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_epoch_or_seed_is_another_order_and_the_same_is_the_same() -> None:
    plan = ShardPlan(5000, 2, 100)
    first = plan.order(1, 5, 1)
    assert np.array_equal(first, plan.order(1, 5, 1))
    for other in (plan.order(1, 5, 2), plan.order(1, 6, 1)):
        assert np.mean(first == other) < 0.05


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_order_leaves_no_row_near_its_place(ranks: int) -> None:
    rows = 20_000
    order = ShardPlan(rows, ranks, 100).order(0, 1, 1)
    moved = np.abs(order - np.arange(len(order))) / len(order)
    # Two independent places of a line are a third of it apart.
    assert moved.mean() == pytest.approx(1 / 3, abs=0.02)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.05


def test_fewer_rows_than_ranks_are_refused() -> None:
    with pytest.raises(ContractError, match="1 rows cannot be dealt to 2 ranks"):
        ShardPlan(1, 2, 10).require_rows()
