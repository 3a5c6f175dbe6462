"""What is kept of many rows to cut bins from: a sample of each class and, of features with few values, all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from iomt_ids.models.histogram.bins import class_masses, distinct, edges_of, middles

# Of each class: 128 bins of a class alone would hold about 40 rows each.
SAMPLE = 5_000
_GOLDEN, _FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Sketch:
    """Mergeable in any order with the same result.

    Attributes
    ----------
    ids : ndarray of int64, shape (sample,)
        `flow_id` of the sampled rows, those of each class with the smallest hashes.
    labels : ndarray of uint8, shape (sample,)
    rows : ndarray of float64, shape (sample, features)
    counts : ndarray of int64, shape (classes,)
        Rows of each class, sampled or not.
    distinct : list of ndarray of float64
        A feature's values, ascending; empty if there are more than ``limit``.
    limit : int
    """

    ids: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    distinct: list[np.ndarray]
    limit: int

    @classmethod
    def empty(cls, features: int, classes: int, limit: int) -> Sketch:
        """Of no rows."""
        ids, labels, rows = np.empty(0, np.int64), np.empty(0, np.uint8), np.empty((0, features))
        return cls(ids, labels, rows, np.zeros(classes, np.int64), [np.empty(0)] * features, limit)

    @classmethod
    def of(
        cls, ids: np.ndarray, labels: np.ndarray, rows: np.ndarray, classes: int, limit: int, *, threads: int = 1
    ) -> Sketch:
        """Of all of these rows."""
        counts = np.bincount(labels, minlength=classes)
        with ThreadPoolExecutor(threads) as pool:
            values = list(pool.map(lambda column: distinct(column, limit), rows.T))
        return cls(ids, labels, rows, counts, values, limit)._sampled()

    def merge(self, other: Sketch) -> Sketch:
        """Of the rows of both."""
        if not (self.counts.any() and other.counts.any()):
            return self if self.counts.any() else other
        ids, labels, rows = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("ids", "labels", "rows")
        )
        values = [self._union(a, b) for a, b in zip(self.distinct, other.distinct, strict=True)]
        return Sketch(ids, labels, rows, self.counts + other.counts, values, self.limit)._sampled()

    def edges(self, *, threads: int = 1) -> list[np.ndarray]:
        """Thresholds of each feature: between all of its values, or even shares of the sample."""
        masses = class_masses(self.labels, self.counts)

        def cut(values: np.ndarray, sampled: np.ndarray) -> np.ndarray:
            return middles(values) if values.size else edges_of(sampled, masses, self.limit)

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(cut, self.distinct, self.rows.T))

    def cut_ids(self, parts: int) -> np.ndarray:
        """Ids at which all but the first of some parts begin, which have about as many rows each.

        Returns
        -------
        ndarray of int64, shape (parts - 1,)
            Ascending.
        """
        if not self.ids.size:
            return np.zeros(parts - 1, np.int64)
        order = np.argsort(self.ids)
        stands_for = self.counts / np.maximum(np.bincount(self.labels, minlength=self.counts.size), 1)
        before = np.cumsum(stands_for[self.labels[order]])
        wanted = before[-1] * np.arange(1, parts) / parts
        return self.ids[order][np.minimum(np.searchsorted(before, wanted), order.size - 1)]

    def as_bytes(self) -> list[bytes]:
        """Six byte strings, the inverse of `from_bytes`."""
        sizes = np.array([d.size for d in self.distinct], np.int64)
        arrays = self.ids, self.labels, self.rows, self.counts, np.concatenate(self.distinct), sizes
        return [a.tobytes() for a in arrays]

    @classmethod
    def from_bytes(cls, parts: list[bytes], features: int, limit: int) -> Sketch:
        """From what `as_bytes` made."""
        kinds = np.int64, np.uint8, np.float64, np.int64, np.float64, np.int64
        ids, labels, rows, counts, values, sizes = (np.frombuffer(p, k) for p, k in zip(parts, kinds, strict=True))
        return cls(ids, labels, rows.reshape(-1, features), counts, np.split(values, np.cumsum(sizes)[:-1]), limit)

    def _union(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        both = np.union1d(one, other)
        return both if one.size and other.size and both.size <= self.limit else np.empty(0)

    def _sampled(self) -> Sketch:
        """Without rows beyond each class's share, in an order of their own."""
        hashed = (self.ids.view(np.uint64) + _GOLDEN) * _FACTOR
        hashed ^= hashed >> np.uint64(31)
        # Rows that are surely beyond are left out before any are sorted.
        last = np.full(self.counts.size, 2**64 - 1, np.uint64)
        for label in np.flatnonzero(np.bincount(self.labels, minlength=self.counts.size) > SAMPLE):
            last[label] = np.partition(hashed[self.labels == label], SAMPLE - 1)[SAMPLE - 1]
        near = np.flatnonzero(hashed <= last[self.labels])
        order = near[np.lexsort((self.ids[near], hashed[near], self.labels[near]))]
        grouped = self.labels[order]
        rank = np.arange(order.size) - np.searchsorted(grouped, grouped)
        kept = order[rank < SAMPLE]
        return Sketch(self.ids[kept], self.labels[kept], self.rows[kept], self.counts, self.distinct, self.limit)
