"""Trees as bytes, numbers alone and no pickles: what a finished part of a training leaves on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.chunks import Chunks, SharedChunks, chunk_size
from iomt_ids.models.histogram.forest import Tree

T = TypeVar("T")
# Rows times trees that are worth a file: a few hundredths of a second to grow.
_ENOUGH = 500_000
_SIZES = "sizes"
# Of what `trees_to_bytes` writes; parts that were kept in another are another training's.
FORMAT = 2


def trees_to_bytes(trees: Sequence[Any], **more: np.ndarray) -> bytes:
    """Some trees of one kind, and arrays beside them.

    Parameters
    ----------
    trees : sequence of `forest.Tree` or of `boost.RegressionTree`
        At least one.
    more : ndarray
        By names that are no attribute of a tree.
    """
    arrays = {f.name: np.concatenate([getattr(tree, f.name) for tree in trees]) for f in dataclasses.fields(trees[0])}
    arrays |= {_SIZES: np.array([tree.feature.size for tree in trees]), **more}
    head = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
    # NumPy's own files would take longer than it takes to send a small tree.
    return b"".join([head, b"\n", *(array.tobytes() for array in arrays.values())])


def trees_from_bytes(kind: type, content: bytes) -> tuple[list[Any], dict[str, np.ndarray]]:
    """The inverse of `trees_to_bytes`, to the last bit."""
    at, arrays = content.index(b"\n") + 1, dict[str, np.ndarray]()
    for name, dtype, shape in json.loads(content[:at]):
        arrays[name] = np.ndarray(shape, dtype, content, at).copy()
        at += arrays[name].nbytes
    starts = np.cumsum(arrays.pop(_SIZES))[:-1]
    parts = {f.name: np.split(arrays.pop(f.name), starts) for f in dataclasses.fields(kind)}
    return [kind(**dict(zip(parts, of_one, strict=True))) for of_one in zip(*parts.values(), strict=True)], arrays


def forest_chunks(trees: int, rows: int) -> list[range]:
    """Trees of a forest that are kept together; how many cores there are changes nothing."""
    size = chunk_size(trees, rows, _ENOUGH)
    return [range(first, min(first + size, trees)) for first in range(0, trees, size)]


def missing_chunks(chunks: Sequence[range], kept: SharedChunks) -> list[range]:
    """Those whose trees are not kept."""
    lacking = kept.missing([_name(wanted) for wanted in chunks])
    return [wanted for wanted in chunks if _name(wanted) in lacking]


def kept_trees(wanted: range, kept: Chunks) -> list[Tree] | None:
    """Neighbouring trees of a forest, if they are kept."""
    found = kept.load(_name(wanted))
    return trees_from_bytes(Tree, found)[0] if found else None


def all_trees(chunks: Sequence[range], kept: Chunks) -> list[Tree]:
    """All trees of a forest, whose last one has been kept elsewhere.

    Raises
    ------
    LaunchError
        If some are not there.
    """
    found = [kept_trees(wanted, kept) for wanted in chunks]
    return [tree for trees in seen(found, kept.folder) for tree in trees]


def seen(found: Sequence[T | None], folder: Path | None) -> list[T]:
    """What others have left in a folder; raises as `all_trees`."""
    there = [one for one in found if one is not None]
    if len(there) < len(found):
        raise LaunchError(f"what was learnt elsewhere is not in {folder}; every node must see the run's folder")
    return there


def found_or_grown(wanted: range, kept: Chunks, grow: Callable[[], list[Tree]]) -> list[Tree]:
    """Neighbouring trees of a forest: those that are kept, or grown, and kept from now on."""
    if (trees := kept_trees(wanted, kept)) is None:
        trees = grow()
        keep_trees(wanted, kept, trees)
    return trees


def keep_trees(wanted: range, kept: Chunks | SharedChunks, trees: list[Tree]) -> None:
    """Leave neighbouring trees of a forest for whoever goes on."""
    kept.save(_name(wanted), trees_to_bytes(trees))


def _name(wanted: range) -> str:
    return f"trees-{wanted.start:05d}-{wanted.stop:05d}"
