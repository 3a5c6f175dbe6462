"""Gradient-boosted trees for all classes at once, one tree a class and round, from bytes.

Every class has a score; probabilities are the softmax of scores, and each round gives every class a tree that takes one
Newton step of the joint log-loss (Friedman 2001; Chen and Guestrin 2016), of bounded length, as in LogitBoost (Friedman,
Hastie and Tibshirani 2000). Two classes need one score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ConfigError
from iomt_ids.distributed.chunks import NOTHING_KEPT, Chunks, SharedChunks, chunk_size
from iomt_ids.distributed.work import Alone, Gathering
from iomt_ids.models.histogram.descend import find_leaves, pack_nodes
from iomt_ids.models.histogram.forest import Binned, Splits, cuts_of, importances_of, thresholds_of, tree_seed
from iomt_ids.models.histogram.keep import trees_from_bytes, trees_to_bytes
from iomt_ids.models.histogram.levels import grow_newton_steps
from iomt_ids.models.histogram.newton import (
    FINE,
    add_values,
    draw_rows,
    encode_rows,
    grow_newton_tree,
    leaf_statistics,
    of_labels,
    softmax,
)
from iomt_ids.models.histogram.steps import Steps, in_step

_ALONE = Alone()
_DRAWN = 3
# Of a gradient: finer than a float32 of a probability is; coarser where the sum over a tree's rows would not fit in 31 bits,
# of which one is left for what is rounded up.
_FINEST, _MOST = 20, 2.0**30
# A class that all rows, or none, belong to would have an infinite score.
_LEAST_SHARE = 1e-6
# Of a row's loss, 35 at most: sums of 2**31 rows stay below 2**63.
_LOSS = 2.0**24
# Whose losses are added up at once: arrays that stay in the cache.
_ROWS = 1 << 15
# Of trees that grow in step: a drawn row's number and code, twice, since they are divided; a row's leaf; and most of all
# together for each row there is.
_BYTES_A_DRAWN_ROW, _BYTES_A_LEAF, _MOST_BYTES_A_ROW = 24, 4, 40
# Rows times classes times rounds that are worth a file: a few tenths of a second to grow.
_ENOUGH = 5_000_000


@dataclass(frozen=True)
class RegressionTree(Splits):
    """One tree of a boosted model.

    Attributes
    ----------
    stats : ndarray of float64, shape (nodes, 3)
        Of all rows of a node: their number, sum of residuals, sum of their squares; what MLlib keeps of a variance.
    gain : ndarray of float64, shape (nodes,)
        Decrease of the residuals' variance, -1 at a leaf.
    prediction : ndarray of float64, shape (nodes,)
        What a leaf adds to half the score of a class, before the tree's weight.
    """

    stats: np.ndarray
    gain: np.ndarray
    prediction: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Rows of each node."""
        return self.stats[:, 0].astype(np.int64)

    @property
    def impurity(self) -> np.ndarray:
        """Variance of each node's residuals."""
        return _variance(self.stats)


@dataclass(frozen=True)
class Boosting:
    """What MLlib calls a GBTClassificationModel, one a class, or one for two classes.

    Attributes
    ----------
    trees : tuple of tuple of RegressionTree
        Of each model, in the order of rounds.
    weights : tuple of ndarray of float64
        Of each model's trees.
    features : int
    """

    trees: tuple[tuple[RegressionTree, ...], ...]
    weights: tuple[np.ndarray, ...]
    features: int

    @property
    def nodes(self) -> int:
        """Nodes of all trees."""
        return sum(tree.feature.size for trees in self.trees for tree in trees)

    def importances(self) -> np.ndarray:
        """Share of each feature: MLlib's of each model, averaged."""
        return importances_of(self.trees, self.features)


@dataclass(frozen=True)
class BoostShape:
    """Limits of boosting; see `models.gradient_boosted.Params`."""

    rounds: int
    depth: int
    bins: int
    learning_rate: float
    penalty: float = 1.0
    curvature_per_leaf: float = 1.0
    sampling_threshold: float = 0.05
    patience: int = 10
    max_delta_step: float = 8.0

    def __post_init__(self) -> None:
        whole = self.rounds >= 1 and 0 <= self.depth <= 16 and 2 <= self.bins <= 256 and self.patience >= 0
        shares = 0 < self.learning_rate <= 1 and 0 <= self.sampling_threshold <= 1
        if not (whole and shares and min(self.penalty, self.curvature_per_leaf, self.max_delta_step) >= 0):
            raise ConfigError(
                "gradient_boosted: wanted rounds >= 1, depth 0 to 16, bins 2 to 256, learning_rate above 0 and up to 1, "
                f"sampling_threshold 0 to 1, penalty, curvature_per_leaf, patience and max_delta_step >= 0, not {self}"
            )


class _Scores:
    """Scores and probabilities of rows, of every class; of two classes, the first keeps its score of 0."""

    def __init__(
        self, binned: Binned, prior: np.ndarray, pool: ThreadPoolExecutor, threads: int, ranks: Gathering
    ) -> None:
        self.ranks = ranks
        self.columns, self.labels, self.weights = binned.columns, binned.labels, binned.weights
        self.scores = np.repeat(prior.astype(np.float32)[:, None], binned.labels.size, axis=1)
        self.probabilities = np.empty_like(self.scores)
        self.pool, self.bounds = pool, np.linspace(0, binned.labels.size, threads + 1).astype(int)

    def refresh(self) -> float:
        """Probabilities from scores; returns the log-loss, summed in whole numbers, so in any order."""
        parts = zip(self.bounds[:-1], self.bounds[1:], strict=True)
        list(self.pool.map(lambda part: softmax(self.scores, self.probabilities, *part), parts))
        spans = [slice(start, start + _ROWS) for start in range(0, self.labels.size, _ROWS)]
        own = sum(self.pool.map(self._loss, spans))
        loss, rows = self.ranks.sum(np.array([own, self.weights.sum()], np.int64)).tolist()
        return loss / _LOSS / rows if rows else float("nan")

    def _loss(self, span: slice) -> int:
        likely = np.maximum(of_labels(self.probabilities[:, span], self.labels[span]), 1e-15)
        return int(np.floor(-np.log(likely) * _LOSS + 0.5).astype(np.int64) @ self.weights[span])


def boost(
    binned: Binned, shape: BoostShape, seed: int, *, threads: int, unseen: Binned | None = None,
    kept: Chunks | SharedChunks = NOTHING_KEPT, ranks: Gathering = _ALONE,
) -> tuple[Boosting, list[dict[str, float]]]:
    """Boost trees; the same rows with the same marks and the same seed give the same bytes, whatever the threads.

    Parameters
    ----------
    unseen : Binned, optional
        Rows that end the rounds: after ``patience`` rounds without a better log-loss on them, those since the best one
        are dropped. With none, or patience 0, all rounds count.
    kept : Chunks
        Where finished rounds are looked for and left.
    ranks : Gathering
        Between which the rows lie; one thread each, since all must call in the same order.

    Returns
    -------
    boosting : Boosting
    curves : list of dict
        Log-loss on both sets of rows after each round.
    """
    prior = _prior(binned, ranks)
    with ThreadPoolExecutor(threads) as pool:
        known = _Scores(binned, prior, pool, threads, ranks)
        held_out = _Scores(unseen, prior, pool, threads, ranks) if unseen and _rows(unseen, ranks) else None
        course = _Course(_Grower(binned, known, held_out, shape, threads), seed)
        size = chunk_size(shape.rounds, _rows(binned, ranks) * len(course.grower.own), _ENOUGH)
        for first in range(0, shape.rounds, size):
            course.go_on(range(first, min(first + size, shape.rounds)), kept)
            if course.is_over:
                break
    rounds = course.rounds[: course.best] if course.ends_early else course.rounds
    return _as_models(rounds, prior[course.grower.own], shape.learning_rate, len(binned.edges)), course.curves


def losses_of(curves: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Each loss of some rounds as an array, to be kept beside their trees."""
    return {key: np.array([point[key] for point in curves]) for key in curves[0] if key != "epoch"}


class _Course:
    """Rounds one after the other, each learnt, or found among those that are kept."""

    def __init__(self, grower: _Grower, seed: int) -> None:
        self.grower, self.seed = grower, seed
        self.rounds: list[list[RegressionTree]] = []
        self.curves: list[dict[str, float]] = []
        self.best, self.best_loss = 0, np.inf
        self.ends_early = grower.held_out is not None and grower.shape.patience > 0
        self.is_over = self.is_behind = False
        grower.known.refresh()

    def go_on(self, wanted: range, kept: Chunks | SharedChunks) -> None:
        """So many rounds, or fewer if they end early."""
        name, done = f"rounds-{wanted.start:05d}-{wanted.stop:05d}", len(self.rounds)
        if found := kept.load(name):
            self._repeat(found)
            return
        if self.is_behind:
            self._refresh()
            self.is_behind = False
        for index in wanted:
            self._learn(index)
            if self.is_over:
                break
        trees, curves = [tree for trees in self.rounds[done:] for tree in trees], self.curves[done:]
        kept.save(name, trees_to_bytes(trees, **losses_of(curves)))

    def _learn(self, index: int) -> None:
        grower = self.grower
        seeds = [tree_seed(self.seed, index * grower.binned.classes + k, _DRAWN) for k in grower.own]
        self.rounds.append(grower.grow_round(seeds))
        self._tell(self._refresh())

    def _repeat(self, found: bytes) -> None:
        trees, losses = trees_from_bytes(RegressionTree, found)
        own = self.grower.own
        for at in range(0, len(trees), len(own)):
            self.rounds.append(trees[at : at + len(own)])
            list(self.grower.known.pool.map(self.grower.repeat, own, self.rounds[-1]))
            self._tell({key: float(values[at // len(own)]) for key, values in losses.items()})
        self.is_behind = True

    def _refresh(self) -> dict[str, float]:
        losses = {"train_loss": self.grower.known.refresh()}
        if self.grower.held_out is not None:
            losses["validation_loss"] = self.grower.held_out.refresh()
        return losses

    def _tell(self, losses: dict[str, float]) -> None:
        index = len(self.rounds)
        self.curves.append({"epoch": index, **losses})
        if "validation_loss" not in losses:
            return
        if losses["validation_loss"] < self.best_loss:
            self.best, self.best_loss = index, losses["validation_loss"]
        elif self.ends_early and index - self.best >= self.grower.shape.patience:
            self.is_over = True


class _Grower:
    """Grows the trees of a round, one a class, each of which moves its own class's scores: they do not wait for each other."""

    def __init__(self, binned: Binned, known: _Scores, held_out: _Scores | None, shape: BoostShape, threads: int) -> None:
        self.binned, self.known, self.held_out, self.shape = binned, known, held_out, shape
        self.own = [1] if binned.classes == 2 else list(range(binned.classes))
        self.n_bins = np.array([e.size + 1 for e in binned.edges], np.int64)
        self.table = binned.table  # made here, once, and not by the threads
        rows = binned.labels.size
        self.buffers: SimpleQueue[tuple[np.ndarray, np.ndarray, np.ndarray]] = SimpleQueue()
        for _ in range(threads):
            self.buffers.put((np.empty(rows, np.uint32), np.empty(rows, np.int64), np.empty(rows, np.int32)))
        self.leaves: list[np.ndarray] = []

    def grow_round(self, seeds: Sequence[np.uint64]) -> list[RegressionTree]:
        """A tree of each class; rows are drawn by the seeds."""
        ranks = self.known.ranks
        if ranks.size == 1:
            return list(self.known.pool.map(self._grow_alone, self.own, seeds))
        drawn = [self._drawn(own, seed) for own, seed in zip(self.own, seeds, strict=True)]
        told = ranks.sum(np.array([[size, rows.size, self.binned.labels.size] for rows, size in drawn], np.int64))
        trees: list[RegressionTree] = []
        for group in _groups(told[:, 1] * _BYTES_A_DRAWN_ROW + told[:, 2] * _BYTES_A_LEAF, int(told[0, 2]) * _MOST_BYTES_A_ROW):
            # Kept, since a fresh array costs more than what is done with it.
            self.leaves += [np.empty(self.binned.labels.size, np.int32) for _ in range(len(group) - len(self.leaves))]
            growing = [
                self._growing(self.own[i], seeds[i], int(told[i, 0]), drawn[i][0], np.empty(drawn[i][0].size, np.int64), leaves)
                for i, leaves in zip(group, self.leaves, strict=False)
            ]
            trees += in_step(ranks, growing)
        return trees

    def _drawn(self, own: int, seed: np.uint64) -> tuple[np.ndarray, int]:
        rows, *_ = buffers = self.buffers.get()
        n, size = self._draw(own, seed, rows)
        self.buffers.put(buffers)
        return rows[:n].copy(), size

    def _grow_alone(self, own: int, seed: np.uint64) -> RegressionTree:
        rows, codes, leaves = buffers = self.buffers.get()
        n, size = self._draw(own, seed, rows)
        (tree,) = in_step(self.known.ranks, [self._growing(own, seed, size, rows[:n], codes[:n], leaves)])
        self.buffers.put(buffers)
        return tree

    def _draw(self, own: int, seed: np.uint64, rows: np.ndarray) -> tuple[int, int]:
        return draw_rows(*self._told(own), self.shape.sampling_threshold, seed, rows)

    def _told(self, own: int) -> tuple[Any, ...]:
        return self.known.probabilities[own], self.known.labels, self.known.weights, self.binned.marks, own

    def _growing(
        self, own: int, seed: np.uint64, size: int, rows: np.ndarray, codes: np.ndarray, leaves: np.ndarray
    ) -> Steps:
        """One tree from drawn rows; codes are of as many, leaves of all rows."""
        shape, known, unit = self.shape, self.known, _unit(size)
        encode_rows(*self._told(own), shape.sampling_threshold, unit, seed, rows, codes)
        asked = self.table, known.columns, self.n_bins, rows, codes, shape.depth, unit, shape.penalty, shape.curvature_per_leaf
        feature, cut, right = grow_newton_tree(*asked) if known.ranks.size == 1 else (yield from grow_newton_steps(*asked))
        find_leaves(known.columns, nodes := pack_nodes(feature, cut, right), leaves)
        # Drawn rows chose the splits; what a leaf says is of all of its rows.
        sums = yield leaf_statistics(leaves, known.probabilities[own], known.labels, known.weights, own, feature.size)
        _add_up(sums, right)
        step = sums[:, 1] / np.maximum(sums[:, 3] + shape.penalty * FINE, 1.0)
        # Rows that are surely wrong have hardly any curvature: without a bound a step for many of them has no end.
        most = shape.max_delta_step or np.inf
        half = np.clip(step, -most, most) / 2
        self._move(own, nodes, leaves, half)
        stats = sums[:, :3] / np.array([1.0, FINE, FINE])
        threshold = thresholds_of(self.binned.edges, feature, cut)
        return RegressionTree(feature, threshold, right, stats, _gain(feature, right, stats), half)

    def repeat(self, own: int, tree: RegressionTree) -> None:
        """Move the scores as when this tree was grown."""
        rows, codes, leaves = self.buffers.get()
        nodes = pack_nodes(tree.feature, cuts_of(self.binned.edges, tree.feature, tree.threshold), tree.right)
        find_leaves(self.known.columns, nodes, leaves)
        self._move(own, nodes, leaves, tree.prediction)
        self.buffers.put((rows, codes, leaves))

    def _move(self, own: int, nodes: np.ndarray, leaves: np.ndarray, half: np.ndarray) -> None:
        # Twice a half is exact, so that a tree that was kept moves scores by the same bits.
        moves = (self.shape.learning_rate * (2 * half)).astype(np.float32)
        add_values(self.known.scores[own], leaves, moves)
        if self.held_out is not None:
            elsewhere = np.empty(self.held_out.labels.size, np.int32)
            find_leaves(self.held_out.columns, nodes, elsewhere)
            add_values(self.held_out.scores[own], elsewhere, moves)


def _groups(sizes: np.ndarray, most: int) -> list[list[int]]:
    """Neighbours that are no more than so much together, or one alone."""
    groups: list[list[int]] = []
    for i, size in enumerate(sizes.tolist()):
        if groups and sizes[groups[-1]].sum() + size <= most:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _rows(binned: Binned, ranks: Gathering) -> int:
    return int(ranks.sum(np.array([binned.labels.size], np.int64))[0])


def _unit(size: int) -> float:
    """How many of it are 1, given the sum of gradients' sizes times `FINE`: a power of two."""
    return float(2.0 ** min(_FINEST, np.floor(np.log2(_MOST * FINE / max(size, 1)))))


def _prior(binned: Binned, ranks: Gathering) -> np.ndarray:
    own = np.bincount(binned.labels, weights=binned.weights, minlength=binned.classes)
    counts = ranks.sum(own.astype(np.int64))  # of no rows, bincount has whole numbers and not doubles
    scores = np.log(np.clip(counts / max(counts.sum(), 1.0), _LEAST_SHARE, 1.0))
    return np.array([0.0, scores[1] - scores[0]]) if binned.classes == 2 else scores


def _add_up(sums: np.ndarray, right: np.ndarray) -> None:
    """Sums of inner nodes from those of their leaves; children come after their parents."""
    for node in range(right.size - 1, -1, -1):
        if right[node] >= 0:
            sums[node] = sums[node + 1] + sums[right[node]]


def _variance(stats: np.ndarray) -> np.ndarray:
    rows = np.maximum(stats[:, 0], 1.0)
    return np.maximum(stats[:, 2] / rows - (stats[:, 1] / rows) ** 2, 0.0)


def _gain(feature: np.ndarray, right: np.ndarray, stats: np.ndarray) -> np.ndarray:
    gain, inner = np.full(feature.size, -1.0), np.flatnonzero(feature >= 0)
    spread, rows = _variance(stats), stats[:, 0]
    behind = rows[inner + 1] * spread[inner + 1] + rows[right[inner]] * spread[right[inner]]
    gain[inner] = np.maximum(spread[inner] - behind / rows[inner], 0.0)
    return gain


def _as_models(rounds: list[list[RegressionTree]], prior: np.ndarray, rate: float, features: int) -> Boosting:
    """Each class's trees; the first also holds where scores start, so it weighs 1, as MLlib's first tree does."""
    models, weights = [], []
    for k, start in enumerate(prior):
        first, *others = [trees[k] for trees in rounds]
        begun = RegressionTree(
            first.feature, first.threshold, first.right, first.stats, first.gain, start / 2 + rate * first.prediction
        )
        models.append((begun, *others))
        weights.append(np.array([1.0, *[rate] * len(others)]))
    return Boosting(tuple(models), tuple(weights), features)
