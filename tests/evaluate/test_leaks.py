"""The leak hunter on clean recordings, on planted leaks, on demo rows and on real ones."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.flows import columns_of
from iomt_ids.contract.tables import BRONZE_FLOWS, UNCOUNTED
from iomt_ids.demo import demo_files
from iomt_ids.evaluate import artefacts
from iomt_ids.evaluate.captures import BLOCK_ROWS, BLOCKS, Capture, bin_edges, count_gathered, count_values, gather_captures
from iomt_ids.evaluate.leaks import describe_leaks, file_evidence, judge_features, value_evidence
from iomt_ids.prepare.label import label_flows
from iomt_ids.prepare.split import split_flows
from tests.builders import bronze_row, ingested
from tests.evaluate import recordings
from tests.evaluate.recordings import COLUMNS, MEASURED, clean_captures, plant_elapsed, plant_epoch, plant_index, plant_rounding

TRIALS = range(20)
KNOWN = {c.name for c in columns_of("v1") if c.leak}


def verdicts(captures: list[Capture]) -> dict[str, str]:
    found = judge_features(captures, COLUMNS, [None] * len(COLUMNS))
    return {f["feature"]: f["verdict"] for f in found["features"]}


def quarantined(found: dict[str, str]) -> set[str]:
    return {name for name, verdict in found.items() if verdict == "quarantine"}


@pytest.mark.parametrize("seed", TRIALS)
def test_nothing_is_quarantined_where_nothing_leaks(seed: int) -> None:
    assert quarantined(verdicts(clean_captures(seed))) == set()


def test_a_counter_that_starts_with_each_capture_is_suspicious_but_traffic() -> None:
    features = judge_features(clean_captures(0), COLUMNS, [None] * len(COLUMNS))["features"]
    found = next(f for f in features if f["feature"] == "capture_counter")
    assert (found["verdict"], found["clock"]["restarts"]) == ("ablate", 10)
    assert found["sentence"].startswith("follows the order of capture in 10 of 10 captures")


@pytest.mark.parametrize("seed", TRIALS)
@pytest.mark.parametrize(
    ("plant", "columns"),
    [(plant_epoch, COLUMNS), (plant_elapsed, COLUMNS), (plant_index, COLUMNS), (plant_rounding, MEASURED)],
    ids=["epoch", "elapsed", "index", "rounding"],
)
def test_a_planted_leak_is_found_and_nothing_else(
    plant: Callable[[list[Capture], int, int], list[Capture]], columns: tuple[str, ...], seed: int
) -> None:
    name = columns[seed % len(columns)]
    assert quarantined(verdicts(plant(clean_captures(100 + seed), COLUMNS.index(name), seed))) == {name}


@pytest.mark.parametrize("levels", [((5.5, 13.5), 9.5), ((10.0, 10.0), 100.0)], ids=["alternating", "constant"])
def test_a_column_that_names_the_window_is_found(levels: tuple[tuple[float, float], float]) -> None:
    small, large = levels
    changed = []
    for capture in clean_captures(1):
        rows = np.arange(len(capture.lines))
        is_large = capture.attack in ("Flood", "Storm")
        changed.append(recordings._with(capture, 0, np.where(rows % 2, *small) if not is_large else np.full(len(rows), large)))
    assert quarantined(verdicts(changed)) == {COLUMNS[0]}


def test_an_alternation_that_all_classes_share_names_none_of_them() -> None:
    changed = [recordings._with(c, 0, np.where(np.arange(len(c.lines)) % 2, 5.5, 13.5)) for c in clean_captures(1)]
    assert verdicts(changed)[COLUMNS[0]] == "ablate"


def test_an_alternation_in_one_class_beside_ordinary_traffic_is_no_rule_of_the_recording() -> None:
    levels = {"Scan": (5.5, 13.5), "Sweep": (9.5, 9.5)}
    changed = [recordings._with(c, 0, np.where(np.arange(len(c.lines)) % 2, *levels[c.attack])) if c.attack in levels else c
               for c in clean_captures(1)]
    assert verdicts(changed)[COLUMNS[0]] == "ablate"


def test_means_over_windows_of_ten_and_of_a_hundred_are_not_taken_for_a_rounding() -> None:
    dice = np.random.default_rng(0)
    packets = {"Flood": 100, "Storm": 100 * 100}
    changed = [recordings._with(c, 0, dice.integers(0, 99_999, len(c.lines)) / packets.get(c.attack, 10))
               for c in clean_captures(1)]
    assert verdicts(changed)[COLUMNS[0]] == "keep"


def test_a_leak_in_a_single_protocol_is_found() -> None:
    wifi = clean_captures(2)
    other = [dataclasses.replace(c, protocol="bluetooth") for c in plant_index(clean_captures(3), 4, 0)]
    found = next(f for f in judge_features(wifi + other, COLUMNS, [None] * len(COLUMNS))["features"] if f["feature"] == COLUMNS[4])
    assert (found["verdict"], found["protocol"]) == ("quarantine", "bluetooth")


def test_captures_too_short_to_look_at_say_nothing() -> None:
    short = [dataclasses.replace(c, lines=c.lines[:30], values=c.values[:30], held_out=c.held_out[:30])
             for c in plant_index(clean_captures(4), 0, 0)]
    assert set(verdicts(short).values()) == {"keep"}


def test_the_rank_correlation_shares_ties() -> None:
    assert artefacts.rank_correlation(np.array([1.0, 1.0, 2.0, 3.0]), np.arange(4)) == pytest.approx(0.9486833)
    assert artefacts.rank_correlation(np.ones(4), np.arange(4)) == 0.0


def test_the_value_of_a_feature_is_what_its_train_rows_tell_of_validation_rows() -> None:
    counts = np.zeros((2, 3, 65), dtype=np.int64)
    counts[:, 0, 0], counts[:, 1, 1], counts[:, 2, 1] = 10, 30, 10
    counts[0, 2, 1], counts[0, 2, 2] = 5, 5
    found = value_evidence(counts, ("a", "b", "c"), {"a": "x", "b": "x", "c": "y"})
    assert found == {
        "f1_macro": pytest.approx((1 + 60 / 70 + 0) / 3), "told": 1, "pairs": 1, "best": ["a", "b"], "best_accuracy": 1.0,
    }
    counts[1] = 0
    assert value_evidence(counts, ("a", "b", "c"), {}) is None


def test_the_file_is_told_by_a_clock_and_not_by_traffic() -> None:
    leaky = plant_elapsed(clean_captures(5), 0, 0)
    # Neighbouring rows of what wanders or counts resemble each other, and so does a file's own stretch of it.
    alike = [i for i, name in enumerate(COLUMNS) if i and name not in ("wander", "capture_counter")]
    found, untestable = file_evidence(leaky, alike)
    assert [(f["class"], f["files"], f["told"]) for f in found] == [("Flood", 3, True), ("Spoof", 2, True), ("Storm", 2, True)]
    assert not any(f["kept_told"] for f in found)
    assert untestable == ["Benign", "Scan", "Sweep"]


def table(spark: SparkSession, files: dict[str, int], **columns: Callable[[int], float]) -> DataFrame:
    """Rows of `gold.features`: a capture of a class a file, every fifth row of validation."""
    made = []
    for attack, rows in files.items():
        for i in range(rows):
            labels = {"flow_id": i, "attack_id": 0, "category_id": 0, "binary_id": 0, "has_sentinel_iat": False}
            split = "validation" if i % 5 == 4 else "train"
            values = {name: float(value(i)) for name, value in columns.items()}
            row = bronze_row(attack=attack, source_file=f"{attack}.csv", source_line=i + 2, split=split, **values) | labels
            made.append(tuple(row[n] for n in UNCOUNTED.fieldNames()))
    return spark.createDataFrame(made, UNCOUNTED).coalesce(2)


def test_an_index_is_found_in_a_table_however_its_rows_lie(spark: SparkSession) -> None:
    flows = table(spark, {"Benign": 90, "DoS-SYN": 70, "DoS-UDP": 30}, magnitude=lambda i: 10 * i, radius=lambda i: i * i % 101)
    found = describe_leaks(flows)
    assert {f["feature"] for f in found["features"] if f["verdict"] == "quarantine"} == {"magnitude"}
    assert describe_leaks(flows.repartition(3).orderBy("radius")) == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["captures"], found["rows"], len(found["features"])) == (3, 190, 45)


def test_test_rows_are_not_looked_at(spark: SparkSession) -> None:
    flows = table(spark, {"Benign": 60, "DoS-SYN": 60}, magnitude=lambda i: 10 * i)
    nothing = describe_leaks(flows.withColumn("split", F.lit("test")))
    assert nothing == {"captures": 0, "rows": 0, "features": [], "files": [], "not_testable": []}


def test_of_a_long_capture_the_start_the_middle_and_the_end_are_gathered(spark: SparkSession) -> None:
    lines = spark.range(2, 50_002, numPartitions=3).select(
        F.lit("a.csv").alias("source_file"), F.col("id").alias("source_line"), F.lit("Benign").alias("attack"),
        F.lit("wifi_mqtt").alias("protocol"), F.lit("train").alias("split"), F.col("id").cast("double").alias("x"),
    )
    (capture,), is_whole = gather_captures(lines, ["x"])
    assert not is_whole
    assert len(capture.lines) == BLOCKS * BLOCK_ROWS
    assert [capture.lines[b][0] for b in capture.blocks()] == [2, 24702, 49402]
    assert capture.lines[-1] == 50_001
    assert capture.values[:, 0].tolist() == capture.lines.tolist()


def test_values_are_counted_by_class_split_and_bin(spark: SparkSession) -> None:
    flows = table(spark, {"Benign": 50, "DoS-SYN": 20}, magnitude=lambda i: i % 2, radius=lambda i: i)
    names = ("magnitude", "radius")
    flows = flows.withColumn("magnitude", F.expr("if(source_line = 2, null, magnitude)"))
    (captures, is_whole), labels = gather_captures(flows, names), {"Benign": 0, "DoS-SYN": 1}
    assert is_whole
    edges = bin_edges(captures, 2)
    assert edges[0].tolist() == [0.0, 1.0]
    counts = count_values(flows, names, edges, labels)
    assert np.array_equal(counts, count_gathered(captures, edges, labels))
    assert counts[0, :, :, 1:3].tolist() == [[[19, 20], [7, 8]], [[5, 5], [2, 2]]]
    assert counts[0, 0, :, -1].tolist() == [1, 1]
    assert counts.sum(axis=(2, 3)).tolist() == [[56, 14], [56, 14]]


def gold_of(spark: SparkSession, folder: Path, out: Path) -> DataFrame:
    """What `gold.features` holds of raw files, in any order."""
    flows = ingested(spark, folder, out).read(spark, BRONZE_FLOWS)
    # Read once: the table that a job reads is on disk.
    return flows.transform(split_flows, salt="leaks", validation_fraction=0.15).transform(label_flows).persist()


def of_the_contract(found: dict) -> None:
    assert {f["feature"] for f in found["features"] if f["verdict"] == "quarantine"} == KNOWN
    by_name = {f["feature"]: f for f in found["features"]}
    assert "reads as seconds since 1970" in by_name["iat_epoch_s"]["sentence"]
    assert by_name["iat_epoch_s"]["clock"]["first"].startswith("2023-08")
    assert by_name["buffer_packets"]["window"]["lag"] == 2
    assert by_name["iat_epoch_s"]["value"]["f1_macro"] == max(f["value"]["f1_macro"] for f in found["features"])


def test_the_demo_leaks_what_the_contract_says(spark: SparkSession, tmp_path: Path) -> None:
    for file in demo_files(20_000, 7):
        path = tmp_path / "raw" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(file.chunks()))
    found = describe_leaks(gold_of(spark, tmp_path / "raw", tmp_path / "out"))
    of_the_contract(found)
    floods = {f["class"]: f for f in found["files"]}
    assert floods["DDoS-UDP"]["told"] and not floods["DDoS-UDP"]["kept_told"]


@pytest.mark.slow
def test_the_real_release_leaks_what_the_contract_says(spark: SparkSession, real_data: Path, tmp_path: Path) -> None:
    found = describe_leaks(gold_of(spark, real_data, tmp_path))
    of_the_contract(found)
    assert found["files"] == [] and len(found["not_testable"]) == 12
