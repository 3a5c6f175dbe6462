"""Which leaf of a tree each row falls into, from bytes; compiled. Boosting and scoring come through here."""

from __future__ import annotations

from typing import Any

import numpy as np

from iomt_ids.distributed.compiled import compiled

# Rows that go down together: their bins and a tree stay in the nearest cache.
BLOCK = 1024
# Levels that are compared node by node, for all rows at once; below them there are more nodes than that is worth.
_TOP = 7
_FEATURE, _CUT, _LEFT = np.uint32(0), np.uint32(1), np.uint32(2)


@compiled
def pack_nodes(feature: np.ndarray, cut: np.ndarray, right: np.ndarray) -> Any:
    """A tree in pre-order, four numbers a node: feature, cut plus one, left and right child.

    No bin is below a leaf's cut plus one, 0, and its children are the leaf: rows wait there until the last one has arrived.
    """
    nodes = np.zeros((feature.size, 4), np.int32)
    for i in range(feature.size):
        if feature[i] < 0:
            nodes[i, 2:] = i
        else:
            nodes[i, 0], nodes[i, 1], nodes[i, 2], nodes[i, 3] = feature[i], cut[i] + 1, i + 1, right[i]
    return nodes


@compiled
def find_leaves(columns: np.ndarray, nodes: np.ndarray, leaves: np.ndarray) -> None:
    """The leaf of every row.

    Parameters
    ----------
    columns : ndarray of uint8 or uint16, shape (features, rows)
    nodes : ndarray of int32, shape (nodes, 4)
        From `pack_nodes`.
    leaves : ndarray of int32, shape (rows,)
        Written here.
    """
    places, cut = np.empty(2**_TOP, np.int32), np.empty(1, columns.dtype)
    slots, goes_right = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.uint8)
    for start in range(0, leaves.size, BLOCK):
        block, at = columns[:, start : start + BLOCK], leaves[start : start + BLOCK]
        _descend_top(block, nodes, places, cut, slots[: at.size], goes_right[: at.size])
        for i in range(at.size):
            at[i] = places[slots[i]]
        while _step(block, nodes, at):
            pass


@compiled
def _descend_top(
    block: np.ndarray, nodes: np.ndarray, places: np.ndarray, cut: np.ndarray, slots: np.ndarray, goes_right: np.ndarray
) -> None:
    # A slot is a row's place in its level of a complete tree: the processor compares dozens of rows at a time with one
    # node, and keeps what is true of those that are in its slot.
    places[0] = 0
    slots[:] = 0
    width = 1
    for _ in range(_TOP):
        moved = False
        goes_right[:] = 0
        for slot in range(width - 1, -1, -1):
            node = nodes[places[slot]]
            if node[1] > 0:
                moved = True
                cut[0] = node[1]  # of the kind that bins are of, or they would be compared one by one
                _mark(block[node[0]], slots, np.uint8(slot), cut[0], goes_right)
            places[2 * slot], places[2 * slot + 1] = node[2], node[3]
        if not moved:
            for slot in range(width):  # nothing but leaves
                places[slot] = places[2 * slot]
            return
        for i in range(slots.size):
            slots[i] = np.uint8(slots[i] + slots[i]) | goes_right[i]
        width *= 2


@compiled
def _mark(column: np.ndarray, slots: np.ndarray, slot: np.uint8, cut: Any, goes_right: np.ndarray) -> None:
    for i in range(slots.size):
        goes_right[i] |= np.uint8(slots[i] == slot) & np.uint8(column[i] >= cut)


@compiled
def _step(block: np.ndarray, nodes: np.ndarray, at: np.ndarray) -> bool:
    # All rows of a block step down together. The child is looked up and not computed: of a sum or a choice the compiler
    # makes a branch, which a processor guesses wrong for every other row.
    changed = np.int32(0)
    for i in range(at.size):
        here = np.uint32(at[i])
        is_right = np.uint32(np.int32(block[np.uint32(nodes[here, _FEATURE]), i]) >= nodes[here, _CUT])
        child = nodes[here, _LEFT + is_right]
        changed |= child ^ np.int32(here)
        at[i] = child
    return changed != 0
