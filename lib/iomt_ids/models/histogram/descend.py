"""Which leaf of a tree each row falls into, from bytes; compiled. Growing, boosting and scoring all come through here."""

from __future__ import annotations

from typing import Any

import numpy as np

from iomt_ids.distributed.compiled import compiled

_BLOCK = 256
_SHIFT, _PLACE, _LOW = np.int64(16), np.int64(32), np.int64(0xFFFF)


@compiled
def pack_nodes(feature: np.ndarray, cut: np.ndarray, right: np.ndarray) -> Any:
    """A tree in pre-order as one 64-bit word a node: how far the right child is behind the left, feature, cut plus one.

    No bin is below a leaf's cut plus one, 0, and its skip of -1 leads back to the leaf: rows wait there until the last
    one has arrived.
    """
    nodes = np.empty(feature.size, np.int64)
    for i in range(feature.size):
        if feature[i] < 0:
            nodes[i] = np.int64(-1) << _PLACE
        else:
            skip = np.int64(right[i]) - i - 1
            nodes[i] = (skip << _PLACE) | (np.int64(feature[i]) << _SHIFT) | (np.int64(cut[i]) + 1)
    return nodes


@compiled
def find_leaves(table: np.ndarray, nodes: np.ndarray, leaves: np.ndarray) -> None:
    """The leaf of every row.

    Parameters
    ----------
    table : ndarray of uint8 or uint16, shape (rows, features)
    nodes : ndarray of int64
        From `pack_nodes`.
    leaves : ndarray of int32, shape (rows,)
        Written here.
    """
    for start in range(0, table.shape[0], _BLOCK):
        block, at = table[start : start + _BLOCK], leaves[start : start + _BLOCK]
        at[:] = 0
        moved = True
        while moved:
            moved = _step(block, nodes, at)


@compiled
def _step(block: np.ndarray, nodes: np.ndarray, at: np.ndarray) -> bool:
    # All rows of a block step down together, without a branch that depends on data.
    changed = np.int64(0)
    for i in range(at.size):
        node = nodes[np.uint32(at[i])]
        goes_right = np.int64(np.int64(block[i, np.uint64((node >> _SHIFT) & _LOW)]) >= (node & _LOW))
        step = 1 + (-goes_right & (node >> _PLACE))
        changed |= step
        at[i] += np.int32(step)
    return changed != 0
