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
        return cls.empty(rows.shape[1], classes, limit).add(ids, labels, rows, threads=threads)

    def add(self, ids: np.ndarray, labels: np.ndarray, rows: np.ndarray, *, threads: int = 1) -> Sketch:
        """Of these rows too."""
        # Most of them are surely not among the sample: it is full, of smaller hashes, or will be by those of these rows.
        hashed = _hashed(ids)
        near = np.flatnonzero(hashed <= self._last()[labels])
        near = near[hashed[near] <= _last(hashed[near], labels[near], self.counts.size)[labels[near]]]
        counts, is_full = np.bincount(labels, minlength=self.counts.size), [self.counts.any() and not d.size for d in self.distinct]
        with ThreadPoolExecutor(threads) as pool:
            columns = zip(rows.T, is_full, strict=True)
            values = list(pool.map(lambda told: np.empty(0) if told[1] else distinct(told[0], self.limit), columns))
        return self.merge(Sketch(ids[near], labels[near], rows[near], counts, values, self.limit))

    def merge(self, *others: Sketch) -> Sketch:
        """Of the rows of all."""
        some = [sketch for sketch in (self, *others) if sketch.counts.any()]
        if not some:
            return self
        ids, labels, rows = (np.concatenate([getattr(s, name) for s in some]) for name in ("ids", "labels", "rows"))
        values = [self._union(*of_feature) for of_feature in zip(*(s.distinct for s in some), strict=True)]
        return Sketch(ids, labels, rows, np.sum([s.counts for s in some], axis=0), values, self.limit)._sampled()

    def edges(self, *, threads: int = 1) -> list[np.ndarray]:
        """Thresholds of each feature: between all of its values, or even shares of the sample."""
        masses = class_masses(self.labels, self.counts)

        def cut(values: np.ndarray, sampled: np.ndarray) -> np.ndarray:
            return middles(values) if values.size else edges_of(sampled, masses, self.limit)

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(cut, self.distinct, self.rows.T))

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

    def _union(self, *found: np.ndarray) -> np.ndarray:
        values = np.unique(np.concatenate(found))
        return values if all(f.size for f in found) and values.size <= self.limit else np.empty(0)

    def _last(self) -> np.ndarray:
        return _last(_hashed(self.ids), self.labels, self.counts.size)

    def _sampled(self) -> Sketch:
        """Without rows beyond each class's share, in an order of their own."""
        hashed = _hashed(self.ids)
        near = np.flatnonzero(hashed <= self._last()[self.labels])
        order = near[np.lexsort((self.ids[near], hashed[near], self.labels[near]))]
        grouped = self.labels[order]
        rank = np.arange(order.size) - np.searchsorted(grouped, grouped)
        kept = order[rank < SAMPLE]
        return Sketch(self.ids[kept], self.labels[kept], self.rows[kept], self.counts, self.distinct, self.limit)


def _last(hashed: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Of each class, the hash beyond which no row is among the smallest."""
    last = np.full(classes, 2**64 - 1, np.uint64)
    for label in np.flatnonzero(np.bincount(labels, minlength=classes) >= SAMPLE):
        last[label] = np.partition(hashed[labels == label], SAMPLE - 1)[SAMPLE - 1]
    return last


def _hashed(ids: np.ndarray) -> np.ndarray:
    hashed = (ids.view(np.uint64) + _GOLDEN) * _FACTOR
    return hashed ^ (hashed >> np.uint64(31))
