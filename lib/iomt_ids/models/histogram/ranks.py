"""What each rank does with what `spread` has dealt.

A rank is a process that starts for every fit: what takes long to import and is not needed to grow trees stays out of here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.chunks import Chunks, SharedChunks
from iomt_ids.distributed.work import Gathering
from iomt_ids.models.histogram.boost import Boosting, BoostShape, RegressionTree, boost, losses_of
from iomt_ids.models.histogram.forest import Binned, Shape, Tree
from iomt_ids.models.histogram.keep import forest_chunks, found_or_grown, trees_from_bytes, trees_to_bytes
from iomt_ids.models.histogram.levels import grow_together
from iomt_ids.models.histogram.order import side_by_side

# The name under which all of a boosted model is kept.
MODEL = "boosting"


def grow_rank(job: dict[str, Any], ranks: Gathering) -> tuple[dict[str, Any], bytes]:
    """What one rank does for a forest; see `distributed.work.Work`."""
    share, kept = share_of(job, "train", ranks), SharedChunks(Chunks(Path(job["folder"]), job["kept"]), ranks)
    shape = Shape(**job["shape"])

    def grow(wanted: range) -> list[Tree]:
        return [grow_together(share, shape, job["seed"], index, ranks, small=job["small"]) for index in wanted]

    for wanted in forest_chunks(shape.trees, rows_of(job)):
        found_or_grown(wanted, kept, partial(grow, wanted))
    return {"rows": int(share.labels.size)}, b""


def boost_rank(job: dict[str, Any], ranks: Gathering) -> tuple[dict[str, Any], bytes]:
    """What one rank does for boosted trees; see `distributed.work.Work`."""
    share, kept = share_of(job, "train", ranks), SharedChunks(Chunks(Path(job["folder"]), job["kept"]), ranks)
    unseen = share_of(job, "unseen", ranks) if "unseen" in job["files"] else None
    learnt = boost(share, BoostShape(**job["shape"]), job["seed"], threads=1, unseen=unseen, kept=kept, ranks=ranks)
    kept.save(MODEL, boosting_to_bytes(*learnt))
    return {"rows": int(share.labels.size)}, b""


def share_of(job: dict[str, Any], name: str, ranks: Gathering) -> Binned:
    """The rows of one rank: some parts after each other.

    Raises
    ------
    LaunchError
        If a file cannot be read from where this rank runs.
    """
    files, edges = job["files"][name], [np.array(e, np.float64) for e in job["edges"]]
    found, first = [np.empty(0, row_type(len(edges)))], 0
    for path, starts in files:
        start, stop = (starts[(len(starts) - 1) * place // ranks.size] for place in (ranks.rank, ranks.rank + 1))
        first += start
        try:
            found.append(np.load(path, mmap_mode="r")[start:stop])
        except OSError as error:
            raise LaunchError(f"{path} cannot be read ({error}); every node must see the run's folder") from error
    rows = np.concatenate(found)
    columns, labels, weights = (np.ascontiguousarray(rows[field].T) for field in ("bins", "label", "weight"))
    return side_by_side(columns, labels, weights, edges, job["classes"], ids=rows["id"], first=first)


def rows_of(job: dict[str, Any]) -> int:
    """All rows to learn from."""
    return sum(starts[-1] for _, starts in job["files"]["train"])


def row_type(features: int) -> np.dtype[Any]:
    """A row as it lies on disk."""
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
