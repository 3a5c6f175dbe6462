"""Slow boosting, obviously right: plain recursion over lists of rows, sums of Python's own whole numbers."""

import itertools

import numpy as np

from iomt_ids.models.histogram.forest import tree_seed
from iomt_ids.models.histogram.newton import softmax
from tests.models.forest_reference import hashed

HALF = 2**32 - 1

FINE = 2**30


class ReferenceBoosting:
    """Trees of every round as lists of nodes; scores and probabilities as float32, as the compiled code keeps them."""

    def __init__(self, binned, shape, seed):
        self.columns, self.labels, self.classes, self.shape = binned.columns.astype(int), binned.labels, binned.classes, shape
        self.marks = binned.marks.tolist()
        self.weights = [int(w) for w in binned.weights]
        self.edges = binned.edges
        shares = np.bincount(binned.labels, weights=binned.weights, minlength=binned.classes) / sum(self.weights)
        prior = np.log(np.clip(shares, 1e-6, 1))
        self.own = [1] if self.classes == 2 else range(self.classes)
        if self.classes == 2:
            prior = np.array([0.0, prior[1] - prior[0]])
        self.scores = np.repeat(prior.astype(np.float32)[:, None], len(self.labels), axis=1)
        self.rounds = []
        for index in range(shape.rounds):
            # Compared with numpy's exponential in a test of its own; here its last bits decide what a gradient is rounded to.
            self.probabilities = np.empty_like(self.scores)
            softmax(self.scores, self.probabilities, 0, len(self.labels))
            self.rounds.append([self.tree(k, int(tree_seed(seed, index * self.classes + k, 3))) for k in self.own])

    def drawn(self, own, seed):
        """Whole-numbered gradient and curvature of each row that is drawn."""
        sizes, codes, threshold = {}, {}, self.shape.sampling_threshold
        for row, label in enumerate(self.labels):
            g = float(self.probabilities[own, row]) - float(label == own)
            if np.float32(drawn_by(seed, self.marks[row])) * np.float32(threshold * 2.0**-24) < abs(np.float32(g)):
                sizes[row] = g
        total = sum(int(max(abs(g), threshold) * FINE) * self.weights[row] for row, g in sizes.items())
        self.unit = 2.0 ** min(20, int(np.floor(np.log2(2.0**60 / max(total, 1)))))
        for row, g in sizes.items():
            size, chance = abs(g), (hashed(seed ^ (2**64 - 1) ^ self.marks[row]) >> 11) * 2.0**-53
            times = self.unit * self.weights[row] * max(1.0, threshold / size)
            codes[row] = [int(np.floor(v * times + chance)) for v in (g, size * (1 - size))]
        return codes

    def tree(self, own, seed):
        self.codes, nodes = self.drawn(own, seed), []
        self.split(list(range(len(self.labels))), sorted(self.codes), 0, own, nodes)
        return nodes

    def split(self, rows, drawn, depth, own, nodes):
        residuals = [(float(self.labels[r] == own) - float(self.probabilities[own, r]), self.weights[r]) for r in rows]
        total = sum(int(r * FINE) * w for r, w in residuals)
        squares = sum(int(r * r * FINE) * w for r, w in residuals)
        curvature = sum(int((abs(r) - r * r) * FINE) * w for r, w in residuals)
        step = total / max(curvature + self.shape.penalty * FINE, 1.0)
        bound = self.shape.max_delta_step
        step = max(-bound, min(bound, step)) if bound else step
        node = {"feature": -1, "threshold": 0.0, "right": -1, "prediction": step / 2,
                "stats": [float(sum(w for _, w in residuals)), total / FINE, squares / FINE]}
        nodes.append(node)
        found = self.best(drawn) if depth < self.shape.depth else None
        if found is None:
            self.scores[own, rows] += np.float32(self.shape.learning_rate * step)
            return
        feature, cut = found
        column = self.columns[feature]
        node |= {"feature": feature, "threshold": float(self.edges[feature][cut])}
        self.split([r for r in rows if column[r] <= cut], [r for r in drawn if column[r] <= cut], depth + 1, own, nodes)
        node["right"] = len(nodes)
        self.split([r for r in rows if column[r] > cut], [r for r in drawn if column[r] > cut], depth + 1, own, nodes)

    def worth(self, rows):
        g, h = (sum(self.codes[r][i] for r in rows) for i in (0, 1))
        return float(g) * float(g) / (h + self.shape.penalty * self.unit), h

    def best(self, drawn):
        before, whole = self.worth(drawn)
        least = max(self.shape.curvature_per_leaf * self.unit, 1.0)
        if whole < 2 * self.shape.curvature_per_leaf * self.unit:
            return None
        best = None
        for feature, column in enumerate(self.columns):
            told = [r for r in drawn if self.codes[r] != [0, 0]]
            filled = sorted({column[r] for r in told})
            for low, high in itertools.pairwise(filled):
                left, h_left = self.worth([r for r in drawn if column[r] <= low])
                right, h_right = self.worth([r for r in drawn if column[r] > low])
                if min(h_left, h_right) >= least and (best is None or left + right > best[0]):
                    best = left + right, feature, (low + high - 1) // 2
        return best[1:] if best is not None and best[0] - before > 1e-6 * self.unit else None


def drawn_by(seed, number):
    """24 bits: MurmurHash3's finalizer, one half of the seed before it and one within."""
    value = (number ^ seed) & HALF
    value = ((value ^ value >> 16) * 0x85EBCA6B & HALF) ^ seed >> 32
    value = (value ^ value >> 13) * 0xC2B2AE35 & HALF
    return (value ^ value >> 16) >> 8


def reference_rounds(binned, shape, seed):
    """For every round, the nodes of every class's tree in pre-order, as dicts; without what the first tree adds for the prior."""
    return ReferenceBoosting(binned, shape, seed).rounds
