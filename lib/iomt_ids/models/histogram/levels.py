"""Trees whose rows lie on several ranks: each node's histograms are filled where its rows are, and added up.

Every rank knows the same nodes, sums and cuts, and only its own rows. Sums are whole numbers, so the trees are those that
`grow` and `newton` grow from all rows in one place, to the last bit. Large nodes are split in groups, whose histograms
travel together and are bounded in memory. A node of few rows has more bytes of histograms below it than of rows: its rows
are brought to one rank, which grows all that is below it (as Cisco's ORaF does for MLlib's forest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ContractError
from iomt_ids.distributed.work import Gathering, gather_bytes
from iomt_ids.models.histogram.forest import (
    MOST_WEIGHT,
    Binned,
    Shape,
    Tree,
    features_wanted,
    seeds_of,
    thresholds_of,
)
from iomt_ids.models.histogram.grow import (
    PLUS,
    add_rows,
    all_seen,
    best_of,
    bootstrap_rows,
    class_weights,
    divide,
    draw_features,
    grow_tree,
    put_columns,
)
from iomt_ids.models.histogram.keep import trees_from_bytes, trees_to_bytes
from iomt_ids.models.histogram.memory import Memory, Room, first_of
from iomt_ids.models.histogram.newton import LOW_HALF, best_split, fill
from iomt_ids.models.histogram.steps import Steps, in_step

# Weight of a node that one rank grows by itself: with 42 features its rows are a few megabytes, histograms below it as many.
SMALL = 1 << 17
# Of histograms that travel at once.
_MOST_BYTES = 32 << 20
# Of all ranks' rows that do: ranks wait for each other at every journey, and of more nodes can be given out evenly.
_MOST_BYTES_OF_ROWS = 128 << 20
# Bytes of a row's class and how often it counts.
_CODE = 4
# Where a node's block may begin: at a whole number of codes.
_ALIGNED = 8


@dataclass
class Branch:
    """A node on every rank.

    Attributes
    ----------
    start, stop : int
        Where this rank's rows of it are.
    sums : ndarray or int
        Of all ranks' rows: counts of classes, or gradient and curvature in one word.
    level, path : int
        The root is at level 0 and has path 1; children have twice the path, the right one 1 more.
    feature, cut, gain : int, int, float
        Of its split; -1 at a leaf.
    left, right : Branch or None
    below : Tree or None
        Itself and all below it, if one rank has grown that.
    """

    start: int
    stop: int
    sums: Any
    level: int
    path: int
    feature: int = -1
    cut: int = -1
    gain: float = -1.0
    left: Branch | None = None
    right: Branch | None = None
    below: Tree | None = None

    def split(self, feature: int, cut: int, middle: int, left: Any, right: Any) -> list[Branch]:
        """Its children, the left one first; given the place of the right one's rows and the sums of both."""
        self.feature, self.cut = int(feature), int(cut)
        self.left = Branch(self.start, middle, left, self.level + 1, 2 * self.path)
        self.right = Branch(middle, self.stop, right, self.level + 1, 2 * self.path + 1)
        return [self.left, self.right]


class Rows:
    """This rank's rows of a tree, those of a node side by side."""

    def __init__(self, rows: np.ndarray, codes: np.ndarray, spare: np.ndarray, spare_codes: np.ndarray) -> None:
        self.rows, self.codes, self._spare, self._spare_codes = rows, codes, spare, spare_codes

    def of(self, node: Branch) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a node and what they stand for."""
        return self.rows[node.start : node.stop], self.codes[node.start : node.stop]

    def divide(self, node: Branch, column: np.ndarray, cut: int) -> int:
        """Put the rows of the left side first; where the right side starts."""
        return node.start + int(divide(column, cut, *self.of(node), self._spare, self._spare_codes))


def grow_together(
    share: Binned, shape: Shape, seed: int, wanted: Sequence[int], ranks: Gathering, *, small: int = SMALL,
    memory: Memory | None = None,
) -> list[Tree]:
    """Some trees of a forest, in step, as `forest.grow` grows them from the rows of all ranks.

    Parameters
    ----------
    share : Binned
        This rank's rows.
    wanted : sequence of int
        Indices of the trees.
    small : int
        Nodes up to this weight are grown by one rank.
    memory : Memory, optional
        Of trees before these.
    """
    memory = memory or Memory()
    trees = [_ForestTree(share, shape, seed, index, memory.room(share.labels.size, i)) for i, index in enumerate(wanted)]
    few = in_step(ranks, [tree.grow_large(small, _MOST_BYTES // len(trees)) for tree in trees])
    below = [(tree, node) for tree, nodes in zip(trees, few, strict=True) for node in nodes]
    _Below(share, ranks, memory, below).grow(wanted[0] // len(wanted))
    return [spliced(tree.root, share) for tree in trees]


class _ForestTree:
    # Of `grow_large`.
    root: Branch
    rows: Rows

    def __init__(self, share: Binned, shape: Shape, seed: int, index: int, room: Room) -> None:
        self.share, self.shape, self.room = share, shape, room
        self.n_bins = np.array([e.size + 1 for e in share.edges], np.int64)
        self.wanted = features_wanted(shape.features_per_node, self.n_bins.size)
        counted = int(self.n_bins.max()) * share.classes
        self.stride = counted + counted % 2  # see _histograms: counts travel in pairs
        self.bag, self.seed = seeds_of(seed, index)

    def grow_large(self, small: int, most_bytes: int) -> Steps:
        """Split all nodes of more than this weight, with no more bytes of histograms at once; the others that can be split."""
        n, _, most = bootstrap_rows(self.share.labels, self.share.weights, self.share.marks, self.bag, *self.room[:2])
        self.rows = Rows(*first_of(self.room, n))
        told = yield np.append(class_weights(self.rows.codes, self.share.classes), int(most >= 2**24))
        if told[-1]:
            raise ContractError("random_forest: one row more than 2**24 times")
        self.root = Branch(0, self.rows.rows.size, told[:-1], 0, 1)
        if self.root.sums.sum() > MOST_WEIGHT:
            raise ContractError("random_forest: more than 2**31 - 1 rows")
        waiting: list[list[Branch]] = [[self.root]]
        few: list[Branch] = []
        at_once = max(1, most_bytes // (4 * self.wanted * self.stride))
        while waiting:
            large: list[Branch] = []
            for node in filter(self._can_split, waiting.pop()):
                (few if node.sums.sum() <= small else large).append(node)
            children = (yield from self._split(large, most_bytes)) if large else []
            waiting += [children[i : i + at_once] for i in range(0, len(children), at_once)][::-1]
        return few

    def _can_split(self, node: Branch) -> bool:
        enough = node.sums.sum() >= 2 * self.shape.rows_per_leaf and np.count_nonzero(node.sums) > 1
        return node.level < self.shape.depth and bool(enough)

    def _split(self, nodes: list[Branch], most_bytes: int) -> Steps:
        orders = np.empty((len(nodes), self.n_bins.size), np.int64)
        for order, node in zip(orders, nodes, strict=True):
            draw_features(order, self.seed, np.uint64(node.path), self.wanted)
        slabs = yield from self._histograms(nodes, orders[:, : self.wanted])
        stuck = [i for i, node in enumerate(nodes) if not self._choose(node, orders[i], slabs[i])]
        at_once = max(1, most_bytes // (4 * self.n_bins.size * self.stride))
        for start in range(0, len(stuck) if self.wanted < self.n_bins.size else 0, at_once):
            some = stuck[start : start + at_once]
            others = yield from self._histograms([nodes[i] for i in some], orders[some, self.wanted :])
            for i, slab in zip(some, others, strict=True):
                self._choose(nodes[i], orders[i, self.wanted :], slab, ends_at_first=True)
        return [child for node in nodes if node.left and node.right for child in (node.left, node.right)]

    def _histograms(self, nodes: list[Branch], features: np.ndarray) -> Steps:
        """Of some features of each node, over the rows of all ranks."""
        slabs = np.zeros((*features.shape, self.stride), np.uint32)
        places, classes = np.arange(features.shape[1]), np.uint32(self.share.classes)
        for of_node, mine, node in zip(slabs, features, nodes, strict=True):
            add_rows(of_node, places, self.share.columns, mine, *self.rows.of(node), classes, PLUS)
        # Two counts travel as one number: all rows weigh less than 2**31, so no half of it runs over.
        return (yield slabs.view(np.int64)).view(np.uint32)

    def _choose(self, node: Branch, features: np.ndarray, slabs: np.ndarray, *, ends_at_first: bool = False) -> bool:
        """Split a node by the best of these features, or by the first that splits."""
        least = self.shape.rows_per_leaf
        place, cut, gain, left = best_of(slabs, self.n_bins[features[: len(slabs)]], node.sums, least, ends_at_first)
        if place < 0:
            return False
        feature = features[place]
        node.gain = gain
        node.split(feature, cut, self.rows.divide(node, self.share.columns[feature], cut), left, node.sums - left)
        return True

    def grow_below(self, node: Branch, columns: np.ndarray, codes: np.ndarray) -> Tree:
        """All below a node, from its rows alone, with cuts for thresholds; see `spliced`."""
        feature, cut, right, counts, gain = grow_tree(
            columns, self.n_bins, all_seen(codes), self.share.classes, self.shape.depth - node.level, self.wanted,
            self.shape.rows_per_leaf, self.seed, np.uint64(node.path),
        )
        return Tree(feature, cut.astype(np.float64), right, counts.astype(np.int64), gain)


class _Below:
    """Nodes of few rows of some trees, each of which one rank grows."""

    def __init__(self, share: Binned, ranks: Gathering, memory: Memory, nodes: list[tuple[_ForestTree, Branch]]) -> None:
        self.share, self.ranks, self.memory, self.nodes = share, ranks, memory, nodes

    def grow(self, first: int) -> None:
        """Give each node's rows to one rank, and everybody what it has grown of them; the largest one's to this, modulo ranks."""
        counts = np.array(self.ranks.gather(np.array([node.stop - node.start for _, node in self.nodes], np.int64)))
        rows = counts.sum(axis=0)
        owners, journeys = np.zeros(rows.size, np.int64), np.cumsum(rows) * self._bytes_a_row // _MOST_BYTES_OF_ROWS
        mine: list[Tree] = []
        for journey in np.unique(journeys):
            some = np.flatnonzero(journeys == journey)
            owners[some] = owners_of(rows[some], self.ranks.size, first)
            for (tree, node), columns, codes in self._brought(some, counts, owners):
                mine.append(tree.grow_below(node, columns, codes))
        for rank, content in enumerate(gather_bytes(self.ranks, trees_to_bytes(mine) if mine else b"")):
            theirs = [self.nodes[j][1] for j in np.flatnonzero(owners == rank)]
            for node, grown in zip(theirs, trees_from_bytes(Tree, content)[0] if content else [], strict=True):
                node.below = grown

    @property
    def _bytes_a_row(self) -> int:
        """Of what is brought to another rank: bins and a code."""
        return len(self.share.edges) + _CODE

    def _brought(
        self, some: np.ndarray, counts: np.ndarray, owners: np.ndarray
    ) -> Iterator[tuple[tuple[_ForestTree, Branch], np.ndarray, np.ndarray]]:
        """Those of some nodes that are this rank's to grow, with bins and codes of all ranks' rows."""
        own = self.ranks.rank
        of_rank = [some[owners[some] == rank] for rank in range(self.ranks.size)]
        mine, given = of_rank[own], [self._places(counts[own, theirs]) for theirs in of_rank]

        def fill(rank: int, into: np.ndarray) -> None:
            theirs = of_rank[rank]
            if rank != own:
                self._put(theirs, into, given[rank], np.zeros_like(theirs), counts[own, theirs])

        told = self.ranks.swap([0 if rank == own else int(places[-1]) for rank, places in enumerate(given)], fill)
        heard, whole = [self._places(of_one) for of_one in counts[:, mine]], counts[:, mine].sum(axis=0)
        places, befores = self._places(whole), np.cumsum(counts[:, mine], axis=0) - counts[:, mine]
        into = self.memory.array("below", int(places[-1]), np.uint8)
        self._put(mine, into, places, befores[own], whole)
        for i, (j, n) in enumerate(zip(mine.tolist(), whole.tolist(), strict=True)):
            codes, bins = self._block(into, places[i], n)
            for rank in set(range(self.ranks.size)) - {own}:
                here = slice(befores[rank, i], befores[rank, i] + counts[rank, j])
                codes[here], bins[:, here] = self._block(told[rank], heard[rank][i], counts[rank, j])
            yield self.nodes[j], bins, codes.reshape(-1).view(np.uint32)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Where blocks of nodes of so many rows begin, side by side, and the last ends."""
        rooms = -(-rows * self._bytes_a_row // _ALIGNED) * _ALIGNED
        return np.concatenate([[0], np.cumsum(rooms)]).astype(np.int64)

    def _block(self, held: np.ndarray, place: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """The codes and the bins of a node."""
        block = held[place : place + rows * self._bytes_a_row]
        return block[: rows * _CODE].reshape(rows, _CODE), block[rows * _CODE :].reshape(len(self.share.edges), rows)

    def _put(
        self, nodes: np.ndarray, into: np.ndarray, places: np.ndarray, befores: np.ndarray, sizes: np.ndarray
    ) -> None:
        """Write codes and bins of some nodes' rows into their blocks, which are of so many rows, behind so many of other ranks."""
        held = [tree.rows.of(node) for tree, node in (self.nodes[j] for j in nodes)]
        ends = np.cumsum([rows.size for rows, _ in held], dtype=np.int64)
        rows = self.memory.array("rows below", int(ends[-1]) if held else 0, np.uint32)
        for (of_node, codes), end, place in zip(held, ends, places[:-1] + befores * _CODE, strict=True):
            rows[end - of_node.size : end] = of_node
            into[place : place + codes.nbytes] = codes.view(np.uint8)
        put_columns(self.share.columns, rows, ends, into, places[:-1] + sizes * _CODE + befores, sizes)


def owners_of(rows: np.ndarray, ranks: int, first: int) -> np.ndarray:
    """Which rank grows each node of so many rows: the largest to ``first``, modulo ranks, then each to whoever has least to do."""
    owners, loads = np.empty(rows.size, np.int64), np.zeros(ranks, np.int64)
    # Groups of trees begin with different ranks: often one node has most of the rows.
    turns = np.roll(np.arange(ranks), -first)
    for j in np.argsort(-rows, kind="stable"):
        owners[j] = turns[np.argmin(loads[turns])]
        loads[owners[j]] += rows[j]
    return owners


def spliced(root: Branch, share: Binned) -> Tree:
    """The whole tree in pre-order, with what single ranks have grown in its place; thresholds are looked up once, from cuts."""
    above: list[tuple[int, Branch, int]] = []
    below: list[tuple[int, Tree]] = []

    def put(node: Branch, at: int) -> int:
        if node.below is not None:
            below.append((at, node.below))
            return at + node.below.feature.size
        right = -1 if node.left is None else put(node.left, at + 1)
        above.append((at, node, right))
        return at + 1 if node.right is None else put(node.right, right)

    size = put(root, 0)
    feature, cut, right = np.empty((3, size), np.int32)
    counts, gain = np.empty((size, share.classes), np.int64), np.empty(size)
    for at, node, after in above:
        feature[at], cut[at], right[at], counts[at], gain[at] = node.feature, node.cut, after, node.sums, node.gain
    for at, tree in below:
        here = slice(at, at + tree.feature.size)
        feature[here], cut[here], counts[here], gain[here] = tree.feature, tree.threshold, tree.counts, tree.gain
        right[here] = np.where(tree.right >= 0, tree.right + at, -1)
    return Tree(feature, thresholds_of(share.edges, feature, cut), right, counts, gain)


def grow_newton_steps(
    table: np.ndarray, columns: np.ndarray, n_bins: np.ndarray, rows: np.ndarray, codes: np.ndarray, depth: int, unit: float,
    penalty: float, least: float,
) -> Steps:
    """One tree of boosting, as `newton.grow_newton_tree` grows it, from the rows of all ranks; the same arguments."""
    mine, stride = Rows(rows, codes, np.empty_like(rows), np.empty_like(codes)), int(n_bins.max())

    def filled(node: Branch) -> np.ndarray:
        slab = np.zeros(n_bins.size * stride, np.int64)
        fill(slab, table, *mine.of(node), np.uint32(stride))
        return slab

    root = Branch(0, rows.size, 0, 0, 1)
    own = filled(root)[None]
    whole = yield own
    root.sums = int(whole[0, : n_bins[0]].sum())
    waiting = [([root], own, whole)]
    at_once = max(1, _MOST_BYTES // own.nbytes)
    while waiting:
        nodes, own, whole = waiting.pop()
        split = []
        for i, node in enumerate(nodes):
            if node.level == depth or float(node.sums & LOW_HALF) < 2 * least * unit:
                continue
            score, f, b, left = best_split(whole[i], n_bins, stride, penalty * unit, max(least * unit, 1.0))
            g, h = float(node.sums >> 32), float(node.sums & LOW_HALF)
            if f < 0 or score - g * g / (h + penalty * unit) <= 1e-6 * unit:
                continue
            node.split(f, b, mine.divide(node, columns[f], b), int(left), node.sums - int(left))
            split.append(i)
        if split and nodes[0].level + 1 < depth:
            waiting += yield from _children([nodes[i] for i in split], own[split], whole[split], filled, at_once)
    return _in_preorder(root)


def _children(
    parents: list[Branch], own: np.ndarray, whole: np.ndarray, filled: Callable[[Branch], np.ndarray], at_once: int
) -> Steps:
    """Children of some nodes with their histograms of this rank's rows and of all, in groups.

    Each rank fills those of the child of which it has fewer rows, and has the other's as what is left; left ones are added up.
    """
    pairs = [(node.left, node.right) for node in parents if node.left and node.right]
    left = np.empty_like(own)
    for i, (one, other) in enumerate(pairs):
        is_smaller = one.stop - one.start <= other.stop - other.start
        left[i] = filled(one) if is_smaller else own[i] - filled(other)
    summed = yield left
    nodes = [*(one for one, _ in pairs), *(other for _, other in pairs)]
    own, whole = np.concatenate([left, own - left]), np.concatenate([summed, whole - summed])
    spans = [slice(i, i + at_once) for i in range(0, len(nodes), at_once)]
    return [(nodes[span], own[span], whole[span]) for span in spans][::-1]


def _in_preorder(root: Branch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found: list[list[int]] = []

    def put(node: Branch) -> None:
        place = len(found)
        found.append([node.feature, node.cut, -1])
        if node.left is not None and node.right is not None:
            put(node.left)
            found[place][2] = len(found)
            put(node.right)

    put(root)
    feature, cut, right = np.array(found, np.int32).T.copy()
    return feature, cut, right
