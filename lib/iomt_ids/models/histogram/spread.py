"""Trees that ranks grow together: every rank keeps a part of the rows, as bytes, and histograms are added up.

Parts are ranges of `flow_id`. Each task bins its rows and writes them in order; a rank (`distributed.launch`) reads what is its
of every task's file, and they grow the trees together (`levels`, `boost`): no row goes through the driver, or is shuffled. The
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.checkpoint import identity_of
from iomt_ids.distributed.chunks import Chunks, SharedChunks
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.resume import ResumingLauncher
from iomt_ids.distributed.work import Summing, Work
from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.blocks import Block, Source
from iomt_ids.models.histogram.boost import Boosting, BoostShape, RegressionTree, boost, losses_of
from iomt_ids.models.histogram.forest import Binned, Forest, Shape, Tree
from iomt_ids.models.histogram.keep import forest_chunks, found_or_grown, kept_trees, trees_from_bytes, trees_to_bytes
from iomt_ids.models.histogram.levels import SMALL, grow_together
from iomt_ids.models.histogram.sketch import Sketch

# Parts a rank, so that fewer ranks than there were can share them evenly.
_PARTS_A_RANK = 4
_DEALT = "path string, starts array<bigint>, content array<string>"
_FIRST, _SECOND, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(31)
_MODEL = "boosting"
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
        chunks = forest_chunks(shape.trees, _rows_of(job))
        found = [kept_trees(wanted, Chunks(self.folder, job["kept"])) for wanted in chunks]
        return Forest(tuple(tree for trees in self._all(found) for tree in trees), len(self.edges), self.classes)

    def boosting(
        self, rows: Source, unseen: Source | None, shape: BoostShape, seed: int
    ) -> tuple[Boosting, list[dict[str, float]]]:
        """Boosted trees, round by round on all ranks; see `boost.boost`."""
        held_out = {} if unseen is None else {"unseen": self._deal(unseen)}
        job = self._job("boosting", shape, seed, train=self._deal(rows), **held_out)
        self._run(boost_rank, job)
        (content,) = self._all([Chunks(self.folder, job["kept"]).load(_MODEL)])
        return boosting_from_bytes(content, len(self.edges))

    def _run(self, function: Callable[..., Any], job: dict[str, Any]) -> None:
        self.launcher.run(Work(f"{function.__module__}:{function.__name__}", job, has_tensors=False), self.ranks)

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
        folder = launcher.folder.absolute() if isinstance(launcher, ResumingLauncher) else Path(elsewhere)
        folder.mkdir(parents=True, exist_ok=True)
        spread = Spread(launcher or HorovodLauncher(session), folder, sketch, edges)
        try:
            yield spread
        finally:
            shutil.rmtree(spread.work, ignore_errors=True)


def grow_rank(job: dict[str, Any], ranks: Summing) -> tuple[dict[str, Any], bytes]:
    """What one rank does for a forest; see `distributed.work.Work`."""
    share, kept = share_of(job, "train", ranks), SharedChunks(Chunks(Path(job["folder"]), job["kept"]), ranks)
    shape = Shape(**job["shape"])

    def grow(wanted: range) -> list[Tree]:
        return [grow_together(share, shape, job["seed"], index, ranks, small=job["small"]) for index in wanted]

    for wanted in forest_chunks(shape.trees, _rows_of(job)):
        found_or_grown(wanted, kept, partial(grow, wanted))
    return {"rows": int(share.labels.size)}, b""


def boost_rank(job: dict[str, Any], ranks: Summing) -> tuple[dict[str, Any], bytes]:
    """What one rank does for boosted trees; see `distributed.work.Work`."""
    share, kept = share_of(job, "train", ranks), SharedChunks(Chunks(Path(job["folder"]), job["kept"]), ranks)
    unseen = share_of(job, "unseen", ranks) if "unseen" in job["files"] else None
    learnt = boost(share, BoostShape(**job["shape"]), job["seed"], threads=1, unseen=unseen, kept=kept, ranks=ranks)
    kept.save(_MODEL, boosting_to_bytes(*learnt))
    return {"rows": int(share.labels.size)}, b""


def share_of(job: dict[str, Any], name: str, ranks: Summing) -> Binned:
    """The rows of one rank: some parts after each other.

    Raises
    ------
    LaunchError
        If a file cannot be read from where this rank runs.
    """
    files, edges = job["files"][name], [np.array(e, np.float64) for e in job["edges"]]
    found, first = [np.empty(0, _row(len(edges)))], 0
    for path, starts in files:
        start, stop = (starts[(len(starts) - 1) * place // ranks.size] for place in (ranks.rank, ranks.rank + 1))
        first += start
        try:
            found.append(np.load(path, mmap_mode="r")[start:stop])
        except OSError as error:
            raise LaunchError(f"{path} cannot be read ({error}); every node must see the run's folder") from error
    rows = np.concatenate(found)
    rows = rows[np.argsort(rows["id"], kind="stable")]
    columns, labels, weights = (np.ascontiguousarray(rows[field].T) for field in ("bins", "label", "weight"))
    return Binned(columns, labels, weights, edges, job["classes"], first)


def _rows_of(job: dict[str, Any]) -> int:
    return sum(starts[-1] for _, starts in job["files"]["train"])


def _row(features: int) -> np.dtype[Any]:
    return np.dtype([("id", np.int64), ("weight", np.int64), ("label", np.uint8), ("bins", np.uint8, (features,))])


def boosting_to_bytes(boosting: Boosting, curves: list[dict[str, float]]) -> bytes:
    """All of a boosted model and its curves."""
    weights = np.array(boosting.weights)
    return trees_to_bytes([tree for trees in boosting.trees for tree in trees], weights=weights, **losses_of(curves))


def boosting_from_bytes(content: bytes, features: int) -> tuple[Boosting, list[dict[str, float]]]:
    """The inverse of `boosting_to_bytes`."""
    trees, more = trees_from_bytes(RegressionTree, content)
    weights = tuple(more.pop("weights"))
    rounds = len(trees) // len(weights)
    models = tuple(tuple(trees[i : i + rounds]) for i in range(0, len(trees), rounds))
    losses = [dict(zip(more, told, strict=True)) for told in zip(*[v.tolist() for v in more.values()], strict=True)]
    curves = [{"epoch": index, **told} for index, told in enumerate(losses, start=1)]
    return Boosting(models, weights, features), curves


def _writing(
    folder: Path, edges: Sequence[np.ndarray], bounds: np.ndarray
) -> Callable[[Iterator[Block]], Iterator[pa.RecordBatch]]:
    def write(blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
        parts = [(ids, labels, weights, bin_rows(values, edges)) for ids, labels, weights, values in blocks]
        if not parts:
            return
        ids, labels, weights, columns = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
        rows = np.empty(ids.size, _row(len(edges)))
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
