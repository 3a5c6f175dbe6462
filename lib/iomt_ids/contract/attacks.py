"""Every class once: stable id, name, category, protocol, the capture names it is read from.

CICIoMT2024 writes no labels: a row's class is the name of its file. The digits behind
`TCP_IP-DDoS-UDP1..8` number the parts of one class. MQTT floods belong to the category
MQTT, also the distributed ones (Dadkhah et al. 2024, Table 6).

To add an attack, append one row to `ATTACKS`; ids are never reused or renumbered.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

CATEGORIES = ("Benign", "Spoofing", "Recon", "MQTT", "DoS", "DDoS")
PROTOCOLS = ("wifi_mqtt", "bluetooth")
TASKS = ("binary", "category", "attack")
SPLITS = ("train", "validation", "test", "profile")


@dataclass(frozen=True)
class Attack:
    """One class of traffic.

    Attributes
    ----------
    id : int
        Stable label index.
    name : str
        The name in reports and tables.
    category : str
        One of `CATEGORIES`.
    protocol : str
        One of `PROTOCOLS`.
    capture : str
        Regular expression that the whole capture name matches, e.g. ``TCP_IP-DDoS-UDP[0-9]*``.
    sentence : str
        What the attack does, for reports.
    needed : str
        What would have to be captured to see the attack itself, where rows show its traces at best; otherwise empty.
    """

    id: int
    name: str
    category: str
    protocol: str
    capture: str
    sentence: str
    needed: str = ""


ATTACKS: tuple[Attack, ...] = (
    Attack(0, "Benign", "Benign", "wifi_mqtt", r"Benign", "ordinary traffic of Wi-Fi and MQTT devices"),
    Attack(1, "ARP_Spoofing", "Spoofing", "wifi_mqtt", r"ARP_Spoofing",
           "forged ARP replies put the attacker between device and gateway",
           needed="the addresses of ARP replies: which hardware address claims which network address, and who claimed it before. "
                  "Rows hold no address, and few windows of the attack hold an ARP packet at all; what is told is how relayed "
                  "traffic looks"),
    Attack(2, "Recon-Ping_Sweep", "Recon", "wifi_mqtt", r"Recon-Ping_Sweep", "ICMP echo to every address, to find devices"),
    Attack(3, "Recon-VulScan", "Recon", "wifi_mqtt", r"Recon-VulScan", "probes for known vulnerabilities"),
    Attack(4, "Recon-OS_Scan", "Recon", "wifi_mqtt", r"Recon-OS_Scan", "odd packets that betray the operating system"),
    Attack(5, "Recon-Port_Scan", "Recon", "wifi_mqtt", r"Recon-Port_Scan", "connection attempts to many ports"),
    Attack(6, "MQTT-Malformed_Data", "MQTT", "wifi_mqtt", r"MQTT-Malformed_Data", "MQTT packets that break the protocol"),
    Attack(7, "MQTT-DoS-Connect_Flood", "MQTT", "wifi_mqtt", r"MQTT-DoS-Connect_Flood", "one host floods the broker with CONNECT"),
    Attack(8, "MQTT-DDoS-Publish_Flood", "MQTT", "wifi_mqtt", r"MQTT-DDoS-Publish_Flood",
           "many hosts flood the broker with PUBLISH"),
    Attack(9, "MQTT-DoS-Publish_Flood", "MQTT", "wifi_mqtt", r"MQTT-DoS-Publish_Flood", "one host floods the broker with PUBLISH"),
    Attack(10, "MQTT-DDoS-Connect_Flood", "MQTT", "wifi_mqtt", r"MQTT-DDoS-Connect_Flood",
           "many hosts flood the broker with CONNECT"),
    Attack(11, "DoS-TCP", "DoS", "wifi_mqtt", r"TCP_IP-DoS-TCP[0-9]*", "one host floods a device with TCP"),
    Attack(12, "DoS-ICMP", "DoS", "wifi_mqtt", r"TCP_IP-DoS-ICMP[0-9]*", "one host floods a device with ICMP"),
    Attack(13, "DoS-SYN", "DoS", "wifi_mqtt", r"TCP_IP-DoS-SYN[0-9]*", "one host opens TCP handshakes and leaves them"),
    Attack(14, "DoS-UDP", "DoS", "wifi_mqtt", r"TCP_IP-DoS-UDP[0-9]*", "one host floods a device with UDP"),
    Attack(15, "DDoS-SYN", "DDoS", "wifi_mqtt", r"TCP_IP-DDoS-SYN[0-9]*", "many hosts open TCP handshakes and leave them"),
    Attack(16, "DDoS-TCP", "DDoS", "wifi_mqtt", r"TCP_IP-DDoS-TCP[0-9]*", "many hosts flood a device with TCP"),
    Attack(17, "DDoS-ICMP", "DDoS", "wifi_mqtt", r"TCP_IP-DDoS-ICMP[0-9]*", "many hosts flood a device with ICMP"),
    Attack(18, "DDoS-UDP", "DDoS", "wifi_mqtt", r"TCP_IP-DDoS-UDP[0-9]*", "many hosts flood a device with UDP"),
    Attack(19, "Bluetooth-Benign", "Benign", "bluetooth", r"Bluetooth_Benign", "ordinary Bluetooth Low Energy traffic"),
    Attack(20, "Bluetooth-DoS", "DoS", "bluetooth", r"Bluetooth_DoS", "a flood that keeps a Bluetooth device busy"),
)


def attack_of(capture: str) -> Attack | None:
    """The class that a capture name belongs to, or None if the name is unknown.

    Parameters
    ----------
    capture : str
        File name without folder, ``_train``/``_test`` and ``.pcap.csv``.

    Examples
    --------
    >>> attack_of("TCP_IP-DDoS-UDP8").name
    'DDoS-UDP'
    >>> attack_of("MQTT-DDoS-Publish_Flood").category
    'MQTT'
    >>> attack_of("DDoS-HTTP") is None
    True
    """
    for attack in ATTACKS:
        if re.fullmatch(attack.capture, capture):
            return attack
    return None


def benign_of(protocol: str) -> Attack:
    """The benign class of a protocol, which profiling captures belong to."""
    return next(a for a in ATTACKS if a.protocol == protocol and a.category == "Benign")


def class_names(task: str) -> tuple[str, ...]:
    """Names of the classes of a task, in label order.

    Examples
    --------
    >>> class_names("binary")
    ('Benign', 'Attack')
    >>> len(class_names("attack"))
    21
    """
    if task == "binary":
        return ("Benign", "Attack")
    if task == "category":
        return CATEGORIES
    if task == "attack":
        return tuple(a.name for a in ATTACKS)
    raise KeyError(f"unknown task {task!r}; known: {', '.join(TASKS)}")


def labels_of_attacks(task: str) -> tuple[int, ...]:
    """The label index that each attack has in a task, in the order of ids.

    Examples
    --------
    >>> labels_of_attacks("category")[:4], labels_of_attacks("binary")[:4]
    ((0, 1, 2, 2), (0, 1, 1, 1))
    """
    if task == "category":
        return tuple(CATEGORIES.index(a.category) for a in ATTACKS)
    return tuple(range(len(ATTACKS))) if task == "attack" else tuple(int(a.category != CATEGORIES[0]) for a in ATTACKS)


def benign_labels(task: str) -> tuple[int, ...]:
    """Label indices of a task that mean "no attack".

    Examples
    --------
    >>> benign_labels("attack")
    (0, 19)
    """
    if task == "attack":
        return tuple(a.id for a in ATTACKS if a.category == "Benign")
    class_names(task)
    return (0,)


def fingerprint() -> str:
    """Short hash of the taxonomy; a saved model carries it and refuses another.

    Returns
    -------
    str
        Twelve hexadecimal digits; changes when an id, name or category changes.
    """
    facts = "\n".join(f"{a.id} {a.name} {a.category} {a.protocol}" for a in ATTACKS) + "\n".join(CATEGORIES)
    return hashlib.sha256(facts.encode()).hexdigest()[:12]
