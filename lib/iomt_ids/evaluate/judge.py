"""A model's predictions on rows it has not learnt from, as entries of `scores.json` and rows of `gold.scores`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels, class_names
from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import SCORES
from iomt_ids.evaluate.confusion import COUNTED, SCOPES, Count, confusion_matrix, count_predictions
from iomt_ids.evaluate.duplicates import describe_duplicates
from iomt_ids.evaluate.insight import describe_attacks, describe_devices
from iomt_ids.evaluate.leaks import describe_leaks
from iomt_ids.evaluate.scores import Tally, score

JUDGED = ("test", "validation", "profile")


@dataclass(frozen=True)
class Verdict:
    """What a model is worth.

    Attributes
    ----------
    model : str
        ``<detector>-<task>-<feature set>``.
    counts : list of Count
        What everything else was computed from.
    scores : list of dict
        Entries of ``scores`` in `scores.json`: one a split, and one a protocol of the test split, each over rows as they
        are and over distinct vectors.
    """

    model: str
    counts: list[Count]
    scores: list[dict[str, Any]]

    def with_facts(self, **facts: Any) -> Verdict:
        """The same with more facts in every entry of the scores."""
        return dataclasses.replace(self, scores=[{**entry, **facts} for entry in self.scores])


def judge_model(
    model: str, detector: str, problem: Problem, scored: DataFrame, *, resamples: int, seed: int
) -> Verdict:
    """Count a model's predictions and score the counts.

    Parameters
    ----------
    scored : DataFrame
        Rows of `gold.features` with the model's `prediction`, at least those that stand for themselves or for copies.
    resamples, seed : int
        Of the bootstrap.
    """
    label = F.col(problem.label_column).cast("int").alias("label")
    copies = F.col(problem.copies_column).alias("copies")
    counts = count_predictions(scored.select(label, "prediction", "split", "protocol", "device", copies))
    classes = class_names(problem.task)
    entries = []
    places = [(split, "all") for split in JUDGED] + [("test", scope) for scope in SCOPES[1:]]
    for (split, scope), counted in itertools.product(places, COUNTED):
        matrix = confusion_matrix(counts, classes=len(classes), split=split, scope=scope, counted=counted)
        if matrix.sum():
            tally = Tally(matrix, benign_labels(problem.task))
            entries.append({
                "model": model, "detector": detector, "task": problem.task, "features": problem.feature_set,
                "context": problem.context, "split": split, "scope": scope, "counted": counted,
                **score(tally, classes, resamples=resamples, seed=seed),
            })
    return Verdict(model, counts, entries)


def describe_verdicts(
    verdicts: Sequence[Verdict], flows: DataFrame, data: NamedData, tables: dict[str, int | None]
) -> dict[str, Any]:
    """The parts ``data``, ``scores``, ``insight``, ``leaks`` and ``duplicates`` of `scores.json`.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`, of every split.
    data : NamedData
        What the configuration says of the data.
    tables : dict of str to int or None
        The version of each table there is.
    """
    return {
        "data": describe_data(flows, data, tables),
        "scores": [entry for verdict in verdicts for entry in verdict.scores],
        "insight": describe_flows(flows, verdicts),
        "leaks": describe_leaks(flows),
        "duplicates": describe_duplicates(flows),
    }


def describe_flows(flows: DataFrame, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The ``insight`` of `scores.json`: what attacks and devices look like, without columns that leak."""
    first = flows.select("release").first()
    if first is None:
        return {"attacks": [], "devices": []}
    features = feature_names(first["release"], "leak_free")
    profiled = {
        v.model: [(c.device, c.protocol, c.label, c.prediction, c.rows) for c in v.counts if c.split == "profile"]
        for v in verdicts
    }
    return {
        "attacks": describe_attacks(flows, features),
        "devices": describe_devices(flows, features, profiled),
    }


class NamedData(Protocol):
    """What the configuration says of the data."""

    @property
    def name(self) -> str:
        """A short name of the data."""

    @property
    def raw(self) -> str:
        """Where its files are."""

    @property
    def is_demo(self) -> bool:
        """Whether it is synthetic."""


def describe_data(flows: DataFrame, data: NamedData, tables: dict[str, int | None]) -> dict[str, Any]:
    """The ``data`` of `scores.json`: which rows the scores are of, and the version of each table read."""
    return {**describe_source(flows, data, tables), "rows": _rows_by_class(flows)}


def describe_source(flows: DataFrame, data: NamedData, tables: dict[str, int | None]) -> dict[str, Any]:
    """The same of rows that need not have labels: where they come from, but not how many there are of each class."""
    release = flows.select("release").first()
    return {
        "name": data.name, "raw": data.raw, "synthetic": data.is_demo,
        "note": "synthetic demo data: its scores say nothing of real traffic" if data.is_demo else "",
        "release": release and release["release"], "tables": tables,
    }


def _rows_by_class(flows: DataFrame) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for row in flows.groupBy("split", "attack_id").count().orderBy("split", "attack_id").collect():
        counted.setdefault(row["split"], {})[class_names("attack")[row["attack_id"]]] = row["count"]
    return counted


def scores_table(spark: SparkSession, run: str, entries: Iterable[dict[str, Any]]) -> DataFrame:
    """Every number of the entries as a row of `contract.tables.SCORES`."""
    rows = []
    for entry in entries:
        place = (run, entry["detector"], entry["task"], entry["features"], entry["split"], entry["scope"], entry["counted"])
        numbers = {name: value for name, value in entry.items() if value is None or isinstance(value, int | float)}
        rows += [(*place, None, metric, _double(value)) for metric, value in numbers.items()]
        for name, measures in entry["per_class"].items():
            rows += [(*place, name, metric, _double(value)) for metric, value in measures.items()]
    return spark.createDataFrame(rows, SCORES).coalesce(1)


def _double(value: float | int | None) -> float | None:
    return None if value is None else float(value)
