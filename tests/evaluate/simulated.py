"""Rows of a made-up detector whose probabilities are known, as arrays, as counts and as a DataFrame."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, class_names
from iomt_ids.evaluate import hierarchy_counts
from iomt_ids.evaluate.hierarchy import describe_hierarchy
from iomt_ids.evaluate.hierarchy_counts import HierarchyCounts
from iomt_ids.evaluate.operating import describe_operating
from iomt_ids.evaluate.score_counts import UNSEEN, ScoreCounts, add_rows
from tests.builders import problem

BENIGN = np.array([a.category == "Benign" for a in ATTACKS])
LABEL_OF = {
    "attack": np.arange(len(ATTACKS)), "category": np.array([CATEGORIES.index(a.category) for a in ATTACKS]),
    "binary": (~BENIGN).astype(int),
}
COSTS = SimpleNamespace(
    false_alarm=1.0, mistaken=2.0, missed={"Spoofing": 20.0, "Recon": 5.0, "MQTT": 20.0, "DoS": 50.0, "DDoS": 50.0}
)


def simulated(task: str, rows: int, *, seed: int = 0, sharpness: float = 1.0, benign: float = 0.4) -> dict[str, np.ndarray]:
    """Rows as `add_rows` takes them; with a sharpness of 1 the probabilities are right, above 1 too sure of themselves.

    A true class is drawn from the probabilities that were told, sharpened; so nothing but the sharpness is wrong.
    """
    dice = np.random.default_rng(seed)
    classes = len(class_names(task))
    told = LABEL_OF[task][np.where(dice.random(rows) < benign, 0, dice.integers(0, len(ATTACKS), rows))]
    logits = dice.normal(0, 1, (classes, rows))
    logits[told, np.arange(rows)] += dice.exponential(5, rows)
    true = softmax(logits)
    label = (true.cumsum(axis=0) < dice.random(rows)).sum(axis=0).clip(0, classes - 1)
    attack = np.array([dice.permutation(np.flatnonzero(LABEL_OF[task] == c))[0] for c in label])
    probability = softmax(sharpness * logits)
    return {
        "probability": probability, "split": dice.choice(len(UNSEEN), rows, p=[0.4, 0.4, 0.2]), "attack": attack,
        "label": label, "prediction": probability.argmax(axis=0), "weight": np.ones(rows, np.int64),
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=0))
    return raised / raised.sum(axis=0)


def counted(task: str, rows: dict[str, np.ndarray]) -> ScoreCounts:
    counts = ScoreCounts.empty(task)
    add_rows(counts, task, **rows)
    return counts


def described(
    task: str, counts: ScoreCounts, *, budget: int = 10_000, detector: str = "oracle", features: str = "leak_free"
) -> dict[str, Any]:
    asked = problem(task, [0, 1], features)
    return describe_operating(
        f"{detector}-{task}-{features}", detector, asked, counts, false_alarms_per_million=budget, costs=COSTS
    )


def levels_counted(task: str, rows: dict[str, np.ndarray]) -> HierarchyCounts:
    counts = HierarchyCounts.empty(task)
    hierarchy_counts.add_rows(counts, task, *(rows[name] for name in ("probability", "split", "attack")))
    return counts


def told_by_level(task: str, rows: dict[str, np.ndarray], *, error: float, features: str = "leak_free") -> dict[str, Any]:
    asked = problem(task, [0, 1], features)
    counts = levels_counted(task, rows)
    return describe_hierarchy(f"oracle-{task}-{features}", "oracle", asked, counts, error=error, resamples=200, seed=7)


def alarm_scores(task: str, rows: dict[str, np.ndarray]) -> np.ndarray:
    """1 less the benign probabilities, as a plain program has it."""
    benign = [i for i in range(len(rows["probability"])) if i in LABEL_OF[task][BENIGN]]
    return 1 - rows["probability"][benign].sum(axis=0)


def as_frame(spark: SparkSession, task: str, rows: dict[str, np.ndarray]) -> DataFrame:
    """The columns of scored `gold.features` that count."""
    schema = T.StructType([
        T.StructField("split", T.StringType()), T.StructField("attack_id", T.IntegerType()),
        *([T.StructField(f"{task}_id", T.IntegerType())] if task != "attack" else []),
        T.StructField("prediction", T.IntegerType()), T.StructField("probability", T.ArrayType(T.DoubleType())),
        T.StructField("copies", T.IntegerType()),
    ])
    labels = [] if task == "attack" else [rows["label"].tolist()]
    columns = [[UNSEEN[s] for s in rows["split"]], rows["attack"].tolist(), *labels, rows["prediction"].tolist(),
               rows["probability"].T.tolist(), rows["weight"].tolist()]
    return spark.createDataFrame(list(zip(*columns, strict=True)), schema)
