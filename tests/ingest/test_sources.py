"""Every source that is discovered, and what CICIoMT2024's names say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from iomt_ids.contract.attacks import ATTACKS, PROTOCOLS, SPLITS
from iomt_ids.contract.flows import source_header
from iomt_ids.ingest.parse import parse_block
from iomt_ids.ingest.plan import find_files
from iomt_ids.ingest.source import Capture
from iomt_ids.ingest.sources import sources
from iomt_ids.ingest.sources.ciciomt2024 import describe_capture
from iomt_ids.ingest.unpack import Limits

_SAMPLES = Path(__file__).resolve().parents[1] / "samples"
_FOLDERS = [(name, folder) for name in sources() for folder in sorted((_SAMPLES / name).glob("*/"))]
_WIFI = "WiFI_and_MQTT/attacks/csv"


def test_sources_are_found_by_their_files() -> None:
    assert list(sources()) == ["ciciomt2024"]


@pytest.mark.parametrize("name", sources())
def test_every_source_has_samples(name: str) -> None:
    assert [folder for source, folder in _FOLDERS if source == name]


@pytest.mark.parametrize(("name", "folder"), _FOLDERS, ids=[f"{n}/{f.name}" for n, f in _FOLDERS])
def test_every_sample_file_is_read_whole(name: str, folder: Path) -> None:
    files = find_files(folder, sources()[name], Limits(1 << 30))
    assert len(files) == len(list(folder.glob("**/*.csv")))
    for file in files:
        body = Path(file.location).read_bytes()[file.body:]
        parsed = parse_block(body, 2, file.release)
        assert (parsed.values.shape, parsed.rejects) == ((len(source_header(file.release)), 5), [])
        assert file.release == folder.name
        assert file.capture.split in SPLITS
        assert file.capture.protocol in PROTOCOLS


@pytest.mark.parametrize(("name", "folder"), _FOLDERS, ids=[f"{n}/{f.name}" for n, f in _FOLDERS])
def test_a_bad_line_of_a_sample_is_rejected_with_a_reason(name: str, folder: Path) -> None:
    for file in find_files(folder, sources()[name], Limits(1 << 30)):
        body = Path(file.location).read_bytes()[file.body:].replace(b".25,", b".2S,", 1)
        parsed = parse_block(body, 2, file.release)
        (reject,) = parsed.rejects
        assert parsed.lines.size == 4
        assert reject.reason.startswith("not a number: '")
        assert reject.column in source_header(file.release)


@pytest.mark.parametrize(("path", "wanted"), [
    (f"{_WIFI}/train/TCP_IP-DDoS-UDP8_train.pcap.csv", ("train", "wifi_mqtt", "DDoS-UDP", "DDoS", None)),
    (f"{_WIFI}/test/MQTT-DDoS-Publish_Flood_test.pcap.csv",
     ("test", "wifi_mqtt", "MQTT-DDoS-Publish_Flood", "MQTT", None)),
    ("Bluetooth/attacks/csv/train/Bluetooth_DoS_train.pcap.csv", ("train", "bluetooth", "Bluetooth-DoS", "DoS", None)),
    ("Bluetooth/profiling/csv/Kinsa_Power.pcap.csv", ("profile", "bluetooth", "Bluetooth-Benign", "Benign", "Kinsa")),
    ("WiFI_and_MQTT/profiling/CSV/Idle.pcap.csv", ("profile", "wifi_mqtt", "Benign", "Benign", "Idle")),
    ("wifi_and_mqtt/profiling/CSV/Power/M1T_Camera_WAN_RECORDING.pcap.csv",
     ("profile", "wifi_mqtt", "Benign", "Benign", "M1T_Camera")),
])
def test_a_place_and_a_name_say_what_the_rows_are(path: str, wanted: tuple) -> None:
    described = describe_capture(path)
    assert isinstance(described, Capture)
    assert dataclasses.astuple(described) == (path, *wanted)


@pytest.mark.parametrize(("path", "problem"), [
    (f"{_WIFI}/test/DDoS-HTTP_test.pcap.csv", "unknown attack 'DDoS-HTTP'"),
    (f"{_WIFI}/train/Benign_test.pcap.csv", "the name says test, the folder says train"),
    ("Bluetooth/attacks/csv/train/Benign_train.pcap.csv", "'Benign' belongs to wifi_mqtt, not to folder Bluetooth"),
    (f"{_WIFI}/train/Bluetooth_DoS_train.pcap.csv",
     "'Bluetooth-DoS' belongs to bluetooth, not to folder WiFI_and_MQTT"),
    ("Zigbee/attacks/csv/train/Benign_train.pcap.csv",
     "unknown protocol folder 'Zigbee', known: WiFI_and_MQTT, Bluetooth"),
    ("Zigbee/profiling/csv/Lamp.pcap.csv", "unknown protocol folder 'Zigbee', known: WiFI_and_MQTT, Bluetooth"),
    ("Benign_train.pcap.csv", "not a place of the official layout"),
    (f"{_WIFI}/validation/Benign_validation.pcap.csv", "not a place of the official layout"),
    (f"{_WIFI}/train/Benign_train.csv", "not a place of the official layout"),
])
def test_a_wrong_name_is_refused_by_name(path: str, problem: str) -> None:
    described = describe_capture(path)
    assert isinstance(described, str)
    assert described.startswith(f"{path}: {problem}")


def test_every_class_can_be_named_in_its_folder() -> None:
    folders = {"wifi_mqtt": "WiFI_and_MQTT", "bluetooth": "Bluetooth"}
    for attack in ATTACKS:
        capture = attack.capture.replace("[0-9]*", "")
        described = describe_capture(f"{folders[attack.protocol]}/attacks/csv/test/{capture}_test.pcap.csv")
        assert isinstance(described, Capture)
        assert described.attack == attack.name
