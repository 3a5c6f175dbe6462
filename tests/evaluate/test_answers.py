"""Answers of several models, capture by capture: counted as a plain program counts them, ranked only where they differ."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scipy.stats import binomtest

from iomt_ids.contract.attacks import ATTACKS, labels_of_attacks
from iomt_ids.contract.flows import feature_names
from iomt_ids.evaluate.answers import Answers, CaptureAnswers, _captures, count_answers, keep_answers
from iomt_ids.evaluate.bootstrap import f1_intervals, resampled_rows
from iomt_ids.evaluate.ledger import describe_ledger, interval_of, rank
from iomt_ids.evaluate.mcnemar import holm
from iomt_ids.evaluate.time_to_detect import describe_times
from iomt_ids.prepare.copies import count_copies
from tests.builders import gold, problem

NAMES = ("Benign", "DoS-UDP", "DDoS-UDP", "Bluetooth-DoS", "Bluetooth-Benign")
IDS = [a.id for a in ATTACKS if a.name in NAMES]
# Model, detector, task, feature set, threshold.
MODELS = (("a", "attack", "leak_free", 0.6), ("b", "attack", "leak_free", 0.9), ("c", "attack", "leak_free", None),
          ("a", "binary", "all", 0.5), ("b", "binary", "all", 0.5))


@pytest.fixture(scope="module")
def flows(spark: SparkSession):
    """Test rows of few vectors, two captures of a flood; the clock makes some of them differ in all columns only."""
    few = {name: F.lit(0.5) for name in feature_names("v1", "all")}
    few["ttl_mean"] = F.pmod(F.col("source_line") * 7, F.lit(11)).cast("double")
    few["iat_epoch_s"] = F.pmod(F.col("source_line"), F.lit(4)).cast("double")
    few["buffer_packets"] = F.when(F.col("source_line") % 2 == 0, 5.5).otherwise(13.5)
    rows = gold(spark, NAMES, rows=60, split="test").withColumns(few)
    part = F.when((F.col("attack") == "DoS-UDP") & (F.col("source_line") > 30), "2").otherwise("1")
    named = rows.withColumn("source_file", F.concat(F.lit("csv/"), "attack", part, F.lit("_test.pcap.csv")))
    return count_copies(named.drop("copies_leak_free", "copies_all"), rows=300).cache()


def told(flows, place: int, task: str):
    """What a made-up model says: a function of the vector alone, as of every model."""
    n = 21 if task == "attack" else 2
    ids = IDS if task == "attack" else [0, 1]
    hashed = [F.xxhash64(F.lit(place * 31 + i), F.col("ttl_mean"), F.col("attack_id")) for i in range(len(ids))]
    drawn = [F.pmod(h, F.lit(97)) + 1 for h in hashed]
    # Mostly right.
    own = F.col(f"{task}_id")
    drawn = [d + F.when(own == label, 60).otherwise(0) for d, label in zip(drawn, ids, strict=True)]
    total = sum(drawn[1:], drawn[0])
    given = dict(zip(ids, drawn, strict=True))
    probability = F.array(*[given[i] / total if i in given else F.lit(0.0) for i in range(n)])
    scored = flows.withColumn("probability", probability)
    return scored.withColumn("prediction", (F.array_position("probability", F.array_max("probability")) - 1).cast("int"))


@pytest.fixture(scope="module")
def models(flows):
    made = []
    for place, (name, task, features, threshold) in enumerate(MODELS):
        asked = problem(task, IDS if task == "attack" else [0, 1], features)
        scored = told(flows.filter(F.col(asked.copies_column) > 0), place, task)
        made.append(Answers(f"{name}-{task}-{features}", name, asked, threshold, keep_answers(scored, asked).cache()))
    return made


@pytest.fixture(scope="module")
def captures(flows, models):
    return count_answers(flows, models, stable_windows=2)


@pytest.fixture(scope="module")
def rows(flows):
    """Every test row with what each model says of it, the ones that stand for nothing too."""
    found: dict[int, dict] = {}
    for place, (_, task, features, threshold) in enumerate(MODELS):
        for r in told(flows, place, task).collect():
            benign = (0, 19) if task == "attack" else (0,)
            alarm = sum(p for i, p in enumerate(r.probability) if i not in benign)
            likeliest = max((i for i in range(len(r.probability)) if i not in benign), key=lambda i: (r.probability[i], -i))
            kind = labels_of_attacks("category")[likeliest] if task == "attack" else 1
            row = found.setdefault(r.flow_id, {"file": r.source_file, "line": r.source_line, "attack": r.attack_id, "said": []})
            row["said"].append((r.prediction, r.prediction == r[f"{task}_id"], threshold is not None and alarm >= threshold, kind,
                                r[f"copies_{features}"] > 0))
    return sorted(found.values(), key=lambda r: (r["file"], r["line"]))


def test_counts_of_each_capture_are_those_of_a_plain_program(captures, rows) -> None:
    assert [c.file for c in captures] == sorted({r["file"] for r in rows})
    assert len(captures) == 6
    for c in captures:
        mine = [r for r in rows if r["file"] == c.file]
        assert (c.rows, c.is_whole, c.packets, c.attack) == (len(mine), True, 10.0, mine[0]["attack"])
        for place, counts in enumerate(c.predicted):
            for i, kept in enumerate((lambda said: True, lambda said: said[4])):
                wanted = Counter(r["said"][place][0] for r in mine if kept(r["said"][place]))
                assert {label: n for label, n in enumerate(counts[i].tolist()) if n} == wanted


def test_waits_of_each_capture_are_those_of_walking_through_it(captures, rows) -> None:
    seen = set()
    for c in captures:
        for place in range(len(MODELS)):
            said = [r["said"][place] for r in rows if r["file"] == c.file]
            alerts = [s[2] for s in said]
            stable = [alerts[i] and alerts[i + 1] and said[i][3] == said[i + 1][3] for i in range(len(said) - 1)]
            for waits, hits in ((c.alerts[place], alerts), (c.stable[place], stable)):
                assert waits.first == next((i for i, hit in enumerate(hits) if hit), None)
                assert waits.windows == len(hits)
                assert sum(waits.gaps.values()) == sum(hits)
                seen.add(waits.first)
    assert len(seen) > 2


def test_times_are_told_from_the_first_window_on(captures, models, rows) -> None:
    entries = describe_times(models, captures, stable_windows=2, false_alarms_per_million=1000)
    assert [e["model"] for e in entries] == [m.model for m in models]
    for place, entry in enumerate(entries):
        assert [a["attack"] for a in entry["attacks"]] == ["DoS-UDP", "DDoS-UDP", "Bluetooth-DoS"]
        for a in entry["attacks"]:
            attack = next(x for x in ATTACKS if x.name == a["attack"])
            files = sorted({r["file"] for r in rows if r["attack"] == attack.id})
            alerts = [[r["said"][place][2] for r in rows if r["file"] == f] for f in files]
            first = [next((i + 1 for i, hit in enumerate(hits) if hit), None) for hits in alerts]
            assert a["alert"]["first"] == first and a["captures"] == len(files)
            assert a["alert"]["first_packets"] == [None if n is None else 10.0 * n for n in first]
            if None not in first:
                benign = [r["said"][place][2] for r in rows if r["attack"] == (0 if attack.protocol == "wifi_mqtt" else 19)]
                looked = [any(benign[i : i + max(first)]) for i in range(len(benign) - max(first) + 1)]
                assert a["alert"]["benign"] == {"share": sum(looked) / len(looked), "stretches": len(looked)}
            assert all(s is None or n is None or s > n for n, s in zip(first, a["stable"]["first"], strict=True))
    assert all(a["alert"]["benign"] is None for a in entries[2]["attacks"]), "it never alerts"


def test_captures_whose_rows_do_not_follow_each_other_tell_no_time(flows, models) -> None:
    holes = flows.filter("source_line % 5 != 0 or attack = 'DDoS-UDP'")
    found = count_answers(holes, models, stable_windows=2)
    assert [c.file for c in found if c.is_whole] == ["csv/DDoS-UDP1_test.pcap.csv"]
    entry = describe_times(models, found, stable_windows=2, false_alarms_per_million=1000)[0]
    assert entry["scrambled"] == 5 and [a["attack"] for a in entry["attacks"]] == ["DDoS-UDP"]


def test_where_rows_lie_changes_nothing(flows, models, captures) -> None:
    shuffled = flows.orderBy(F.desc("flow_id")).repartition(7, "flow_id")
    found = count_answers(shuffled, models, stable_windows=2)
    assert [c.as_text() for c in found] == [c.as_text() for c in captures]
    assert [CaptureAnswers.from_text(c.as_text()).as_text() for c in captures] == [c.as_text() for c in captures]


def test_files_are_taken_apart_wherever_batches_end() -> None:
    files = [*"aabbb", *"c" * 4, "d"]
    table = pa.table({"source_file": files, "n": list(range(10))})
    for size in range(1, 11):
        found = [(t["source_file"][0].as_py(), t["n"].to_pylist()) for t in _captures(iter(table.to_batches(max_chunksize=size)))]
        assert found == [("a", [0, 1]), ("b", [2, 3, 4]), ("c", [5, 6, 7, 8]), ("d", [9])]


@pytest.fixture(scope="module")
def ledger(spark, models, captures):
    return describe_ledger(spark, models, captures, run="r", resamples=200, seed=4)


def test_the_ledger_has_every_model_both_ways_with_the_intervals_of_its_matrix(ledger, rows) -> None:
    assert len(ledger["rows"]) == 2 * len(MODELS)
    for row, (place, counted) in zip(ledger["rows"], [(p, c) for p in range(len(MODELS)) for c in (0, 1)], strict=True):
        name, task, features, _ = MODELS[place]
        assert (row["detector"], row["task"], row["features"]) == (name, task, features)
        assert (row["scheme"], row["context"]) == ("official", "window")
        classes, label = (21, labels_of_attacks("attack")) if task == "attack" else (2, labels_of_attacks("binary"))
        matrix = np.zeros((classes, classes), int)
        for r in rows:
            if not counted or r["said"][place][4]:
                matrix[label[r["attack"]], r["said"][place][0]] += 1
        assert row["rows"] == matrix.sum()
        wanted = f1_intervals(resampled_rows(matrix, 200, 4))
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)
        assert row["several_captures"] == (["DoS-UDP"] if not counted or row["f1_macro_captures_low"] is not None else [])
        assert row["f1_macro_low"] < row["f1_macro"] < row["f1_macro_high"]


def test_pairs_are_tested_on_distinct_vectors_and_corrected_for_all_of_them(ledger, rows) -> None:
    assert [(p["task"], p["first"], p["second"]) for p in ledger["pairs"]] == [
        ("attack", "a", "b"), ("attack", "a", "c"), ("attack", "b", "c"), ("binary", "a", "b")]
    places = {("attack", "a"): 0, ("attack", "b"): 1, ("attack", "c"): 2, ("binary", "a"): 3, ("binary", "b"): 4}
    values = []
    for pair in ledger["pairs"]:
        i, j = places[pair["task"], pair["first"]], places[pair["task"], pair["second"]]
        for counted, some in (("rows", rows), ("distinct", [r for r in rows if r["said"][i][4]])):
            alone = [sum(r["said"][x][1] and not r["said"][y][1] for r in some) for x, y in ((i, j), (j, i))]
            assert [pair[f"first_only_{counted}"], pair[f"second_only_{counted}"]] == alone
        values.append(binomtest(alone[0], sum(alone), 0.5).pvalue)
    assert [p["p"] for p in ledger["pairs"]] == pytest.approx(values)
    assert [p["p_holm"] for p in ledger["pairs"]] == pytest.approx(holm(values))


def scored(detector: str, low: float, high: float, **more) -> dict:
    return {"detector": detector, "task": "attack", "features": "all", "split_scheme": "official", "counted": "rows",
            "f1_macro_low": low, "f1_macro_high": high, "f1_macro_captures_low": None, "f1_macro_captures_high": None} | more


def pair(first: str, second: str, differ: bool, ahead: bool = True) -> dict:
    return {"task": "attack", "features": "all", "first": first, "second": second, "differ": differ,
            "first_only_distinct": 9 if ahead else 1, "second_only_distinct": 1 if ahead else 9}


@pytest.mark.parametrize(("rows", "known", "better"), [
    ([scored("a", 0.8, 0.9), scored("b", 0.5, 0.6)], [pair("a", "b", True)], True),
    ([scored("a", 0.8, 0.9), scored("b", 0.5, 0.6)], [pair("b", "a", True, ahead=False)], True),
    ([scored("a", 0.8, 0.9), scored("b", 0.5, 0.6)], [pair("a", "b", False)], False),
    ([scored("a", 0.8, 0.9), scored("b", 0.5, 0.6)], [pair("a", "b", True, ahead=False)], False),
    ([scored("a", 0.8, 0.9), scored("b", 0.5, 0.81)], [pair("a", "b", True)], False),
    ([scored("a", 0.8, 0.9, f1_macro_captures_low=0.55, f1_macro_captures_high=0.95), scored("b", 0.5, 0.6)],
     [pair("a", "b", True)], False),
])
def test_better_is_who_has_an_interval_apart_and_wins_the_rows_that_differ(rows, known, better) -> None:
    first, second = rank(rows, known)
    assert first["better_than"] == (["b"] if better else [])
    assert second["better_than"] == []
    assert first["not_ranked_with"] == ([] if better else ["b"]) and second["not_ranked_with"] == ([] if better else ["a"])


def test_scores_of_other_splits_features_or_tasks_are_not_compared() -> None:
    rows = [scored("a", 0.8, 0.9), *[scored("b", 0.1, 0.2, **{k: "x"}) for k in ("task", "features", "split_scheme", "counted")]]
    assert all(not r["better_than"] and not r["not_ranked_with"] for r in rank(rows, []))


def test_the_wider_interval_counts() -> None:
    assert interval_of(scored("a", 0.4, 0.6, f1_macro_captures_low=0.5, f1_macro_captures_high=0.7)) == (0.4, 0.7)


def test_a_class_of_few_rows_says_how_little_is_known(ledger) -> None:
    row = next(r for r in ledger["rows"] if (r["task"], r["counted"]) == ("attack", "rows"))
    assert {c["class"] for c in row["uncertain"]} <= set(NAMES) and row["uncertain"]
    assert all(c["high"] - c["low"] > 0.1 and c["low"] <= c["recall"] <= c["high"] for c in row["uncertain"])
