"""The plan of a demo: official names, and rows that add up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iomt_ids.contract.attacks import class_names
from iomt_ids.contract.errors import ConfigError
from iomt_ids.demo.captures import MIN_ROWS, DemoCapture, plan_captures
from iomt_ids.ingest.source import Capture
from iomt_ids.ingest.sources.ciciomt2024 import describe_capture


def _rows_by_class(captures: list[DemoCapture], split: str) -> dict[str, int]:
    rows: dict[str, int] = {}
    for capture in captures:
        if capture.split == split:
            rows[capture.attack] = rows.get(capture.attack, 0) + capture.rows
    return rows


@given(st.integers(MIN_ROWS, 30_000_000))
@settings(max_examples=60, deadline=None)
def test_rows_of_all_captures_add_up_to_what_was_asked(rows: int) -> None:
    captures = plan_captures(rows)

    assert sum(capture.rows for capture in captures) == rows
    assert min(capture.rows for capture in captures) >= 1


def test_every_name_is_read_back_by_ingest_as_what_it_was_written_for() -> None:
    for capture in plan_captures(10_000):
        read = describe_capture(capture.path)
        assert isinstance(read, Capture), read
        assert (read.attack, read.split, read.device) == (capture.attack, capture.split, capture.device)


def test_all_72_official_wifi_names_and_the_bluetooth_ones_are_there() -> None:
    paths = [capture.path for capture in plan_captures(10_000)]

    assert len(paths) == len(set(paths))
    assert sum(path.startswith("WiFI_and_MQTT/attacks/csv/train/") for path in paths) == 51
    assert sum(path.startswith("WiFI_and_MQTT/attacks/csv/test/") for path in paths) == 21
    for split in ("train", "test"):
        for name in ("Benign", "DoS"):
            assert f"Bluetooth/attacks/csv/{split}/Bluetooth_{name}_{split}.pcap.csv" in paths
    for name in ("DDoS-UDP8_train", "DDoS-SYN4_train", "DDoS-ICMP2_test", "DDoS-SYN_test", "DoS-UDP_test"):
        split = name.rpartition("_")[2]
        assert f"WiFI_and_MQTT/attacks/csv/{split}/TCP_IP-{name}.pcap.csv" in paths
    assert "WiFI_and_MQTT/profiling/CSV/ActiveBroker.pcap.csv" in paths
    assert "WiFI_and_MQTT/profiling/CSV/Interactions/Blink_Camera/Blink_Camera_LAN_PHOTO.pcap.csv" in paths


def test_every_class_is_there_to_be_learnt_and_judged_in_a_small_demo() -> None:
    captures = plan_captures(10_000)

    for split, least in (("train", 60), ("test", 30)):
        rows = _rows_by_class(captures, split)
        assert sorted(rows) == sorted(class_names("attack"))
        assert min(rows.values()) >= least


def test_a_large_demo_has_the_official_imbalance() -> None:
    train = _rows_by_class(plan_captures(10_000_000), "train")

    assert train["DDoS-UDP"] / train["DDoS-SYN"] == pytest.approx(1636 / 802, rel=0.01)
    assert train["DDoS-UDP"] / train["Recon-Ping_Sweep"] > 1_500


def test_too_few_rows_are_refused_with_the_least_that_will_do() -> None:
    with pytest.raises(ConfigError, match=f"at least {MIN_ROWS} rows.*not 10"):
        plan_captures(10)
