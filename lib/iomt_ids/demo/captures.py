"""Which captures there are, under which official name, and how many rows each gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from iomt_ids.contract.errors import ConfigError

MIN_ROWS = 2_000
# Where the tempered proportions of a small demo have become the official ones.
_OFFICIAL_FROM_ROWS = 5_000_000
_SMALL_ROWS = 10_000
_SMALL_EXPONENT = 0.35
_PROFILE_SHARE = 0.036

# Thousands of rows (train, test) a class has in the official release, Dadkhah et al. 2024, Table 6, rounded by hand.
_OFFICIAL_ROWS = {
    "Benign": (193, 38),
    "ARP_Spoofing": (16, 1.7),
    "Recon-Ping_Sweep": (0.7, 0.2),
    "Recon-VulScan": (2.2, 1),
    "Recon-OS_Scan": (17, 3.8),
    "Recon-Port_Scan": (84, 23),
    "MQTT-Malformed_Data": (5.1, 1.7),
    "MQTT-DoS-Connect_Flood": (13, 3.1),
    "MQTT-DDoS-Publish_Flood": (28, 8.4),
    "MQTT-DoS-Publish_Flood": (44, 8.5),
    "MQTT-DDoS-Connect_Flood": (173, 42),
    "DoS-TCP": (380, 82),
    "DoS-ICMP": (416, 98),
    "DoS-SYN": (442, 99),
    "DoS-UDP": (567, 138),
    "DDoS-SYN": (802, 172),
    "DDoS-TCP": (804, 183),
    "DDoS-ICMP": (1537, 350),
    "DDoS-UDP": (1636, 362),
    "Bluetooth-Benign": (22, 6.5),
    "Bluetooth-DoS": (100, 25),
}
# Classes that come in numbered parts: how many in train and in test; 0 is one file without a number.
_PARTS = {
    "DDoS-ICMP": (8, 2), "DDoS-SYN": (4, 0), "DDoS-TCP": (4, 0), "DDoS-UDP": (8, 2),
    "DoS-ICMP": (4, 0), "DoS-SYN": (4, 0), "DoS-TCP": (4, 0), "DoS-UDP": (4, 0),
}

_WIFI_PROFILES = "WiFI_and_MQTT/profiling/CSV"
_BLUETOOTH_PROFILES = "Bluetooth/profiling/csv"
# Place, name, device and weight of the profiling captures; three of them hold many devices at once.
_PROFILES: tuple[tuple[str, str, str, float], ...] = (
    (_WIFI_PROFILES, "ActiveBroker", "ActiveBroker", 20),
    (_WIFI_PROFILES, "Active", "Active", 10),
    (_WIFI_PROFILES, "Idle", "Idle", 4),
    *((f"{_WIFI_PROFILES}/Interactions/{device}", f"{device}_{experiment}", device, 1.5) for device, experiment in (
        ("Blink_Camera", "LAN_PHOTO"), ("Ecobee_Camera", "LAN_WATCH"), ("M1T_Camera", "LAN_RECORDING"),
        ("Multifunctional_Pager", "WAN_EMERGENCY"), ("Owltron_Camera", "WAN_WATCH"), ("SenseU", "LAN_APP"),
        ("Singcall", "LAN_PHYSICAL"),
    )),
    *((f"{_WIFI_PROFILES}/Power", f"{device}_Power", device, 1) for device in (
        "Blink_Camera", "Ecobee_Camera", "M1T_Camera", "Owltron_Camera", "SenseU",
    )),
    *((_BLUETOOTH_PROFILES, f"{device}_Power", device, 0.6) for device in (
        "Powerlabs_HR_Monitor", "Lookee_O2_Ring", "Livlov", "Checkme_BP2A",
    )),
)


@dataclass(frozen=True)
class DemoCapture:
    """One file to write.

    Attributes
    ----------
    path : str
        In the official layout.
    attack : str
        Name of the class.
    split : str
        ``train``, ``test`` or ``profile``.
    device : str or None
        Of profiling captures.
    rows : int
        Rows of the file.
    offset, of_class : int
        Rows of the same class that were captured before this file, and in all.
    pool : str
        Captures with the same name here are parts of one recording.
    """

    path: str
    attack: str
    split: str
    device: str | None
    rows: int
    offset: int
    of_class: int
    pool: str


def plan_captures(rows: int) -> list[DemoCapture]:
    """Every capture of a demo, in official order.

    Parameters
    ----------
    rows : int
        Rows of all captures together, profiling ones included; at least `MIN_ROWS`.

    Returns
    -------
    list of DemoCapture
        Their rows add up to ``rows`` exactly. Small demos temper the official imbalance of
        2,000 to 1, so that every class can be learnt; at five million rows it is the official one.

    Raises
    ------
    ConfigError
        If ``rows`` is too small to show every class.
    """
    if rows < MIN_ROWS:
        raise ConfigError(f"demo data need at least {MIN_ROWS} rows to show every class, not {rows}")
    places = [(attack, split) for attack in _OFFICIAL_ROWS for split in ("train", "test")]
    weights = [thousands for official in _OFFICIAL_ROWS.values() for thousands in official]
    shares = np.array(weights) ** _exponent(rows)
    floor = [min(rows // (180 if split == "train" else 360), 150) for _, split in places]
    profile_rows = max(4 * len(_PROFILES), round(rows * _PROFILE_SHARE))
    counts = dict(zip(places, _divide(rows - profile_rows, shares, np.array(floor)), strict=True))
    return [*_labelled(counts), *_profiled(profile_rows)]


def _exponent(rows: int) -> float:
    progress = math.log(rows / _SMALL_ROWS) / math.log(_OFFICIAL_FROM_ROWS / _SMALL_ROWS)
    return _SMALL_EXPONENT + (1 - _SMALL_EXPONENT) * min(max(progress, 0.0), 1.0)


def _divide(rows: int, shares: np.ndarray, floor: np.ndarray) -> list[int]:
    """Whole numbers that add up to `rows`: the floor, and the rest by share (largest remainder)."""
    exact = floor + shares / shares.sum() * (rows - floor.sum())
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: rows - counts.sum()]] += 1
    return [int(count) for count in counts]


def _labelled(counts: dict[tuple[str, str], int]) -> list[DemoCapture]:
    captures = []
    for (attack, split), rows in counts.items():
        offset = counts[attack, "train"] if split == "test" else 0
        of_class = counts[attack, "train"] + counts[attack, "test"]
        names = _file_names(attack, split)
        for name, part in zip(names, _divide(rows, np.ones(len(names)), np.zeros(len(names))), strict=True):
            captures.append(DemoCapture(name, attack, split, None, part, offset, of_class, f"{attack} {split}"))
            offset += part
    return captures


def _file_names(attack: str, split: str) -> list[str]:
    if attack.startswith("Bluetooth-"):
        return [f"Bluetooth/attacks/csv/{split}/{attack.replace('-', '_')}_{split}.pcap.csv"]
    folder = f"WiFI_and_MQTT/attacks/csv/{split}"
    if attack not in _PARTS:
        return [f"{folder}/{attack}_{split}.pcap.csv"]
    parts = _PARTS[attack][split == "test"]
    numbers = [str(number) for number in range(1, parts + 1)] or [""]
    return [f"{folder}/TCP_IP-{attack}{number}_{split}.pcap.csv" for number in numbers]


def _profiled(rows: int) -> list[DemoCapture]:
    weights = np.array([weight for *_, weight in _PROFILES])
    captures = []
    for (folder, name, device, _), share in zip(
        _PROFILES, _divide(rows, weights, np.full(len(weights), 3)), strict=True
    ):
        attack = "Bluetooth-Benign" if folder == _BLUETOOTH_PROFILES else "Benign"
        path = f"{folder}/{name}.pcap.csv"
        captures.append(DemoCapture(path, attack, "profile", device, share, 0, share, f"profile {name}"))
    return captures
