"""CICIoMT2024 in its official layout: the class is the file's name, the split is its folder.

    WiFI_and_MQTT/attacks/csv/{train,test}/NAME_{train,test}.pcap.csv
    Bluetooth/attacks/csv/{train,test}/NAME_{train,test}.pcap.csv
    {WiFI_and_MQTT,Bluetooth}/profiling/csv/**/NAME.pcap.csv

The publisher writes ``WiFI`` and ``CSV`` in several spellings, so folders are compared without case.
"""

from __future__ import annotations

import re

from iomt_ids.contract.attacks import ATTACKS, attack_of, benign_of
from iomt_ids.ingest.source import Capture, Source

_PROTOCOL_FOLDERS = {"wifi_and_mqtt": "wifi_mqtt", "bluetooth": "bluetooth"}
_LABELLED = re.compile(r"(?P<folder>[^/]+)/attacks/csv/(?P<split>train|test)/(?P<capture>[^/]+)_(?P<said>train|test)\.pcap\.csv",
                       re.IGNORECASE)
_PROFILING = re.compile(r"(?P<folder>[^/]+)/profiling/csv/(?:[^/]+/)*(?P<capture>[^/]+)\.pcap\.csv", re.IGNORECASE)
# Experiments that the profiling captures of one device end in; Active, Idle and Broker hold many devices.
_EXPERIMENT = re.compile(r"_(?:Power|(?:LAN|WAN)_[A-Z_]+|Interactions?)$", re.IGNORECASE)


def describe_capture(path: str) -> Capture | str:
    """What a file's place and name say of its rows, or what is wrong with them.

    Examples
    --------
    >>> describe_capture("WiFI_and_MQTT/attacks/csv/train/TCP_IP-DDoS-UDP8_train.pcap.csv").attack
    'DDoS-UDP'
    >>> describe_capture("Bluetooth/profiling/csv/Powerlabs_HR_Monitor_Power.pcap.csv").device
    'Powerlabs_HR_Monitor'
    >>> describe_capture("WiFI_and_MQTT/attacks/csv/test/DDoS-HTTP_test.pcap.csv")
    "WiFI_and_MQTT/attacks/csv/test/DDoS-HTTP_test.pcap.csv: unknown attack 'DDoS-HTTP'"
    """
    if found := _LABELLED.fullmatch(path):
        return _labelled(path, found)
    if found := _PROFILING.fullmatch(path):
        return _profiled(path, found)
    return f"{path}: not a place of the official layout (<protocol>/attacks/csv/<split>/NAME_<split>.pcap.csv)"


def _protocol(path: str, folder: str) -> tuple[str | None, str]:
    protocol = _PROTOCOL_FOLDERS.get(folder.lower())
    return protocol, f"{path}: unknown protocol folder '{folder}', known: WiFI_and_MQTT, Bluetooth"


def _labelled(path: str, found: re.Match[str]) -> Capture | str:
    protocol, problem = _protocol(path, found["folder"])
    if protocol is None:
        return problem
    split = found["split"].lower()
    if found["said"].lower() != split:
        return f"{path}: the name says {found['said']}, the folder says {found['split']}"
    attack = attack_of(found["capture"])
    if attack is None:
        return f"{path}: unknown attack '{found['capture']}'"
    if attack.protocol != protocol:
        return f"{path}: '{attack.name}' belongs to {attack.protocol}, not to folder {found['folder']}"
    return Capture(path, split, protocol, attack.name, attack.category, None)


def _profiled(path: str, found: re.Match[str]) -> Capture | str:
    protocol, problem = _protocol(path, found["folder"])
    if protocol is None:
        return problem
    benign = benign_of(protocol)
    device = _EXPERIMENT.sub("", found["capture"])
    return Capture(path, "profile", protocol, benign.name, benign.category, device)


SOURCE = Source(
    glob="**/*.csv",
    describe=describe_capture,
    sentence=f"CICIoMT2024 (Dadkhah et al. 2024), {len(ATTACKS)} classes, releases v1 and v2",
)
