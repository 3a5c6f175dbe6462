"""Gradient-boosted trees for all classes at once, one tree a class and round, from bytes.

Every class has a score; probabilities are the softmax of scores, and each round gives every class a tree that takes one
Newton step of the joint log-loss (Friedman 2001; Chen and Guestrin 2016). Two classes need one score.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from iomt_ids.contract.errors import ConfigError
from iomt_ids.models.histogram.descend import find_leaves, pack_nodes
from iomt_ids.models.histogram.forest import Binned, Splits, importances_of, thresholds_of, tree_seed
from iomt_ids.models.histogram.newton import FINE, add_values, draw_rows, grow_newton_tree, leaf_statistics, softmax

_DRAWN = 3
# Of a gradient: finer than a float32 of a probability is; coarser where the sum over all rows would not fit in 31 bits.
_FINEST = 20
# A class that all rows, or none, belong to would have an infinite score.
_LEAST_SHARE = 1e-6


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

    def __post_init__(self) -> None:
        whole = self.rounds >= 1 and 0 <= self.depth <= 16 and 2 <= self.bins <= 256 and self.patience >= 0
        shares = 0 < self.learning_rate <= 1 and 0 <= self.sampling_threshold <= 1
        if not (whole and shares and self.penalty >= 0 and self.curvature_per_leaf >= 0):
            raise ConfigError(
                "gradient_boosted: wanted rounds >= 1, depth 0 to 16, bins 2 to 256, learning_rate above 0 and up to 1, "
                f"sampling_threshold 0 to 1, penalty, curvature_per_leaf and patience >= 0, not {self}"
            )


class _Scores:
    """Scores and probabilities of rows, of every class; of two classes, the first keeps its score of 0."""

    def __init__(self, binned: Binned, prior: np.ndarray, pool: ThreadPoolExecutor, threads: int) -> None:
        self.table = np.ascontiguousarray(binned.columns.T)
        self.labels, self.weights = binned.labels, binned.weights
        self.scores = np.repeat(prior.astype(np.float32)[:, None], binned.labels.size, axis=1)
        self.probabilities = np.empty_like(self.scores)
        self.pool, self.bounds = pool, np.linspace(0, binned.labels.size, threads + 1).astype(int)

    def refresh(self) -> float:
        """Probabilities from scores; returns the log-loss."""
        parts = zip(self.bounds[:-1], self.bounds[1:], strict=True)
        list(self.pool.map(lambda part: softmax(self.scores, self.probabilities, *part), parts))
        true = np.take_along_axis(self.probabilities, self.labels[None, :].astype(np.intp), axis=0)[0].astype(np.float64)
        return float(-np.average(np.log(np.maximum(true, 1e-15)), weights=self.weights)) if true.size else float("nan")


def boost(
    binned: Binned, shape: BoostShape, seed: int, *, threads: int, unseen: Binned | None = None
) -> tuple[Boosting, list[dict[str, float]]]:
    """Boost trees; the same rows in the same order and the same seed give the same bytes, whatever the threads.

    Parameters
    ----------
    unseen : Binned, optional
        Rows that end the rounds: after ``patience`` rounds without a better log-loss on them, those since the best one
        are dropped. With none, or patience 0, all rounds count.

    Returns
    -------
    boosting : Boosting
    curves : list of dict
        Log-loss on both sets of rows after each round.
    """
    prior = _prior(binned)
    rounds: list[list[RegressionTree]] = []
    curves: list[dict[str, float]] = []
    with ThreadPoolExecutor(threads) as pool:
        known = _Scores(binned, prior, pool, threads)
        held_out = None if unseen is None or not unseen.labels.size else _Scores(unseen, prior, pool, threads)
        grower = _Grower(binned, known, held_out, shape, threads)
        known.refresh()
        best, best_loss = 0, np.inf
        for index in range(shape.rounds):
            seeds = [tree_seed(seed, index * binned.classes + k, _DRAWN) for k in grower.own]
            rounds.append(list(pool.map(grower.grow, grower.own, seeds)))
            curves.append({"epoch": index + 1, "train_loss": known.refresh()})
            if held_out is None:
                continue
            curves[-1]["validation_loss"] = held_out.refresh()
            if curves[-1]["validation_loss"] < best_loss:
                best, best_loss = index + 1, curves[-1]["validation_loss"]
            elif shape.patience and index + 1 - best >= shape.patience:
                break
    kept = rounds[:best] if held_out is not None and shape.patience else rounds
    return _as_models(kept, prior[grower.own], shape.learning_rate, len(binned.edges)), curves


class _Grower:
    """Grows one class's tree of a round and moves that class's scores; classes of a round do not wait for each other."""

    def __init__(self, binned: Binned, known: _Scores, held_out: _Scores | None, shape: BoostShape, threads: int) -> None:
        self.binned, self.known, self.held_out, self.shape = binned, known, held_out, shape
        self.own = [1] if binned.classes == 2 else list(range(binned.classes))
        self.n_bins = np.array([e.size + 1 for e in binned.edges], np.int64)
        heaviest = max(1, int(binned.weights.sum(dtype=np.int64)))
        self.unit = 2.0 ** min(_FINEST, int(np.log2((2**31 - 1) / heaviest)))
        rows = binned.labels.size
        self.buffers: SimpleQueue[tuple[np.ndarray, np.ndarray, np.ndarray]] = SimpleQueue()
        for _ in range(threads):
            self.buffers.put((np.empty(rows, np.uint32), np.empty(rows, np.int64), np.empty(rows, np.int32)))

    def grow(self, own: int, seed: np.uint64) -> RegressionTree:
        """One tree; rows are drawn by the seed."""
        shape, known = self.shape, self.known
        rows, codes, leaves = buffers = self.buffers.get()
        n = draw_rows(
            known.probabilities[own], known.labels, known.weights, own, shape.sampling_threshold, self.unit, seed, rows, codes
        )
        feature, cut, right = grow_newton_tree(
            known.table, self.n_bins, rows[:n], codes[:n], shape.depth, self.unit, shape.penalty, shape.curvature_per_leaf
        )
        nodes = pack_nodes(feature, cut, right)
        find_leaves(known.table, nodes, leaves)
        # Drawn rows chose the splits; what a leaf says is of all of its rows.
        sums = leaf_statistics(leaves, known.probabilities[own], known.labels, known.weights, own, feature.size)
        _add_up(sums, right)
        step = sums[:, 1] / np.maximum(sums[:, 3] + shape.penalty * FINE, 1.0)
        moves = (shape.learning_rate * step).astype(np.float32)
        add_values(known.scores[own], leaves, moves)
        self.buffers.put(buffers)
        if self.held_out is not None:
            elsewhere = np.empty(self.held_out.labels.size, np.int32)
            find_leaves(self.held_out.table, nodes, elsewhere)
            add_values(self.held_out.scores[own], elsewhere, moves)
        stats = sums[:, :3] / np.array([1.0, FINE, FINE])
        threshold = thresholds_of(self.binned.edges, feature, cut)
        return RegressionTree(feature, threshold, right, stats, _gain(feature, right, stats), step / 2)


def _prior(binned: Binned) -> np.ndarray:
    counts = np.bincount(binned.labels, weights=binned.weights, minlength=binned.classes)
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
