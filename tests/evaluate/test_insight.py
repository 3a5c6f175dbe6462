"""What is said of attacks and devices, on rows few enough to count by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.evaluate.insight import describe_attacks, describe_devices, mistaken_for

FEATURES = ("syn_fraction", "ttl_mean", "llc_fraction")
_SCHEMA = (
    "split string, category string, protocol string, device string, attack string,"
    " syn_fraction double, ttl_mean double, llc_fraction double"
)


def flow(
    attack: str = "Benign",
    *,
    syn: float = 0.0,
    ttl: float = 64.0,
    llc: float = 1.0,
    split: str = "train",
    category: str | None = None,
    protocol: str = "wifi_mqtt",
    device: str | None = None,
) -> tuple[Any, ...]:
    """A row of `gold.features` as far as insight reads it."""
    return (split, category or ("Benign" if "Benign" in attack else "DoS"), protocol, device, attack, syn, ttl, llc)


def table(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    return spark.createDataFrame(rows, _SCHEMA)


@pytest.fixture(scope="module")
def attacks(spark: SparkSession) -> list[dict[str, Any]]:
    benign = [flow(ttl=ttl) for ttl in (60.0, 62.0, 64.0, 66.0, 68.0)]
    flood = [flow("DoS-SYN", syn=syn, ttl=ttl) for syn, ttl in ((0.7, 30.0), (0.8, 31.0), (0.9, 32.0))]
    elsewhere = [flow("DoS-SYN", syn=-5.0, split="test"), flow("DoS-UDP", split="validation")]
    lonely = [flow("Bluetooth-DoS", protocol="bluetooth")]
    return describe_attacks(table(spark, benign + flood + elsewhere + lonely), FEATURES)


def test_an_attack_is_described_by_the_medians_of_the_train_split(attacks: list[dict[str, Any]]) -> None:
    syn = attacks[0]
    assert (syn["attack"], syn["rows"], syn["benign"], syn["benign_rows"]) == ("DoS-SYN", 3, "Benign", 5)
    by_feature = {f["feature"]: f for f in syn["features"]}
    assert (by_feature["ttl_mean"]["benign_median"], by_feature["ttl_mean"]["attack_median"]) == (64.0, 31.0)
    assert by_feature["syn_fraction"]["attack_median"] == 0.8


def test_rows_that_do_not_overlap_are_separated_by_one(attacks: list[dict[str, Any]]) -> None:
    by_feature = {f["feature"]: (f["separation"], f["direction"]) for f in attacks[0]["features"]}
    assert by_feature == {"ttl_mean": (-1.0, "lower"), "syn_fraction": (1.0, "higher")}


def test_the_effect_is_the_shift_of_medians_in_benign_spreads(attacks: list[dict[str, Any]]) -> None:
    ttl = next(f for f in attacks[0]["features"] if f["feature"] == "ttl_mean")
    spread = (np.log1p(66.0) - np.log1p(62.0)) / 1.349
    assert ttl["effect"] == pytest.approx((np.log1p(31.0) - np.log1p(64.0)) / spread)


def test_a_feature_that_benign_traffic_never_moves_has_no_effect_but_a_separation(
    attacks: list[dict[str, Any]],
) -> None:
    syn = next(f for f in attacks[0]["features"] if f["feature"] == "syn_fraction")
    assert syn["effect"] is None
    assert syn["separation"] == 1.0


def test_of_two_features_as_well_separated_the_one_that_moves_further_comes_first(
    attacks: list[dict[str, Any]],
) -> None:
    assert [f["feature"] for f in attacks[0]["features"]] == ["syn_fraction", "ttl_mean"]


def test_a_feature_that_stays_is_not_listed(attacks: list[dict[str, Any]]) -> None:
    assert "llc_fraction" not in {f["feature"] for f in attacks[0]["features"]}


def test_an_attack_without_benign_rows_of_its_protocol_is_listed_without_features(
    attacks: list[dict[str, Any]],
) -> None:
    assert [(a["attack"], a["benign"], a["benign_rows"], a["features"]) for a in attacks[1:]] == [
        ("Bluetooth-DoS", "Bluetooth-Benign", 0, [])
    ]


def test_insight_is_plain_json(attacks: list[dict[str, Any]]) -> None:
    assert json.loads(json.dumps(attacks, allow_nan=False)) == attacks


def test_separation_of_overlapping_rows_is_near_cliffs_delta(spark: SparkSession) -> None:
    dice = np.random.default_rng(3)
    here, there = dice.normal(50, 5, 400), dice.normal(54, 5, 300)
    rows = [flow(ttl=float(x)) for x in here] + [flow("DoS-TCP", ttl=float(x)) for x in there]
    found = describe_attacks(table(spark, rows), ("ttl_mean",))[0]["features"][0]["separation"]
    assert found == pytest.approx(np.sign(there[:, None] - here[None, :]).mean(), abs=0.03)


def test_the_most_telling_feature_comes_first(spark: SparkSession) -> None:
    rows = [flow(ttl=float(t), syn=t / 100) for t in range(50, 70)]
    rows += [flow("DoS-TCP", ttl=t + 40.0, syn=t / 100 + 0.05) for t in range(50, 70)]
    found = describe_attacks(table(spark, rows), ("syn_fraction", "ttl_mean"))[0]["features"]
    assert [f["feature"] for f in found] == ["ttl_mean", "syn_fraction"]


def test_a_column_that_repeats_another_is_named_once(spark: SparkSession) -> None:
    rows = [flow(ttl=float(t), syn=float(t)) for t in range(5)] + [
        flow("DoS-TCP", ttl=9.0 + t, syn=9.0 + t) for t in range(5)
    ]
    found = describe_attacks(table(spark, rows), ("ttl_mean", "syn_fraction"))[0]["features"]
    assert [f["feature"] for f in found] == ["ttl_mean"]


def test_no_train_split_means_nothing_is_said(spark: SparkSession) -> None:
    assert describe_attacks(table(spark, [flow(split="test"), flow("DoS-SYN", split="test")]), FEATURES) == []


CONFUSIONS = {
    "random_forest-attack-leak_free": [
        ("Pager", "wifi_mqtt", 0, 0, 6),
        ("Pager", "wifi_mqtt", 0, 19, 1),
        ("Pager", "wifi_mqtt", 0, 13, 2),
        ("Pager", "wifi_mqtt", 0, 1, 1),
        ("Ring", "bluetooth", 19, 19, 4),
        (None, "wifi_mqtt", 0, 1, 3),
    ],
    "dense_net-binary-all": [("Pager", "wifi_mqtt", 0, 1, 5), ("Pager", "wifi_mqtt", 0, 0, 5)],
}


@pytest.fixture(scope="module")
def devices(spark: SparkSession) -> list[dict[str, Any]]:
    rows = [flow(ttl=ttl) for ttl in (60.0, 62.0, 64.0, 66.0, 68.0)] + [flow("DoS-SYN", ttl=1.0)]
    rows += [flow(split="profile", device="Pager", ttl=ttl) for ttl in (120.0, 128.0, 130.0)]
    rows += [flow(split="profile", ttl=64.0)]
    rows += [flow("Bluetooth-Benign", split="profile", protocol="bluetooth", device="Ring")]
    return describe_devices(table(spark, rows), FEATURES, CONFUSIONS)


def test_devices_are_listed_by_protocol_and_name(devices: list[dict[str, Any]]) -> None:
    assert [(d["protocol"], d["device"], d["rows"]) for d in devices] == [
        ("wifi_mqtt", "Pager", 3),
        ("wifi_mqtt", "unnamed", 1),
        ("bluetooth", "Ring", 1),
    ]


def test_a_device_is_compared_with_the_benign_train_rows_of_its_protocol(devices: list[dict[str, Any]]) -> None:
    pager, _, ring = devices
    assert (pager["reference"], pager["reference_rows"]) == ("Benign", 5)
    moved = pager["features"][0]
    assert (moved["feature"], moved["reference_median"], moved["device_median"]) == ("ttl_mean", 64.0, 128.0)
    assert (ring["reference"], ring["features"]) == (None, [])


def test_any_benign_verdict_is_no_false_alarm(devices: list[dict[str, Any]]) -> None:
    alarms = devices[0]["false_alarms"]["random_forest-attack-leak_free"]
    assert (alarms["rows"], alarms["alarms"], alarms["rate"]) == (10, 3, 0.3)
    assert [t["class"] for t in alarms["taken_for"]] == ["DoS-SYN", "ARP_Spoofing"]
    assert devices[0]["false_alarms"]["dense_net-binary-all"]["rate"] == 0.5


def test_a_model_that_saw_no_row_of_a_device_has_no_rate(devices: list[dict[str, Any]]) -> None:
    ring = devices[2]["false_alarms"]
    assert ring["dense_net-binary-all"] == {"rows": 0, "alarms": 0, "rate": None, "taken_for": []}
    assert ring["random_forest-attack-leak_free"]["rate"] == 0.0


def test_rows_without_a_device_are_counted_under_unnamed(devices: list[dict[str, Any]]) -> None:
    assert devices[1]["false_alarms"]["random_forest-attack-leak_free"]["alarms"] == 3


def test_device_insight_is_plain_json(devices: list[dict[str, Any]]) -> None:
    assert json.loads(json.dumps(devices, allow_nan=False)) == devices


def test_mistakes_are_listed_most_frequent_first() -> None:
    found = mistaken_for([[5, 1, 4], [0, 3, 0], [0, 0, 0]], ["a", "b", "c"])
    assert found == {
        "a": [{"class": "c", "count": 4, "share": 0.4}, {"class": "b", "count": 1, "share": 0.1}],
        "b": [],
        "c": [],
    }
