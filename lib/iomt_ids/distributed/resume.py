"""A launcher that does not give up: what a dead rank has cost is started again from its last checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iomt_ids.contract.errors import LaunchError, RankLostError
from iomt_ids.distributed.checkpoint import identity_of
from iomt_ids.distributed.chunks import NOTHING_KEPT, Chunks
from iomt_ids.distributed.launch import Launcher
from iomt_ids.distributed.work import RankResult, Work

_POLL_S = 0.5


@dataclass(frozen=True)
class Endurance:
    """What is done about deaths.

    Attributes
    ----------
    checkpoint_steps : int
        Steps between two checkpoints, at least.
    restarts : int
        How often one launch is started again.
    replacement_wait_s : float
        Seconds that the slot of a lost executor has to come back.
    ranks_at_least : int or None
        Then it goes on with as many slots as there are, if they are so many; None: with all its ranks or not at all.
    """

    checkpoint_steps: int
    restarts: int
    replacement_wait_s: float
    ranks_at_least: int | None = None


class ResumingLauncher:
    """Work on ranks that goes on after a death; see `launch.Launcher`.

    Parameters
    ----------
    launcher : Launcher
        Starts the ranks.
    folder : Path
        Where checkpoints are kept, each under the identity of its work; every node must see it.
    endurance : Endurance
        What is done about deaths.
    tell : callable
        Is told of every restart, in one line.
    """

    def __init__(self, launcher: Launcher, folder: Path, endurance: Endurance, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self._launcher, self._endurance, self._tell = launcher, endurance, tell

    def run(self, work: Work, ranks: int) -> list[RankResult]:
        """Run it, again if need be.

        Raises
        ------
        LaunchError
            If ranks died once more than is forgiven, or slots did not come back.
        """
        identity = identity_of(work.function, work.job)
        path = self.folder / f"{identity[:16]}.npz"
        kept = {"path": str(path.absolute()), "steps": self._endurance.checkpoint_steps, "identity": identity}
        work = replace(work, job={**work.job, "checkpoint": kept})
        for restarts in range(self._endurance.restarts + 1):
            try:
                results = self._launcher.run(work, ranks if restarts == 0 else self._ranks_left(ranks))
                return [replace(r, facts={**r.facts, "restarts": restarts}) for r in results]
            except RankLostError as loss:
                last = loss
                self._tell(f"{str(loss).splitlines()[0]}; restart {restarts + 1} of {self._endurance.restarts}")
        raise LaunchError(
            f"{last}\ngiven up after {self._endurance.restarts} restarts; --resume goes on from the last checkpoint"
        ) from last

    def slots(self) -> int:
        """Those of the launcher."""
        return self._launcher.slots()

    def _ranks_left(self, ranks: int) -> int:
        deadline = time.monotonic() + self._endurance.replacement_wait_s
        while (there := self._launcher.slots()) < ranks:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        least = self._endurance.ranks_at_least
        if there >= ranks:
            return ranks
        if least is not None and there >= least:
            self._tell(f"{there} of {ranks} slots are left; going on with {there} ranks")
            return there
        raise LaunchError(
            f"{there} of {ranks} slots are left after {self._endurance.replacement_wait_s:.0f} s; --resume goes on from the "
            "last checkpoint, or set train.ranks_at_least"
        )


def chunks_of(launcher: Any, identity: Callable[[], str]) -> Chunks:
    """Parts in the folder of a launcher that resumes; with any other, none are kept.

    Parameters
    ----------
    identity : callable
        Of the training; called only if it is needed.
    """
    return Chunks(folder, identity()) if (folder := folder_of(launcher)) else NOTHING_KEPT


@contextmanager
def passing_folder(folder: Path, prefix: str) -> Iterator[str]:
    """One below a run's folder, which is made if it is not there, for what processes hand each other; gone after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True) as held:
        yield held


def folder_of(launcher: Any) -> Path | None:
    """The folder of a launcher that resumes, which every node sees."""
    return launcher.folder.absolute() if isinstance(launcher, ResumingLauncher) else None
