"""What each way of cutting the rows into train and test puts on both sides, and what that leaves for a model to show.

Every scheme of `contract.splits` is looked at, whichever the detectors have learnt under: rows, exact and near duplicates
across the cut, vectors with several labels, and the most that any model of these columns could score. Rows meet in Spark's
tasks by a hash of their vector; each task answers with arrays of a fixed size, which the driver adds.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import ATTACKS, TASKS, benign_labels, class_names, labels_of_attacks
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.identity import HALVES, vector_key
from iomt_ids.contract.splits import CaptureFile, Scheme, captures_of, cut_captures, list_files, not_splittable, side_of
from iomt_ids.evaluate.scores import OVERALL, Tally

NEAR_DIGITS = 3
_FEATURES = "leak_free"
_SIDES = ("train", "test")
FIELDS = ("train", "test", "aside", "exact", "exact_same_label", "near", "near_same_label", "disputed")
# Vectors by the share of a class among their test rows: finer than a score is told.
SHARES = 1000
_NEAR = "near_"
_Counts = dict[str, np.ndarray]


def describe_splits(flows: DataFrame, schemes: Sequence[Scheme]) -> dict[str, Any]:
    """The ``splits`` of `scores.json`.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`, of every split and those that the scheme in force has put aside.
    schemes : sequence of Scheme
        Those to look at.

    Returns
    -------
    dict
        ``in_force`` (the text of the scheme that the rows are cut by), ``near`` (what a near duplicate is, in words), and
        ``schemes``: for each its ``scheme``, ``text``, ``gap_rows``, ``not_splittable`` (classes of one capture),
        ``adjoining`` (classes whose test rows go on where their train rows end, in one capture), ``classes`` and
        ``ceiling``. The numbers of a class are rows of ``train`` (validation rows are taken from these), ``test`` and
        ``aside``, and, of its test rows, those with an ``exact`` or ``near`` duplicate among train rows, of any label and of
        the same, and those ``disputed``: their vector also occurs under another label, on either side. ``ceiling`` is by
        task: ``accuracy`` and ``f1_macro`` that no model of these columns can exceed on the test rows, and
        ``f1_macro_reached``, that of the answer that is right for most rows of each vector.
        Empty if there are no rows.
    """
    first = flows.select("release", "split_scheme").first()
    if first is None:
        return {}
    files = list_files(flows, "source_split")
    names = tuple(f"side_{scheme.name}" for scheme in schemes)
    placed = flows.filter(F.col("source_split").isin(*_SIDES))
    for scheme, name in zip(schemes, names, strict=True):
        placed = side_of(placed, scheme, files, split="source_split", into=name)
    columns = feature_names(first["release"], _FEATURES)
    near = F.struct(*[F.xxhash64(F.lit(salt), *map(rounded, columns)).alias(h) for salt, h in enumerate(HALVES)])
    exact = vector_key(columns)
    keyed = placed.select(
        *[near[h].alias(f"{_NEAR}{h}") for h in HALVES], *[exact[h].alias(h) for h in HALVES], "attack_id",
        *[_code(name) for name in names],
    )
    # Equal rows are nearly equal: both kinds meet where the coarser key puts them.
    counts = _sum(row.as_py() for row in keyed.repartition(_NEAR + HALVES[0]).mapInArrow(
        _counting(names), "counts binary").toArrow().column("counts"))
    return {
        "in_force": first["split_scheme"],
        "near": f"equal in every leak-free column when rounded to {NEAR_DIGITS} significant digits",
        "schemes": [_entry(scheme, i, counts, files) for i, scheme in enumerate(schemes)],
    }


def rounded(name: str) -> Column:
    """A column to `NEAR_DIGITS` significant digits, as a key: equal values have equal keys, also 0.0 and -0.0.

    Two values on either side of a rounding step are told apart however close they are, so near duplicates are counted low.
    """
    value = F.col(name)
    scale = F.pow(F.lit(10.0), F.lit(NEAR_DIGITS - 1) - F.floor(F.log10(F.abs(value))))
    return F.when(value == 0, F.lit(0.0)).otherwise(F.rint(value * scale) / scale)


def _code(name: str) -> Column:
    # 0 train, 1 test, 2 aside.
    return F.when(F.col(name) == "train", 0).when(F.col(name) == "test", 1).otherwise(2).cast("byte").alias(name)


def empty_counts(schemes: int) -> _Counts:
    """No rows: what `count_sides` adds to."""
    found = {"fields": np.zeros((schemes, len(ATTACKS), len(FIELDS)), np.int64)}
    for task in TASKS:
        n = len(class_names(task))
        found[f"{task}_best"] = np.zeros((schemes, n, n), np.int64)
        # By class and share: its own rows, and all rows, of vectors with that share.
        found[f"{task}_shares"] = np.zeros((schemes, n, SHARES + 1, 2), np.int64)
    return found


def _sum(packed: Iterator[bytes]) -> _Counts:
    total: _Counts = {}
    for content in packed:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            total = {name: arrays[name] + total.get(name, 0) for name in arrays}
    return total


def _counting(names: Sequence[str]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if not held:
            return
        rows = pa.Table.from_batches(held)
        exact, near = (
            group_ids([rows[prefix + half].to_numpy() for half in HALVES]) for prefix in ("", _NEAR)
        )
        counts = empty_counts(len(names))
        for place, name in enumerate(names):
            count_sides(counts, place, exact, near, rows["attack_id"].to_numpy(), rows[name].to_numpy())
        packed = io.BytesIO()
        np.savez_compressed(packed, **counts)
        yield pa.RecordBatch.from_pydict({"counts": pa.array([packed.getvalue()], pa.binary())})

    return count


def group_ids(keys: Sequence[np.ndarray]) -> np.ndarray:
    """A number for each row, the same for rows with equal keys.

    Returns
    -------
    ndarray of int64, shape (rows,)
        From 0 on, without holes.
    """
    order = np.lexsort(keys)
    changes = np.any([np.diff(key[order], prepend=key[order[:1]]) != 0 for key in keys], axis=0)
    found = np.empty(len(order), np.int64)
    found[order] = np.cumsum(changes)
    return found


def count_sides(
    counts: _Counts, place: int, exact: np.ndarray, near: np.ndarray, attack: np.ndarray, side: np.ndarray
) -> None:
    """Count the rows of some vectors under one scheme, in place; all rows of a vector must be there.

    Parameters
    ----------
    place : int
        Of the scheme in the arrays.
    exact, near : ndarray of int64, shape (rows,)
        Vectors, of `group_ids`.
    attack, side : ndarray of int, shape (rows,)
        True attack; 0 for train, 1 for test, 2 for aside.
    """
    fields = counts["fields"][place]
    for i in range(3):
        np.add.at(fields[:, i], attack[side == i], 1)
    train, test = side == 0, side == 1
    for i, ids in ((FIELDS.index("exact"), exact), (FIELDS.index("near"), near)):
        pairs = ids * len(ATTACKS) + attack
        for j, keys in enumerate((ids, pairs)):
            np.add.at(fields[:, i + j], attack[test & np.isin(keys, keys[train])], 1)
    seen = side < 2
    told = np.unique(exact[seen] * len(ATTACKS) + attack[seen]) // len(ATTACKS)
    several = np.flatnonzero(np.bincount(told) > 1)
    np.add.at(fields[:, FIELDS.index("disputed")], attack[test & np.isin(exact, several)], 1)
    for task in TASKS:
        _count_answers(counts, place, task, exact[test], np.array(labels_of_attacks(task))[attack[test]])


def _count_answers(counts: _Counts, place: int, task: str, vectors: np.ndarray, labels: np.ndarray) -> None:
    """Test rows by the best answer to their vector, and vectors by the share of each class among their rows."""
    if not vectors.size:
        return
    classes = len(class_names(task))
    pairs, rows = np.unique(vectors * classes + labels, return_counts=True)
    vector, label = pairs // classes, pairs % classes
    total = np.bincount(vector, weights=rows).astype(np.int64)[vector]
    # The most rows first, then the smaller label: the first of each vector is its answer.
    order = np.lexsort((label, -rows, vector))
    firsts = order[np.flatnonzero(np.diff(vector[order], prepend=-1))]
    answer = np.zeros(vector.max() + 1, np.int64)
    answer[vector[firsts]] = label[firsts]
    np.add.at(counts[f"{task}_best"][place], (label, answer[vector]), rows)
    share = rows * SHARES // total
    np.add.at(counts[f"{task}_shares"][place], (label, share, 0), rows)
    np.add.at(counts[f"{task}_shares"][place], (label, share, 1), total)


def most_f1(shares: np.ndarray) -> np.ndarray:
    """The F1 that no answer to vectors can exceed, for each class by itself.

    A class scores best if it claims the vectors in which its share is highest, down to some share. Where the cut falls
    inside a bin, its rows are counted as if they were of the bin's upper end, so that the bound holds.

    Parameters
    ----------
    shares : ndarray of int64, shape (classes, SHARES + 1, 2)
        By the share of the class among a vector's rows, rounded down: its rows, and all rows.

    Returns
    -------
    ndarray of float64, shape (classes,)
        nan for a class without rows.
    """
    hits, claimed = (shares[:, ::-1, i].astype(float) for i in range(2))
    upper = np.minimum((np.arange(SHARES, -1, -1) + 1) / SHARES, 1.0)
    least = claimed.cumsum(axis=1) - claimed + hits / upper
    support = hits.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (2 * hits.cumsum(axis=1) / (support + least)).max(axis=1)


def _entry(scheme: Scheme, place: int, counts: _Counts, files: Sequence[CaptureFile]) -> dict[str, Any]:
    captures = captures_of(files)
    fields = counts["fields"][place] if counts else np.zeros((len(ATTACKS), len(FIELDS)), np.int64)
    return {
        "scheme": scheme.name, "text": scheme.text, "gap_rows": scheme.gap_rows if scheme.name == "time" else 0,
        "not_splittable": not_splittable(files), "adjoining": sorted(cut_captures(files, scheme)),
        "classes": [
            {"class": a.name, "captures": len(captures.get(a.name, ())), **dict(zip(FIELDS, fields[a.id].tolist(), strict=True))}
            for a in ATTACKS if fields[a.id].any()
        ],
        "ceiling": {task: found for task in TASKS if counts and (found := _ceiling(counts, place, task))},
    }


def _ceiling(counts: _Counts, place: int, task: str) -> dict[str, float] | None:
    tally = Tally(counts[f"{task}_best"][place], benign_labels(task))
    if not tally.rows:
        return None
    bound = most_f1(counts[f"{task}_shares"][place])
    return {
        "accuracy": OVERALL["accuracy"](tally), "f1_macro": float(bound[tally.support > 0].mean()),
        "f1_macro_reached": OVERALL["f1_macro"](tally),
    }
