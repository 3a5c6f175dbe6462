"""Trees that ranks grow together: every rank keeps a part of the rows, as bytes, and histograms are added up.

Each task bins its rows and leaves them in pieces (`handed`); a rank (`ranks`) reads its parts of every piece, and they grow the
trees together (`levels`, `boost`): no row goes through the driver, or is shuffled. The first rank leaves finished trees in the
run's folder, where the driver finds them: they never travel in one piece, and a dead rank costs what was not finished.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from iomt_ids.distributed.checkpoint import identity_of
from iomt_ids.distributed.chunks import Chunks
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.resume import folder_of
from iomt_ids.distributed.work import Work, name_of
from iomt_ids.models.histogram.blocks import Source
from iomt_ids.models.histogram.boost import Boosting, BoostShape
from iomt_ids.models.histogram.forest import Forest, Shape
from iomt_ids.models.histogram.handed import Dealt, deal
from iomt_ids.models.histogram.keep import FORMAT, all_trees, forest_chunks, seen
from iomt_ids.models.histogram.levels import SMALL
from iomt_ids.models.histogram.ranks import MODEL, boost_rank, boosting_from_bytes, grow_rank, load


class Spread:
    """Rows on disk, and the ranks that will read them.

    Parameters
    ----------
    launcher : Launcher
        Starts the ranks, as many as it has slots.
    folder : Path
        Every node must see it.
    edges : list of ndarray of float64
        Thresholds between the bins of each feature.
    classes : int
    """

    def __init__(self, launcher: Any, folder: Path, edges: list[np.ndarray], classes: int) -> None:
        self.launcher, self.folder = launcher, folder
        self.edges, self.classes = edges, classes
        self.ranks = max(1, launcher.slots())
        self.work = Path(tempfile.mkdtemp(prefix="bins-", dir=folder))

    def forest(self, rows: Source, shape: Shape, seed: int, *, small: int = SMALL) -> Forest:
        """A forest, each tree on all ranks; ``small`` as in `levels.grow_together`."""
        job = self._job("forest", shape, seed, train=self._deal(rows))
        self._run(grow_rank, {**job, "small": small})
        trees = all_trees(forest_chunks(shape.trees, job["rows"]), Chunks(self.folder, job["kept"]))
        return Forest(tuple(trees), len(self.edges), self.classes)

    def boosting(
        self, rows: Source, unseen: Source | None, shape: BoostShape, seed: int
    ) -> tuple[Boosting, list[dict[str, float]]]:
        """Boosted trees, round by round on all ranks; see `boost.boost`."""
        held_out = {} if unseen is None else {"unseen": self._deal(unseen)}
        job = self._job("boosting", shape, seed, train=self._deal(rows), **held_out)
        self._run(boost_rank, job)
        (content,) = seen([Chunks(self.folder, job["kept"]).load(MODEL)], self.folder)
        return boosting_from_bytes(content, len(self.edges))

    def _run(self, function: Callable[..., Any], job: dict[str, Any]) -> None:
        # An executor may have died since: the trees are the same on fewer ranks.
        ranks = max(1, min(self.ranks, self.launcher.slots()))
        self.launcher.run(Work(name_of(function), job, has_tensors=False, load=name_of(load)), ranks)

    def _job(self, what: str, shape: Any, seed: int, **sets: Dealt) -> dict[str, Any]:
        return {
            "shape": asdict(shape), "seed": seed, "sets": {name: dealt.told for name, dealt in sets.items()},
            "rows": sets["train"].rows, "folder": str(self.folder), "kept": identity(what, shape, seed, **sets),
        }

    def _deal(self, rows: Source) -> Dealt:
        return deal(rows, self.edges, self.classes, self.work, self.ranks)


def identity(what: str, shape: Any, seed: int, **sets: Dealt) -> str:
    """Of a training, however its rows are dealt."""
    told = {name: [dealt.content, *dealt.told[1:]] for name, dealt in sets.items()}
    return identity_of(what, {"shape": asdict(shape), "seed": seed, "rows": told, "format": FORMAT})


@contextmanager
def spread_over(launcher: Any, session: SparkSession, edges: list[np.ndarray], classes: int) -> Iterator[Spread]:
    """Ranks for rows of a session, whose files are there while the block lasts; without a launcher, Horovod's.

    Finished trees stay in the folder of a launcher that resumes.
    """
    with tempfile.TemporaryDirectory(prefix="iomt-ids-trees-") as elsewhere:
        folder = folder_of(launcher) or Path(elsewhere)
        folder.mkdir(parents=True, exist_ok=True)
        spread = Spread(launcher or HorovodLauncher(session), folder, edges, classes)
        try:
            yield spread
        finally:
            shutil.rmtree(spread.work, ignore_errors=True)
