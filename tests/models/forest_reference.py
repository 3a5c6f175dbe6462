"""A slow forest, obviously right: one tree grown by plain recursion over lists of rows, without histograms of kin."""

import itertools

import numpy as np

from iomt_ids.models.histogram.forest import Shape, features_wanted, tree_seed
from iomt_ids.models.histogram.grow import LEAST_GAIN

_MASK = 2**64 - 1
_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 12)]))


def hashed(value):
    z = (value + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def times_seen(weights, marks, seed):
    def one(mark, copy):
        chance = (hashed((hashed(seed ^ hashed(mark)) + copy) & _MASK) >> 11) * 2.0**-53
        return int(np.sum(chance >= _POISSON))

    told = zip(marks.tolist(), weights.tolist(), strict=True)
    return np.array([sum(one(mark, copy) for copy in range(weight)) for mark, weight in told])


def drawn(seed, path, features, wanted):
    state, order = hashed(seed ^ hashed(path)), list(range(features))
    for i in range(features - 1):
        state = hashed(state)
        j = i + state % (features - i)
        order[i], order[j] = order[j], order[i]
    return sorted(order[:wanted]), order[wanted:]


def purity(counts):
    return float((counts**2).sum()) / counts.sum()


class ReferenceTree:
    def __init__(self, binned, shape, seed, index):
        self.columns = binned.columns.astype(int)
        self.labels, self.classes, self.shape = binned.labels.astype(int), binned.classes, shape
        self.edges = binned.edges
        self.wanted = features_wanted(shape.features_per_node, len(binned.edges))
        self.seed = int(tree_seed(seed, index, 2))
        self.weights = times_seen(binned.weights, binned.marks, int(tree_seed(seed, index, 1)))
        self.nodes = []
        self.grow(np.flatnonzero(self.weights), 0, 1)

    def count(self, rows):
        return np.bincount(self.labels[rows], weights=self.weights[rows], minlength=self.classes).astype(int)

    def grow(self, rows, depth, path):
        counts = self.count(rows)
        node = {"feature": -1, "threshold": 0.0, "right": -1, "counts": counts.tolist(), "gain": -1.0}
        self.nodes.append(node)
        if depth == self.shape.depth or counts.sum() < 2 * self.shape.rows_per_leaf or np.count_nonzero(counts) < 2:
            return
        own, rest = drawn(self.seed, path, len(self.edges), self.wanted)
        found = self.best(rows, counts, own)
        for feature in rest:
            found = found or self.best(rows, counts, [feature])
        if found is None:
            return
        score, feature, cut = found
        node |= {"feature": feature, "threshold": float(self.edges[feature][cut]),
                 "gain": (score - purity(counts)) / counts.sum()}
        goes_left = self.columns[feature][rows] <= cut
        self.grow(rows[goes_left], depth + 1, 2 * path)
        node["right"] = len(self.nodes)
        self.grow(rows[~goes_left], depth + 1, 2 * path + 1)

    def best(self, rows, counts, features):
        best = None
        for feature in features:
            bins = self.columns[feature][rows]
            filled = np.unique(bins)
            for low, high in itertools.pairwise(filled):
                left, right = self.count(rows[bins <= low]), self.count(rows[bins > low])
                if min(left.sum(), right.sum()) < self.shape.rows_per_leaf:
                    continue
                score = purity(left) + purity(right)
                if (best is None or score > best[0]) and (score - purity(counts)) / counts.sum() > LEAST_GAIN:
                    best = score, feature, (low + high - 1) // 2
        return best


def reference_tree(binned, shape: Shape, seed: int, index: int):
    """Nodes in pre-order, as dicts."""
    return ReferenceTree(binned, shape, seed, index).nodes
