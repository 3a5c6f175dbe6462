"""What is on both sides of a cut, counted as a plain program counts it; and a ceiling that no answer exceeds."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import accuracy_score, f1_score

from iomt_ids.contract.attacks import ATTACKS, TASKS, labels_of_attacks
from iomt_ids.contract.splits import Scheme, list_files, side_of
from iomt_ids.evaluate.duplicates import describe_duplicates
from iomt_ids.evaluate.split_audit import (
    FIELDS,
    SHARES,
    count_sides,
    describe_splits,
    empty_counts,
    group_ids,
    most_f1,
    rounded,
)
from tests.builders import bronze_row, gold

CLASSES = [a for a in ATTACKS if a.name in ("Benign", "DoS-UDP", "DDoS-UDP")]
SCHEMES = [Scheme("official"), Scheme("group", 0.4), Scheme("time", 0.3, gap_rows=2), Scheme("random", 0.3, salt="s")]


@pytest.fixture(scope="module")
def flows(spark: SparkSession):
    """Few vectors, some nearly equal, in captures of several parts; every third row of train is of validation."""
    dice, made = np.random.default_rng(0), []
    labels = {"category_id": 0, "binary_id": 0, "has_sentinel_iat": False, "past_windows": 0, "split_scheme": "official",
              "past": None}
    template = gold(spark, ["Benign"], rows=1)
    for attack, part, side in itertools.product(CLASSES, range(3), ("train", "test")):
        capture = f"{attack.capture.removesuffix('[0-9]*')}{part if attack.name != 'Benign' else ''}"
        if attack.name == "Benign" and part:
            continue
        for line in range(2, 2 + 40):
            value = float(dice.integers(12) * (1 + 1e-5 * dice.integers(30)) * dice.choice([1.0, -1.0]))
            row = bronze_row(attack=attack.name, source_file=f"csv/{capture}_{side}.pcap.csv", source_line=line, ttl_mean=value,
                             split="validation" if side == "train" and line % 3 == 0 else side)
            row |= labels | {"flow_id": len(made), "attack_id": attack.id, "source_split": side}
            made.append(tuple(row.get(n, 1) for n in template.columns))
    return spark.createDataFrame(made, template.schema).cache()


def near(value: float) -> float:
    return 0.0 if value == 0 else float(f"{value:.2e}")


def counted(rows: list[dict], side: str) -> dict[str, dict[str, int]]:
    """The same by dictionaries."""
    train = [r for r in rows if r[side] == "train"]
    labels = defaultdict(set)
    for r in rows:
        if r[side] != "aside":
            labels[r["ttl_mean"] + 0.0].add(r["attack"])
    found = {}
    for attack in CLASSES:
        mine = [r for r in rows if r["attack"] == attack.name]
        test = [r for r in mine if r[side] == "test"]
        seen = {name: {key(r["ttl_mean"]) for r in train} for name, key in (("exact", float), ("near", near))}
        same = {name: {key(r["ttl_mean"]) for r in train if r["attack"] == attack.name} for name, key in
                (("exact", float), ("near", near))}
        found[attack.name] = {
            "train": sum(r[side] == "train" for r in mine), "test": len(test), "aside": sum(r[side] == "aside" for r in mine),
            "exact": sum(r["ttl_mean"] in seen["exact"] for r in test),
            "exact_same_label": sum(r["ttl_mean"] in same["exact"] for r in test),
            "near": sum(near(r["ttl_mean"]) in seen["near"] for r in test),
            "near_same_label": sum(near(r["ttl_mean"]) in same["near"] for r in test),
            "disputed": sum(len(labels[r["ttl_mean"] + 0.0]) > 1 for r in test),
        }
    return found


def test_counts_are_those_of_a_plain_program_under_every_scheme(flows) -> None:
    found = describe_splits(flows, SCHEMES)
    assert found["in_force"] == "official"
    files = list_files(flows, "source_split")
    for scheme, entry in zip(SCHEMES, found["schemes"], strict=True):
        rows = [r.asDict() for r in side_of(flows, scheme, files, split="source_split", into="side").collect()]
        ours = {c["class"]: {k: v for k, v in c.items() if k in FIELDS} for c in entry["classes"]}
        assert ours == counted(rows, "side"), scheme
        assert sum(c["near"] for c in entry["classes"]) > sum(c["exact"] for c in entry["classes"]) > 0
        test = [(r["attack_id"], r["ttl_mean"] + 0.0) for r in rows if r["side"] == "test"]
        votes = defaultdict(Counter)
        for label, vector in test:
            votes[vector][label] += 1
        best = {v: min(c, key=lambda label, c=c: (-c[label], label)) for v, c in votes.items()}
        truth, answer = [label for label, _ in test], [best[v] for _, v in test]
        ceiling = entry["ceiling"]["attack"]
        assert ceiling["accuracy"] == pytest.approx(accuracy_score(truth, answer), abs=1e-12)
        assert ceiling["f1_macro_reached"] == pytest.approx(f1_score(truth, answer, average="macro"), abs=1e-12)
        assert ceiling["f1_macro"] >= ceiling["f1_macro_reached"]
    assert [e["not_splittable"] for e in found["schemes"]] == [["Benign"]] * 4
    assert found["schemes"][1]["adjoining"] == ["Benign"]


def test_it_agrees_with_the_count_of_duplicates(flows) -> None:
    ours, theirs = describe_splits(flows, SCHEMES[:1])["schemes"][0], describe_duplicates(flows)[0]
    assert {c["class"]: c["exact"] for c in ours["classes"]} == {c["class"]: c["test_rows_learnt_from"] for c in theirs["classes"]}
    assert ours["ceiling"]["attack"]["f1_macro_reached"] == pytest.approx(theirs["ceiling"]["f1_macro"], abs=1e-12)


def test_where_rows_lie_and_how_files_come_changes_nothing(flows) -> None:
    shuffled = flows.orderBy(F.desc("flow_id")).repartition(5, "flow_id")
    assert describe_splits(shuffled, SCHEMES) == describe_splits(flows.coalesce(1), SCHEMES)


def test_rounding_is_to_three_digits_and_zeros_are_one(spark: SparkSession) -> None:
    values = [0.0, -0.0, 1.0, -1.004, 1.006, 123456.0, 0.00098765, 9.996, 1e-300, 5e9]
    found = spark.createDataFrame([(v,) for v in values], "x double").select(rounded("x").alias("x")).collect()
    assert [r.x for r in found] == pytest.approx([near(v) for v in values], rel=1e-12)
    assert math.copysign(1, found[1].x) == 1


def test_no_rows_have_no_splits(flows) -> None:
    assert describe_splits(flows.filter("false"), SCHEMES) == {}


@pytest.mark.parametrize("seed", range(3))
def test_no_answer_to_vectors_exceeds_the_ceiling_and_it_is_not_far(seed: int) -> None:
    # Four vectors, three classes: all 81 ways to answer.
    dice = np.random.default_rng(seed)
    vectors, attacks = dice.integers(0, 4, 300), np.array([a.id for a in CLASSES])[dice.choice(3, 300, p=[0.6, 0.3, 0.1])]
    counts = empty_counts(1)
    count_sides(counts, 0, vectors, vectors, attacks, np.ones(300, np.int8))
    for task in TASKS:
        labels = np.array(labels_of_attacks(task))[attacks]
        present = np.unique(labels)
        best, each = 0.0, np.zeros(len(present))
        for said in itertools.product(present, repeat=4):
            answer = np.array(said)[vectors]
            f1 = f1_score(labels, answer, labels=present, average=None, zero_division=0)
            best, each = max(best, f1.mean()), np.maximum(each, f1)
        bound = most_f1(counts[f"{task}_shares"][0])[present]
        assert (bound >= each - 1e-12).all()
        assert bound == pytest.approx(each, abs=2 / SHARES), "of each class by itself"
        assert bound.mean() >= best


def test_vectors_that_nobody_disputes_have_no_ceiling() -> None:
    counts = empty_counts(1)
    attacks = np.repeat([a.id for a in CLASSES], 10)
    count_sides(counts, 0, np.arange(30), np.arange(30), attacks, np.ones(30, np.int8))
    assert np.nanmin(most_f1(counts["attack_shares"][0])) == 1.0


def test_equal_keys_and_no_others_share_a_number() -> None:
    dice = np.random.default_rng(1)
    keys = [dice.integers(-2, 2, 50), dice.integers(0, 3, 50)]
    ids = group_ids(keys)
    assert sorted(set(ids.tolist())) == list(range(len({*zip(*keys, strict=True)})))
    assert len({*zip(ids, *keys, strict=True)}) == len(set(ids.tolist()))
