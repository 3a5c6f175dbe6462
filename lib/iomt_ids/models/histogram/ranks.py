"""What each rank does with what `spread` has dealt.

A rank is a process that starts for every fit: what takes long to import and is not needed to grow trees stays out of here, and
what takes long to load is loaded by the process that it is a fork of, which lives for more fits than one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.distributed.chunks import Chunks, SharedChunks
from iomt_ids.distributed.work import Alone, Gathering
from iomt_ids.models.histogram.boost import Boosting, BoostShape, RegressionTree, boost, losses_of
from iomt_ids.models.histogram.forest import Binned, Shape
from iomt_ids.models.histogram.keep import forest_chunks, keep_trees, missing_chunks, trees_from_bytes, trees_to_bytes
from iomt_ids.models.histogram.levels import grow_together
from iomt_ids.models.histogram.memory import Memory
from iomt_ids.models.histogram.pieces import read_told

# Chunks of trees that grow in step: ranks wait for each other half as often, and more trees would crowd each other out of caches.
_IN_STEP = 2
# The name under which all of a boosted model is kept.
MODEL = "boosting"


@cache
def load() -> None:
    """Have numba load, or make, all machine code that ranks run: a third of a second."""
    rows = 64
    few = Binned(
        np.arange(2 * rows, dtype=np.uint8).reshape(2, rows) // 8 % 8, np.arange(rows, dtype=np.uint8) % 3, np.ones(rows, np.int64),
        np.arange(rows, dtype=np.uint32), [np.arange(7.0)] * 2, 3,
    )
    grow_together(few, Shape(1, 6, 8, "1", 1), 0, [0], Alone(), small=rows // 4)
    boost(few, BoostShape(1, 2, 8, 0.1), 0, threads=1, unseen=few, ranks=_WithoutOthers())


class _WithoutOthers(Alone):
    """As if there were another rank, without rows: trees grow level by level."""

    size = 2


def grow_rank(job: dict[str, Any], ranks: Gathering) -> tuple[dict[str, Any], bytes]:
    """What one rank does for a forest; see `distributed.work.Work`."""
    share, kept = share_of(job, "train", ranks), SharedChunks(Chunks(Path(job["folder"]), job["kept"]), ranks)
    shape = Shape(**job["shape"])

    missing = missing_chunks(forest_chunks(shape.trees, job["rows"]), kept)
    memory = Memory()
    for some in (missing[i : i + _IN_STEP] for i in range(0, len(missing), _IN_STEP)):
        wanted = [index for chunk in some for index in chunk]
        grown = iter(grow_together(share, shape, job["seed"], wanted, ranks, small=job["small"], memory=memory))
        for chunk in some:
            keep_trees(chunk, kept, [next(grown) for _ in chunk])
    return {"rows": int(share.labels.size)}, b""


def boost_rank(job: dict[str, Any], ranks: Gathering) -> tuple[dict[str, Any], bytes]:
    """What one rank does for boosted trees; see `distributed.work.Work`."""
    share, kept = share_of(job, "train", ranks), SharedChunks(Chunks(Path(job["folder"]), job["kept"]), ranks)
    unseen = share_of(job, "unseen", ranks) if "unseen" in job["sets"] else None
    learnt = boost(share, BoostShape(**job["shape"]), job["seed"], threads=1, unseen=unseen, kept=kept, ranks=ranks)
    kept.save(MODEL, boosting_to_bytes(*learnt))
    return {"rows": int(share.labels.size)}, b""


def share_of(job: dict[str, Any], name: str, ranks: Gathering) -> Binned:
    """The rows of one rank; raises as `pieces.read_pieces`."""
    return read_told(job["sets"][name], ranks.rank, ranks.size)


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
