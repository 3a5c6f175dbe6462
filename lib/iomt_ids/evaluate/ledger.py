"""One table of every score of the test split: detector, task, features, split scheme, rows or distinct vectors.

With it come intervals over rows and over captures, which classes are too few to say much, and who may be called better than
whom: only who has an interval apart from the other's and is right on more of the rows that only one of the two gets right,
after the correction for all pairs that were compared.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from iomt_ids.contract.attacks import ATTACKS, class_names, labels_of_attacks
from iomt_ids.contract.splits import CaptureFile, scheme_name
from iomt_ids.evaluate.answers import Answers, CaptureAnswers
from iomt_ids.evaluate.bootstrap import f1_averages, f1_intervals, resampled_captures, resampled_rows
from iomt_ids.evaluate.confusion import COUNTED
from iomt_ids.evaluate.intervals import clopper_pearson
from iomt_ids.evaluate.mcnemar import holm, mcnemar

LEVEL = 0.05
# An exact interval of a share is wider than this only with fewer rows than `_FEW`: 1.96 / sqrt(n), and some.
_WIDE, _FEW = 0.1, 450
_Captures = dict[str, list[tuple[int, np.ndarray]]]


def describe_ledger(
    spark: SparkSession, models: Sequence[Answers], captures: Sequence[CaptureAnswers], *, run: str, resamples: int, seed: int
) -> dict[str, Any]:
    """The ``ledger`` of `scores.json`.

    Parameters
    ----------
    models : sequence of Answers
        In the order of the counts in ``captures``.
    captures : sequence of CaptureAnswers
        Of `count_answers`.
    run : str
        Id of the run that the scores are of.
    resamples, seed : int
        Of the bootstraps, which run as tasks.

    Returns
    -------
    dict
        ``rows``, one a model and way of counting, with ``scheme``, the averages with their intervals over rows
        (``f1_macro_low``) and, where a class has several test captures, over captures (``f1_macro_captures_low``, otherwise
        None), ``several_captures`` (those classes), ``uncertain`` (classes whose recall has an exact 95 % interval wider
        than 0.1), ``better_than`` and ``not_ranked_with`` (detectors); and ``pairs``, the comparisons behind them.
    """
    found = [
        _row(model, place, i, captures, run) for place, model in enumerate(models) for i in range(len(COUNTED))
    ]
    drawn = _intervals(spark, [_parts(m, p, i, captures) for p, m in enumerate(models) for i in range(len(COUNTED))],
                       resamples, seed)
    rows = [row | intervals for row, intervals in zip(found, drawn, strict=True) if row["rows"]]
    pairs = compare_pairs(models, captures)
    return {"rows": rank(rows, pairs), "pairs": pairs}


def _parts(model: Answers, place: int, counted: int, captures: Sequence[CaptureAnswers]) -> tuple[int, _Captures]:
    """Classes of the task, and by attack the true label and predictions of each recording."""
    labels = labels_of_attacks(model.problem.task)
    found: dict[tuple[str, str], tuple[int, np.ndarray]] = {}
    for c in captures:
        name = ATTACKS[c.attack].name
        key = name, CaptureFile(c.file, name, "test", 0, 0).capture
        before = found.get(key, (0, 0))[1]
        found[key] = labels[c.attack], before + c.predicted[place][counted]
    parts: _Captures = {}
    for (attack, _), part in found.items():
        if part[1].any():
            parts.setdefault(attack, []).append(part)
    return model.problem.n_classes, parts


def _matrix(classes: int, parts: _Captures) -> np.ndarray:
    matrix = np.zeros((classes, classes), np.int64)
    for label, predicted in itertools.chain.from_iterable(parts.values()):
        matrix[label] += predicted
    return matrix


def _row(model: Answers, place: int, counted: int, captures: Sequence[CaptureAnswers], run: str) -> dict[str, Any]:
    classes, parts = _parts(model, place, counted, captures)
    matrix = _matrix(classes, parts)
    return {
        "run": run, "model": model.model, "detector": model.detector, "task": model.problem.task,
        "features": model.problem.feature_set, "context": model.problem.context,
        "scheme": scheme_name(model.problem.split_scheme), "split_scheme": model.problem.split_scheme,
        "counted": COUNTED[counted], "rows": int(matrix.sum()),
        **{name: float(values[0]) for name, values in f1_averages(matrix[None]).items()},
        "several_captures": sorted(attack for attack, found in parts.items() if len(found) > 1),
        "uncertain": _uncertain(matrix, class_names(model.problem.task)),
    }


def _uncertain(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Classes of so few rows that little is known of them."""
    found = []
    for i, name in enumerate(names):
        rows, hits = int(matrix[i].sum()), int(matrix[i, i])
        if 0 < rows < _FEW:
            low, high = clopper_pearson(hits, rows)
            if high - low > _WIDE:
                found.append({"class": name, "rows": rows, "recall": hits / rows, "low": low, "high": high})
    return found


def _intervals(
    spark: SparkSession, wanted: Sequence[tuple[int, _Captures]], resamples: int, seed: int
) -> list[dict[str, float | None]]:
    """Bootstrap intervals of each confusion matrix, drawn in Spark's tasks."""
    packed = [
        (i, json.dumps([classes, {a: [[label, p.tolist()] for label, p in found] for a, found in parts.items()}]))
        for i, (classes, parts) in enumerate(wanted)
    ]
    if not packed:
        return []
    slots = min(len(packed), 4 * spark.sparkContext.defaultParallelism)
    frame = spark.createDataFrame(packed, "place int, parts string").repartition(slots, "place")
    table = frame.mapInArrow(_drawing(resamples, seed), "place int, found string").toArrow()
    found = dict(zip(table["place"].to_pylist(), table["found"].to_pylist(), strict=True))
    return [json.loads(found[i]) for i in range(len(packed))]


def _drawing(resamples: int, seed: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def draw(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = []
            for text in batch.column("parts").to_pylist():
                classes, plain = json.loads(text)
                parts = {a: [(label, np.array(p, np.int64)) for label, p in rows] for a, rows in plain.items()}
                found.append(json.dumps(intervals_of(classes, parts, resamples, seed)))
            yield pa.RecordBatch.from_pydict({"place": batch.column("place"), "found": pa.array(found, pa.string())})

    return draw


def intervals_of(classes: int, parts: _Captures, resamples: int, seed: int) -> dict[str, float | None]:
    """Intervals over rows, and over captures if an attack has several of them."""
    matrix = _matrix(classes, parts)
    if not matrix.any():
        return {}
    by_row = f1_intervals(resampled_rows(matrix, resamples, seed))
    by_capture: Mapping[str, float] = {}
    if any(len(found) > 1 for found in parts.values()):
        by_capture = f1_intervals(resampled_captures(parts, classes, resamples, seed))
    # f1_macro_low, and beside it f1_macro_captures_low.
    return by_row | {"_captures_".join(name.rsplit("_", 1)): by_capture.get(name) for name in by_row}


def compare_pairs(models: Sequence[Answers], captures: Sequence[CaptureAnswers]) -> list[dict[str, Any]]:
    """Every two detectors of one task and feature set, on the same test rows.

    Rows with one vector get one answer, so they are one observation: the test is over distinct vectors. Counts of rows stand
    beside them. ``p_holm`` is corrected for all pairs of the run.
    """
    found: list[dict[str, Any]] = []
    for group in dict.fromkeys(m.group for m in models):
        members = [m for m in models if m.group == group]
        patterns = [(p, counts) for c in captures for p, counts in c.patterns.get(group, {}).items()]
        for (i, first), (j, second) in itertools.combinations(enumerate(members), 2):
            alone = {counted: [0, 0] for counted in COUNTED}
            for pattern, counts in patterns:
                right = pattern >> i & 1, pattern >> j & 1
                if right[0] != right[1]:
                    for counted, n in zip(COUNTED, counts, strict=True):
                        alone[counted][right[1]] += n
            found.append({
                "task": group[0], "features": group[1], "first": first.detector, "second": second.detector,
                **{f"{who}_only_{c}": alone[c][i] for c in COUNTED for i, who in enumerate(("first", "second"))},
                "p": mcnemar(*alone["distinct"]),
            })
    corrected = holm([pair["p"] for pair in found])
    return [pair | {"p_holm": p, "differ": p < LEVEL} for pair, p in zip(found, corrected, strict=True)]


def rank(rows: Iterable[dict[str, Any]], pairs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to each row the detectors that it is better than, and those with which no ranking is claimed."""
    known = {}
    for pair in pairs:
        ahead = pair["first_only_distinct"] > pair["second_only_distinct"]
        known[pair["task"], pair["features"], pair["first"], pair["second"]] = pair["differ"] and ahead
        known[pair["task"], pair["features"], pair["second"], pair["first"]] = pair["differ"] and not ahead
    ranked = list(rows)
    places = ("task", "features", "split_scheme", "counted")
    for row in ranked:
        row["better_than"], row["not_ranked_with"] = [], []
        for other in ranked:
            if other is row or any(row[p] != other[p] for p in places):
                continue
            both = row["task"], row["features"], row["detector"], other["detector"]
            above, below = interval_of(row)[0] > interval_of(other)[1], interval_of(row)[1] < interval_of(other)[0]
            if above and known.get(both):
                row["better_than"].append(other["detector"])
            elif not (below and known.get((*both[:2], both[3], both[2]))):
                row["not_ranked_with"].append(other["detector"])
    return ranked


def interval_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """The wider of a row's intervals of macro-F1, over captures where there are several."""
    low, high = row.get("f1_macro_captures_low"), row.get("f1_macro_captures_high")
    if low is None or high is None:
        return row["f1_macro_low"], row["f1_macro_high"]
    return min(row["f1_macro_low"], low), max(row["f1_macro_high"], high)
