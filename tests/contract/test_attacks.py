"""The taxonomy: what a file name means, and what never changes."""

from __future__ import annotations

import dataclasses
import re

import pytest

from iomt_ids.contract import attacks
from iomt_ids.contract.attacks import (
    ATTACKS,
    CATEGORIES,
    PROTOCOLS,
    TASKS,
    attack_of,
    benign_labels,
    benign_of,
    class_names,
)

_ALONE = (
    "ARP_Spoofing", "Benign", "MQTT-DDoS-Connect_Flood", "MQTT-DDoS-Publish_Flood", "MQTT-DoS-Connect_Flood",
    "MQTT-DoS-Publish_Flood", "MQTT-Malformed_Data", "Recon-OS_Scan", "Recon-Ping_Sweep", "Recon-Port_Scan",
    "Recon-VulScan",
)
_TRAIN_PARTS = {
    "DDoS-ICMP": 8, "DDoS-SYN": 4, "DDoS-TCP": 4, "DDoS-UDP": 8, "DoS-ICMP": 4, "DoS-SYN": 4, "DoS-TCP": 4,
    "DoS-UDP": 4,
}
_TEST_PARTS = {
    "DDoS-ICMP": ("1", "2"), "DDoS-SYN": ("",), "DDoS-TCP": ("",), "DDoS-UDP": ("1", "2"),
    "DoS-ICMP": ("",), "DoS-SYN": ("",), "DoS-TCP": ("",), "DoS-UDP": ("",),
}
# Every file of the release, without split and ending, and the class it belongs to.
TRAIN = {name: name for name in _ALONE} | {
    f"TCP_IP-{flood}{part}": flood for flood, parts in _TRAIN_PARTS.items() for part in range(1, parts + 1)
}
TEST = {name: name for name in _ALONE} | {
    f"TCP_IP-{flood}{part}": flood for flood, parts in _TEST_PARTS.items() for part in parts
}
BLUETOOTH = {"Bluetooth_Benign": "Bluetooth-Benign", "Bluetooth_DoS": "Bluetooth-DoS"}
OFFICIAL = TRAIN | TEST | BLUETOOTH


def test_the_release_has_72_files_of_wifi_and_mqtt() -> None:
    assert (len(TRAIN), len(TEST)) == (51, 21)


@pytest.mark.parametrize(("capture", "name"), OFFICIAL.items())
def test_an_official_name_belongs_to_exactly_one_class(capture: str, name: str) -> None:
    matching = [a.name for a in ATTACKS if re.fullmatch(a.capture, capture)]
    assert matching == [name]
    assert attack_of(capture).name == name


def test_every_class_has_an_official_file() -> None:
    assert set(OFFICIAL.values()) == {a.name for a in ATTACKS}


def test_ids_are_positions_and_names_are_never_given_twice() -> None:
    assert [a.id for a in ATTACKS] == list(range(len(ATTACKS)))
    assert len({a.name for a in ATTACKS}) == len(ATTACKS)


def test_the_ids_of_the_first_release_are_never_renumbered() -> None:
    assert [a.name for a in ATTACKS[:21]] == [
        "Benign", "ARP_Spoofing", "Recon-Ping_Sweep", "Recon-VulScan", "Recon-OS_Scan", "Recon-Port_Scan",
        "MQTT-Malformed_Data", "MQTT-DoS-Connect_Flood", "MQTT-DDoS-Publish_Flood", "MQTT-DoS-Publish_Flood",
        "MQTT-DDoS-Connect_Flood", "DoS-TCP", "DoS-ICMP", "DoS-SYN", "DoS-UDP", "DDoS-SYN", "DDoS-TCP", "DDoS-ICMP",
        "DDoS-UDP", "Bluetooth-Benign", "Bluetooth-DoS",
    ]


@pytest.mark.parametrize("capture", [
    "DDoS-HTTP", "", "benign", "Benign2", "xBenign", "TCP_IP-DDoS-UDP-1", "TCP_IP-DDoS-UDP1x", "Bluetooth_Benign1",
    "Benign\n",
])
def test_an_unknown_name_belongs_to_no_class(capture: str) -> None:
    assert attack_of(capture) is None


def test_digits_are_parts_of_one_class() -> None:
    assert {attack_of(f"TCP_IP-DDoS-UDP{part}").name for part in ("", *range(1, 9))} == {"DDoS-UDP"}


def test_a_distributed_mqtt_flood_is_mqtt() -> None:
    mqtt = {a.name for a in ATTACKS if a.category == "MQTT"}
    assert mqtt == {name for name in OFFICIAL.values() if name.startswith("MQTT-")}
    assert len(mqtt) == 5


def test_every_class_has_a_known_category_and_protocol() -> None:
    assert {a.category for a in ATTACKS} == set(CATEGORIES)
    assert {a.protocol for a in ATTACKS} == set(PROTOCOLS)


def test_each_protocol_has_one_benign_class() -> None:
    assert {p: benign_of(p).name for p in PROTOCOLS} == {"wifi_mqtt": "Benign", "bluetooth": "Bluetooth-Benign"}


@pytest.mark.parametrize("task", TASKS)
def test_benign_labels_of_a_task_are_its_benign_classes(task: str) -> None:
    names = class_names(task)
    assert {names[label] for label in benign_labels(task)} == {n for n in names if n.endswith("Benign")}


def test_an_unknown_task_is_refused_by_name() -> None:
    for function in (class_names, benign_labels):
        with pytest.raises(KeyError, match="unknown task 'attacks'; known: binary, category, attack"):
            function("attacks")


@pytest.mark.parametrize("changed", [
    {"name": "Harmless"}, {"id": 99}, {"category": "DoS"}, {"protocol": "bluetooth"},
])
def test_the_fingerprint_changes_when_a_label_means_something_else(
    monkeypatch: pytest.MonkeyPatch, changed: dict
) -> None:
    before = attacks.fingerprint()
    monkeypatch.setattr(attacks, "ATTACKS", (dataclasses.replace(ATTACKS[0], **changed), *ATTACKS[1:]))
    assert attacks.fingerprint() != before


def test_the_fingerprint_stays_when_only_words_change(monkeypatch: pytest.MonkeyPatch) -> None:
    before = attacks.fingerprint()
    monkeypatch.setattr(attacks, "ATTACKS", (dataclasses.replace(ATTACKS[0], sentence="other words"), *ATTACKS[1:]))
    assert attacks.fingerprint() == before
    assert re.fullmatch("[0-9a-f]{12}", before)
