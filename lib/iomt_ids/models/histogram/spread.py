"""Trees that ranks grow together: every rank keeps a part of the rows, as bytes, and histograms are added up.

Parts are ranges of `flow_id`. Each task bins its rows and writes them in order; a rank (`ranks`) reads what is its of every
task's file, and they grow the trees together (`levels`, `boost`): no row goes through the driver, or is shuffled. The
first rank leaves finished trees in the run's folder, where the driver finds them: they never travel in one piece, and a dead rank
costs what was not finished.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.checkpoint import identity_of
from iomt_ids.distributed.chunks import Chunks
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.resume import folder_of
from iomt_ids.distributed.work import Work
from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.blocks import Block, Source
from iomt_ids.models.histogram.boost import Boosting, BoostShape
from iomt_ids.models.histogram.forest import Forest, Shape
from iomt_ids.models.histogram.keep import forest_chunks, kept_trees
from iomt_ids.models.histogram.levels import SMALL
from iomt_ids.models.histogram.ranks import MODEL, boost_rank, boosting_from_bytes, grow_rank, row_type, rows_of
from iomt_ids.models.histogram.sketch import Sketch

# Parts a rank, so that fewer ranks than there were can share them evenly.
_PARTS_A_RANK = 4
_DEALT = "path string, starts array<bigint>, content array<string>"
_FIRST, _SECOND, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(31)
# Files, each with where every part of its rows starts and the last one ends; and hashes of all rows, however they are dealt.
_Dealt = tuple[list[tuple[str, list[int]]], list[str]]


class Spread:
    """Rows on disk, and the ranks that will read them.

    Parameters
    ----------
    launcher : Launcher
        Starts the ranks, as many as it has slots.
    folder : Path
        Every node must see it.
    sketch : Sketch
        Of the rows.
    edges : list of ndarray of float64
        Thresholds between the bins of each feature.
    """

    def __init__(self, launcher: Any, folder: Path, sketch: Sketch, edges: list[np.ndarray]) -> None:
        self.launcher, self.folder = launcher, folder
        self.edges, self.classes = edges, sketch.counts.size
        self.ranks = max(1, launcher.slots())
        self.bounds = sketch.cut_ids(_PARTS_A_RANK * self.ranks)
        self.work = Path(tempfile.mkdtemp(prefix="bins-", dir=folder))

    def forest(self, rows: Source, shape: Shape, seed: int, *, small: int = SMALL) -> Forest:
        """A forest, tree by tree on all ranks; ``small`` as in `levels.grow_together`."""
        job = self._job("forest", shape, seed, train=self._deal(rows))
        self._run(grow_rank, {**job, "small": small})
        chunks = forest_chunks(shape.trees, rows_of(job))
        found = [kept_trees(wanted, Chunks(self.folder, job["kept"])) for wanted in chunks]
        return Forest(tuple(tree for trees in self._all(found) for tree in trees), len(self.edges), self.classes)

    def boosting(
        self, rows: Source, unseen: Source | None, shape: BoostShape, seed: int
    ) -> tuple[Boosting, list[dict[str, float]]]:
        """Boosted trees, round by round on all ranks; see `boost.boost`."""
        held_out = {} if unseen is None else {"unseen": self._deal(unseen)}
        job = self._job("boosting", shape, seed, train=self._deal(rows), **held_out)
        self._run(boost_rank, job)
        (content,) = self._all([Chunks(self.folder, job["kept"]).load(MODEL)])
        return boosting_from_bytes(content, len(self.edges))

    def _run(self, function: Callable[..., Any], job: dict[str, Any]) -> None:
        # An executor may have died since: the trees are the same on fewer ranks.
        ranks = max(1, min(self.ranks, self.launcher.slots()))
        self.launcher.run(Work(f"{function.__module__}:{function.__name__}", job, has_tensors=False), ranks)

    def _all(self, found: list[Any]) -> list[Any]:
        if any(one is None for one in found):
            raise LaunchError(f"what ranks have learnt is not in {self.folder}; every node must see the run's folder")
        return found

    def _job(self, what: str, shape: Any, seed: int, **dealt: _Dealt) -> dict[str, Any]:
        asked = {"shape": asdict(shape), "seed": seed, "edges": [e.tolist() for e in self.edges], "classes": self.classes}
        kept = identity_of(what, {**asked, "rows": {name: content for name, (_, content) in dealt.items()}})
        return {**asked, "files": {name: files for name, (files, _) in dealt.items()}, "folder": str(self.folder), "kept": kept}

    def _deal(self, rows: Source) -> _Dealt:
        found = rows.map(_writing(self.work, self.edges, self.bounds), _DEALT).to_pylist()
        hashes = [f"{sum(int(part['content'][i]) for part in found) % 2**64:016x}" for i in range(2)]
        return [(part["path"], part["starts"]) for part in found], hashes


@contextmanager
def spread_over(
    launcher: Any, session: SparkSession, sketch: Sketch, edges: list[np.ndarray]
) -> Iterator[Spread]:
    """Ranks for rows of a session, whose files are there while the block lasts; without a launcher, Horovod's.

    Finished trees stay in the folder of a launcher that resumes.
    """
    with tempfile.TemporaryDirectory(prefix="iomt-ids-trees-") as elsewhere:
        folder = folder_of(launcher) or Path(elsewhere)
        folder.mkdir(parents=True, exist_ok=True)
        spread = Spread(launcher or HorovodLauncher(session), folder, sketch, edges)
        try:
            yield spread
        finally:
            shutil.rmtree(spread.work, ignore_errors=True)


def _writing(
    folder: Path, edges: Sequence[np.ndarray], bounds: np.ndarray
) -> Callable[[Iterator[Block]], Iterator[pa.RecordBatch]]:
    def write(blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
        parts = [(ids, labels, weights, bin_rows(values, edges)) for ids, labels, weights, values in blocks]
        if not parts:
            return
        ids, labels, weights, columns = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
        rows = np.empty(ids.size, row_type(len(edges)))
        rows["id"], rows["weight"], rows["label"], rows["bins"] = ids, weights, labels, columns.T
        rows = rows[np.argsort(ids, kind="stable")]
        path = folder / f"{uuid.uuid4().hex}.npy"  # another attempt writes another file
        np.save(path, rows)
        starts = [0, *np.searchsorted(rows["id"], bounds).tolist(), ids.size]
        content = [str(part) for part in _hashes(ids, labels, weights, columns)]
        yield pa.RecordBatch.from_pylist([{"path": str(path), "starts": starts, "content": content}])

    return write


def _hashes(ids: np.ndarray, labels: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> tuple[int, int]:
    """Two sums of hashes of the rows, which no order of them changes."""
    hashed = ids.view(np.uint64) * _FIRST
    for values in (labels, weights, *columns):
        hashed = (hashed ^ (hashed >> _SHIFT) ^ values.astype(np.uint64)) * _SECOND
    again = (hashed ^ (hashed >> _SHIFT)) * _FIRST
    return int(hashed.sum(dtype=np.uint64)), int(again.sum(dtype=np.uint64))
