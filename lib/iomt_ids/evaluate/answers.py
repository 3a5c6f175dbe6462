"""What several models said of the same test rows, capture by capture and in order, counted in Spark.

Models are scored one after the other, each once for all equal rows. Of each only identities, answers and alarm scores are
kept; they meet in one pass over the test rows, in which every task takes one capture after the other from its first line to its
last. What leaves a task is counts: see `CaptureAnswers`. No row reaches the driver.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels, class_names, labels_of_attacks
from iomt_ids.contract.flows import VECTOR_SETS
from iomt_ids.contract.identity import ALIKE, HALVES, columns_of_set, vector_key
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import copies_column
from iomt_ids.evaluate.score_counts import kinds_of
from iomt_ids.evaluate.waits import Waits, packets_of_windows, stable_starts, waits_of

# One number holds an answer: the class, the category of the likeliest attack, and whether an alert is raised.
_KIND, _ALERT = 32, 256
_PACKETS = ("buffer_packets", "window_packets")


@dataclass(frozen=True)
class Answers:
    """A model's answers to test rows.

    Attributes
    ----------
    model, detector : str
        Their names.
    problem : Problem
        What it was asked to learn.
    threshold : float or None
        Of the alarm score; None if it never alerts.
    rows : DataFrame
        Of `keep_answers`.
    """

    model: str
    detector: str
    problem: Problem
    threshold: float | None
    rows: DataFrame

    @property
    def group(self) -> tuple[str, str]:
        """Models of one group answer the same question about the same rows."""
        return self.problem.task, self.problem.feature_set


@dataclass(frozen=True)
class CaptureAnswers:
    """What all models said of one capture file.

    Attributes
    ----------
    file : str
        Which one.
    attack : int
        Its class.
    rows : int
        Test rows.
    is_whole : bool
        Whether these stand on neighbouring lines, so that they show what followed what.
    packets : float or None
        Packets of a window, where the columns tell.
    predicted : list of ndarray of int64, shape (2, classes)
        A model each: rows, and distinct vectors, by what was predicted.
    patterns : dict
        By group: for each pattern of right answers (one bit a model of the group, the first the lowest), rows and distinct
        vectors.
    alerts, stable : list of Waits
        A model each: windows until an alert, and until a verdict is stable; empty if not `is_whole`.
    """

    file: str
    attack: int
    rows: int
    is_whole: bool
    packets: float | None
    predicted: list[np.ndarray]
    patterns: dict[tuple[str, str], dict[int, tuple[int, int]]]
    alerts: list[Waits]
    stable: list[Waits]

    def as_text(self) -> str:
        """As JSON, to leave a task."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps(plain | {
            "predicted": [counts.tolist() for counts in self.predicted],
            "patterns": [[*group, list(found.items())] for group, found in self.patterns.items()],
            **{name: [[list(w.gaps.items()), w.first, w.rest] for w in getattr(self, name)] for name in ("alerts", "stable")},
        })

    @classmethod
    def from_text(cls, text: str) -> CaptureAnswers:
        """The inverse of `as_text`."""
        plain = json.loads(text)
        return cls(**plain | {
            "predicted": [np.array(counts, np.int64) for counts in plain["predicted"]],
            "patterns": {(t, s): {p: (a, b) for p, (a, b) in found} for t, s, found in plain["patterns"]},
            **{name: [Waits(dict(gaps), first, rest) for gaps, first, rest in plain[name]] for name in ("alerts", "stable")},
        })


def keep_answers(told: DataFrame, problem: Problem) -> DataFrame:
    """What has to be kept of a model's answers to test rows.

    Parameters
    ----------
    told : DataFrame
        Rows of `gold.features` that stand for themselves or others, with the model's `prediction` and `probability`.

    Returns
    -------
    DataFrame
        ``flow_id`` (long), ``answer`` (int: class and category), ``alarm`` (double: 1 less the probability of benign).
    """
    benign = benign_labels(problem.task)
    attacks = F.filter("probability", lambda _, i: ~i.isin(*benign))
    kinds = [int(kind) for label, kind in enumerate(kinds_of(problem.task)) if label not in benign]
    likeliest = F.array_position(attacks, F.array_max(attacks)).cast("int")
    kind = F.element_at(F.array(*[F.lit(k) for k in kinds]), likeliest)
    return told.filter(F.col("split") == "test").select(
        "flow_id", (F.col("prediction") + _KIND * kind).cast("int").alias("answer"), alarm_score(problem).alias("alarm")
    )


def alarm_score(problem: Problem) -> Column:
    """1 less the probability of the benign classes, of rows with the model's `probability`."""
    benign = benign_labels(problem.task)
    return functools.reduce(operator.add, [F.col("probability")[i] for i in range(problem.n_classes) if i not in benign])


def count_answers(flows: DataFrame, models: Sequence[Answers], *, stable_windows: int) -> list[CaptureAnswers]:
    """Count what models said of each test capture, in one pass.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`.
    models : sequence of Answers
        One or more.
    stable_windows : int
        Alerts in a row that name one category before a verdict counts as stable.

    Returns
    -------
    list of CaptureAnswers
        By file; the same however rows are ordered and spread.
    """
    test = flows.filter(F.col("split") == "test")
    placed = test.select("flow_id", "source_file", "source_line", "attack_id", *_PACKETS)
    for feature_set in dict.fromkeys(m.problem.feature_set for m in models):
        placed = _stood_for(placed, test, feature_set).join(_side_by_side(models, feature_set), f"stands_{feature_set}", "left")
    in_order = placed.repartition("source_file").sortWithinPartitions("source_file", "source_line")
    counting = _counting([(m.problem.task, m.problem.feature_set) for m in models], stable_windows)
    found = in_order.mapInArrow(counting, "capture string").toArrow().column("capture")
    return sorted((CaptureAnswers.from_text(row.as_py()) for row in found), key=lambda c: c.file)


def _stood_for(placed: DataFrame, test: DataFrame, feature_set: str) -> DataFrame:
    """Add the identity of the row that a model of this feature set has answered in place of each."""
    name = f"stands_{feature_set}"
    if feature_set not in VECTOR_SETS:
        return placed.withColumn(name, F.col("flow_id"))
    key = vector_key([*ALIKE, *columns_of_set(feature_set)])
    keyed = test.select("flow_id", F.col(copies_column(feature_set)).alias("copies"), *[key[h].alias(h) for h in HALVES])
    standing = keyed.filter("copies > 1").select(*HALVES, F.col("flow_id").alias("_for"))
    absent = keyed.filter("copies = 0").join(standing, list(HALVES)).select("flow_id", "_for")
    return placed.join(absent, "flow_id", "left").withColumn(name, F.coalesce("_for", "flow_id")).drop("_for")


def _side_by_side(models: Sequence[Answers], feature_set: str) -> DataFrame:
    """A column ``m<place>`` for each model of a feature set, by identity."""
    found = [(i, m) for i, m in enumerate(models) if m.problem.feature_set == feature_set]
    coded = functools.reduce(DataFrame.unionByName, [
        m.rows.select("flow_id", F.lit(i).alias("model"), (F.col("answer") + _ALERT * _alert(m)).alias("code")) for i, m in found
    ])
    return coded.groupBy(F.col("flow_id").alias(f"stands_{feature_set}")).agg(
        *[F.max(F.when(F.col("model") == i, F.col("code"))).alias(f"m{i}") for i, _ in found]
    )


def _alert(model: Answers) -> Column:
    return F.lit(0) if model.threshold is None else (F.col("alarm") >= F.lit(model.threshold)).cast("int")


def _counting(
    groups: Sequence[tuple[str, str]], stable_windows: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in _captures(batches):
            counted = count_capture(rows, groups, stable_windows)
            yield pa.RecordBatch.from_pydict({"capture": pa.array([counted.as_text()])})

    return count


def _captures(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Rows that come in the order of files, a table a file."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        files = batch.column("source_file").to_numpy(zero_copy_only=False)
        starts = (np.flatnonzero(files[1:] != files[:-1]) + 1).tolist()
        for start, end in pairwise([0, *starts, batch.num_rows]):
            if held and held[-1].column("source_file")[0].as_py() != files[start]:
                yield pa.Table.from_batches(held)
                held = []
            held.append(batch.slice(start, end - start))
    if held:
        yield pa.Table.from_batches(held)


def count_capture(rows: pa.Table, groups: Sequence[tuple[str, str]], stable_windows: int) -> CaptureAnswers:
    """Count what models said of the rows of one file, in order.

    Parameters
    ----------
    rows : pyarrow.Table
        ``source_file``, ``source_line``, ``attack_id``, ``flow_id``, a column ``m<place>`` for each model, and for each
        feature set the identity of the row that was answered.
    groups : sequence of (str, str)
        Task and feature set of each model.
    """
    lines, ids = rows["source_line"].to_numpy(), rows["flow_id"].to_numpy()
    attack = int(rows["attack_id"][0].as_py())
    is_whole = int(lines[-1] - lines[0]) == len(lines) - 1
    found = CaptureAnswers(
        rows["source_file"][0].as_py(), attack, len(lines), is_whole,
        packets_of_windows(*(rows[name].to_numpy().astype(float) for name in _PACKETS)), [], {}, [], [],
    )
    bits: dict[tuple[str, str], np.ndarray] = {}
    places: dict[tuple[str, str], int] = {}
    for i, group in enumerate(groups):
        code = rows[f"m{i}"].to_numpy().astype(np.int64)
        answer, kind, alert = code % _KIND, code // _KIND % (_ALERT // _KIND), code >= _ALERT
        own = ids == rows[f"stands_{group[1]}"].to_numpy()
        classes = len(class_names(group[0]))
        found.predicted.append(np.array([np.bincount(a, minlength=classes) for a in (answer, answer[own])]))
        bits[group] = bits.get(group, 0) | (answer == labels_of_attacks(group[0])[attack]).astype(np.int64) << places.get(group, 0)
        places[group] = places.get(group, 0) + 1
        if is_whole:
            found.alerts.append(waits_of(alert))
            found.stable.append(waits_of(stable_starts(alert, kind, stable_windows)))
    for group, pattern in bits.items():
        own = ids == rows[f"stands_{group[1]}"].to_numpy()
        patterns, inverse = np.unique(pattern, return_inverse=True)
        counts = (np.bincount(inverse, minlength=len(patterns)), np.bincount(inverse[own], minlength=len(patterns)))
        found.patterns[group] = {int(p): (int(a), int(b)) for p, a, b in zip(patterns, *counts, strict=True)}
    return found
