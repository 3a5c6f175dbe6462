"""A launcher that starts again what a death has ended, and knows when to give up."""

from __future__ import annotations

from pathlib import Path

import pytest

from iomt_ids.contract.errors import LaunchError, RankLostError
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.distributed.work import RankResult, Work

_WORK = Work("m:f", {"seed": 1, "train": ["/tmp/a/part-0.parquet"]})


class _Mortal:
    """Dies as often as it is told, then works; has so many slots, the last number of them for ever."""

    def __init__(self, deaths: int, slots: list[int]) -> None:
        self.deaths, self.there = deaths, slots
        self.asked: list[tuple[Work, int]] = []

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        self.asked.append((work, ranks))
        if len(self.asked) <= self.deaths:
            raise RankLostError("rank 1 of 2 was killed by SIGKILL; it said last:\nnothing")
        return [RankResult(rank, "h", "e", 1.0, {"weights_sha256": "w"}) for rank in range(ranks)]

    def slots(self) -> int:
        return self.there.pop(0) if len(self.there) > 1 else self.there[0]


def _launcher(mortal: _Mortal, folder: Path, told: list[str], *, wait_s: float = 5.0, least: int | None = None) -> ResumingLauncher:
    return ResumingLauncher(mortal, folder, Endurance(7, 2, wait_s, least), told.append)


def test_a_death_is_followed_by_a_restart_of_the_same_work_with_the_same_checkpoint(tmp_path: Path) -> None:
    mortal, told = _Mortal(2, [2]), []
    results = _launcher(mortal, tmp_path, told).run(_WORK, 2)
    assert [r.facts["restarts"] for r in results] == [2, 2]
    assert len({str(work.job) for work, _ in mortal.asked}) == 1
    kept = mortal.asked[0][0].job["checkpoint"]
    assert Path(kept["path"]).parent == tmp_path and kept["steps"] == 7
    assert told[0] == "rank 1 of 2 was killed by SIGKILL; it said last:; restart 1 of 2"


def test_one_death_too_many_ends_it_with_the_line_that_goes_on(tmp_path: Path) -> None:
    mortal = _Mortal(3, [2])
    with pytest.raises(LaunchError, match=r"(?s)killed by SIGKILL.*given up after 2 restarts; --resume"):
        _launcher(mortal, tmp_path, []).run(_WORK, 2)
    assert len(mortal.asked) == 3


def test_what_would_fail_again_is_not_started_again(tmp_path: Path) -> None:
    class Refuses(_Mortal):
        def run(self, work: Work, ranks: int) -> list[RankResult]:
            self.asked.append((work, ranks))
            raise LaunchError("rank 0 of 2 refused the work")

    refuses = Refuses(0, [2])
    with pytest.raises(LaunchError, match="refused"):
        _launcher(refuses, tmp_path, []).run(_WORK, 2)
    assert len(refuses.asked) == 1


def test_a_lost_slot_is_waited_for(tmp_path: Path) -> None:
    mortal = _Mortal(1, [1, 1, 2])
    _launcher(mortal, tmp_path, []).run(_WORK, 2)
    assert [ranks for _, ranks in mortal.asked] == [2, 2]


def test_the_world_shrinks_only_if_that_is_wanted_and_not_below_what_is_wanted(tmp_path: Path) -> None:
    mortal, told = _Mortal(1, [3]), []
    results = _launcher(mortal, tmp_path, told, wait_s=0.0, least=2).run(_WORK, 4)
    assert len(results) == 3 and told[-1] == "3 of 4 slots are left; going on with 3 ranks"
    for least in (None, 4):
        with pytest.raises(LaunchError, match=r"3 of 4 slots are left after 0 s; --resume .* train\.ranks_at_least"):
            _launcher(_Mortal(1, [3]), tmp_path, [], wait_s=0.0, least=least).run(_WORK, 4)


def test_another_work_has_another_checkpoint(tmp_path: Path) -> None:
    paths = set()
    for seed in (1, 2, 1):
        mortal = _Mortal(0, [2])
        _launcher(mortal, tmp_path, []).run(Work("m:f", {**_WORK.job, "seed": seed}), 2)
        paths.add(mortal.asked[0][0].job["checkpoint"]["path"])
    assert len(paths) == 2
