"""Duplicates are counted as a plain program counts them, and the ceiling is what the best answer a vector scores."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import accuracy_score, f1_score

from iomt_ids.contract.attacks import ATTACKS
from iomt_ids.contract.tables import UNCOUNTED
from iomt_ids.evaluate.duplicates import describe_duplicates
from tests.builders import bronze_row

CLASSES = [a for a in ATTACKS if a.name in ("Benign", "DoS-TCP", "DoS-UDP")]
SPLITS = ("train", "validation", "test", "test", "profile")


def made(seed: int) -> list[dict]:
    """Rows of few values, so that most are there more than once."""
    draw = np.random.default_rng(seed)
    rows = []
    for line in range(300):
        attack, split = CLASSES[draw.integers(3)], SPLITS[draw.integers(5)]
        file = f"{split}-{draw.integers(2)}-{attack.name}".replace("validation", "train")
        values = {
            "ttl_mean": float(draw.integers(6)) * float(draw.choice([1.0, -1.0])),
            "flow_rate_per_s": 0.1 + 1e-12 * int(draw.integers(2)), "weight": float(draw.integers(2)),
        }
        rows.append(bronze_row(attack=attack.name, split=split, source_file=file, source_line=line + 2, **values) | {
            "flow_id": line, "attack_id": attack.id, "category_id": 0, "binary_id": 0, "has_sentinel_iat": False,
        })
    return rows


def counted(rows: list[dict], names: tuple[str, ...], kind: type) -> dict[str, dict[str, int]]:
    """The same by dictionaries."""
    vectors = [tuple(float(kind(row[n])) + 0.0 for n in names) for row in rows]
    labels, learnt, by_class, by_file = defaultdict(set), set(), defaultdict(set), defaultdict(set)
    for row, vector in zip(rows, vectors, strict=True):
        labels[vector].add(row["attack"])
        learnt |= {vector} if row["split"] in ("train", "validation") else set()
        by_class[row["attack"]].add(vector)
        by_file[row["attack"], row["source_file"]].add(vector)
    found = {}
    for attack in CLASSES:
        mine = [(r, v) for r, v in zip(rows, vectors, strict=True) if r["attack"] == attack.name]
        files = sum(len(v) for (name, _), v in by_file.items() if name == attack.name)
        test = [v for r, v in mine if r["split"] == "test"]
        found[attack.name] = {
            "rows": len(mine), "distinct": len(by_class[attack.name]), "within_files": len(mine) - files,
            "across_files": files - len(by_class[attack.name]), "test_rows": len(test),
            "test_rows_learnt_from": sum(v in learnt for v in test),
            "under_another_label": sum(len(labels[v]) > 1 for _, v in mine),
        }
    return found


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_a_plain_program(spark: SparkSession, seed: int) -> None:
    rows = made(seed)
    flows = spark.createDataFrame([tuple(row[n] for n in UNCOUNTED.fieldNames()) for row in rows], UNCOUNTED)
    found = {(d["features"], d["precision"]): d for d in describe_duplicates(flows)}
    varied = ("ttl_mean", "flow_rate_per_s")
    for key, names, kind in (
        (("leak_free", "double"), varied, float), (("all", "double"), (*varied, "weight"), float),
        (("all", "float"), (*varied, "weight"), np.float32),
    ):
        ours = {c["class"]: {k: v for k, v in c.items() if k != "class"} for c in found[key]["classes"]}
        assert ours == counted(rows, names, kind), key
    total = {key: sum(c["distinct"] for c in d["classes"]) for key, d in found.items()}
    assert total["all", "float"] < total["all", "double"]
    assert (found["leak_free", "double"]["columns"], found["all", "double"]["columns"]) == (42, 45)


def test_the_ceiling_is_the_score_of_the_best_answer(spark: SparkSession) -> None:
    rows = made(9)
    flows = spark.createDataFrame([tuple(row[n] for n in UNCOUNTED.fieldNames()) for row in rows], UNCOUNTED)
    test = [(r["attack_id"], (r["ttl_mean"] + 0.0, r["flow_rate_per_s"])) for r in rows if r["split"] == "test"]
    votes = defaultdict(Counter)
    for label, vector in test:
        votes[vector][label] += 1
    best = {v: min(c, key=lambda label, c=c: (-c[label], label)) for v, c in votes.items()}
    truth, answer = [label for label, _ in test], [best[v] for _, v in test]
    ceiling = describe_duplicates(flows)[0]["ceiling"]
    assert ceiling["accuracy"] == pytest.approx(accuracy_score(truth, answer), abs=1e-12)
    assert ceiling["f1_macro"] == pytest.approx(f1_score(truth, answer, average="macro"), abs=1e-12)


def test_no_rows_have_no_duplicates(spark: SparkSession) -> None:
    assert describe_duplicates(spark.createDataFrame([], UNCOUNTED)) == []
