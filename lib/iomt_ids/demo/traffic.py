"""What the synthetic network does: kinds of packets, behaviours made of them, classes made of those.

Every magnitude is chosen by hand to be of the order seen in such networks. Classes share
behaviours, so that they are mistaken for each other as the real ones are: a scan contains ordinary
traffic, relayed traffic under ARP spoofing looks like traffic, and a flood from many hosts differs
from that of one host only by its pace and the age of its flows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Kind:
    """One kind of packet.

    Attributes
    ----------
    protocol : int
        IP protocol number, 0 for ARP.
    header : int
        Bytes of the transport header.
    length : float
        Typical frame length, bytes.
    spread : float
        Standard deviation of the logarithm of the length.
    flags : tuple of str
        TCP flags set.
    port : str or None
        Well-known port, as the data set names it.
    """

    protocol: int
    header: int
    length: float
    spread: float
    flags: tuple[str, ...] = ()
    port: str | None = None


KINDS = MappingProxyType({
    "syn": Kind(6, 32, 66, 0.06, ("syn",)),
    "probe": Kind(6, 24, 58, 0.03, ("syn",)),
    "ack": Kind(6, 32, 66, 0.04, ("ack",)),
    "data": Kind(6, 32, 170, 0.7, ("psh", "ack")),
    "bulk": Kind(6, 32, 1400, 0.15, ("ack",)),
    "tls": Kind(6, 32, 420, 0.9, ("psh", "ack"), "https"),
    "keep": Kind(6, 32, 82, 0.18, ("psh", "ack")),
    "connect": Kind(6, 32, 88, 0.12, ("psh", "ack")),
    "publish": Kind(6, 32, 330, 0.7, ("psh", "ack")),
    "garbled": Kind(6, 32, 760, 0.9, ("psh", "ack"), "https"),
    "web": Kind(6, 32, 260, 0.6, ("psh", "ack"), "http"),
    "shell": Kind(6, 32, 95, 0.4, ("psh", "ack"), "ssh"),
    "fin": Kind(6, 32, 66, 0.0, ("fin", "ack")),
    "rst": Kind(6, 20, 58, 0.03, ("rst",)),
    "bare": Kind(6, 20, 58, 0.02),
    "video": Kind(17, 8, 620, 0.7),
    "dgram": Kind(17, 8, 120, 0.4),
    "burst": Kind(17, 8, 60, 0.05),
    "name": Kind(17, 8, 105, 0.3, (), "dns"),
    "lease": Kind(17, 8, 342, 0.02, (), "dhcp"),
    "arp": Kind(0, 0, 50, 0.15),
    "echo": Kind(1, 8, 90, 0.2),
    "ping": Kind(1, 8, 60, 0.02),
    "group": Kind(2, 8, 60, 0.05),
})


@dataclass(frozen=True)
class Behaviour:
    """A way to fill a window with packets.

    Attributes
    ----------
    share : float
        How often a class behaves so, relative to its other behaviours.
    kinds : dict of str to float
        Kinds of packets and their average shares.
    pace : tuple of float
        Median packets per second of a flow, and the standard deviation of the logarithm.
    grown : tuple of float
        The same for the bytes of a flow so far.
    ttl : tuple of float
        Mean and standard deviation of the time to live.
    evenness : float
        Concentration of the shares around their average: large makes windows alike. Infinite makes
        them equal in everything but the clock, which is where duplicates come from.
    scale : float
        Standard deviation of the logarithm of a window's own length scale.
    """

    share: float
    kinds: dict[str, float]
    pace: tuple[float, float]
    grown: tuple[float, float]
    ttl: tuple[float, float] = (64.0, 4.0)
    evenness: float = 12.0
    scale: float = 0.25

    @property
    def is_frozen(self) -> bool:
        """Whether all its windows are equal."""
        return self.evenness == float("inf")


@dataclass(frozen=True)
class Recipe:
    """How a class behaves.

    Attributes
    ----------
    behaviours : tuple of Behaviour
        What it is a mixture of.
    window : int
        Packets a row: 10 or, for floods, 100.
    hour : float
        Hours from the start of the campaign to the first packet: no two classes overlap.
    repeats : float
        Share of rows that are written twice.
    """

    behaviours: tuple[Behaviour, ...]
    window: int
    hour: float
    repeats: float = 0.0
    pause: float = field(default=0.6)


_FROZEN = float("inf")


def _keepalive(share: float) -> Behaviour:
    return Behaviour(share, {"ack": 0.5, "keep": 0.46, "dgram": 0.04}, (1.5, 0.5), (1.8e5, 1.0), (64, 6), 30, 0.1)


def _chatter(share: float) -> Behaviour:
    kinds = {"ack": 0.42, "data": 0.34, "tls": 0.1, "name": 0.05, "dgram": 0.06, "arp": 0.03}
    return Behaviour(share, kinds, (4, 1.0), (4e4, 1.5), (80, 25), 8)


def _video(share: float, pace: float, grown: float) -> Behaviour:
    kinds = {"video": 0.6, "ack": 0.25, "data": 0.1, "bulk": 0.05}
    return Behaviour(share, kinds, (pace, 0.7), (grown, 1.0), (64, 5), 3, 0.3)


def _probing(share: float, answered: float, pace: float, ttl: tuple[float, float]) -> Behaviour:
    kinds = {"probe": 1 - answered, "rst": answered * 0.9, "ack": answered * 0.1}
    return Behaviour(share, kinds, (pace, 0.6), (110, 0.35), ttl, 2.5)


def _steady_probe(share: float, kind: str) -> Behaviour:
    return Behaviour(share, {kind: 1.0}, (2.0, 0.0), (112, 0.0), (64, 0), _FROZEN)


def _flood(share: float, kind: str, pace: float, grown: float, stray: float, ttl: float = 64) -> Behaviour:
    kinds = {kind: 1 - stray, "ack": stray * 0.5, "keep": stray * 0.3, "dgram": stray * 0.2}
    return Behaviour(share, kinds, (pace, 0.8), (grown, 0.8), (ttl, 0.8), 40, 0.02)


def _equal(share: float, kind: str, pace: float, grown: float, ttl: float = 64) -> Behaviour:
    return Behaviour(share, {kind: 1.0}, (pace, 0.0), (grown, 0.0), (ttl, 0), _FROZEN)


_QUIET_RECON = (_keepalive(0.04), _chatter(0.03))

RECIPES: MappingProxyType[str, Recipe] = MappingProxyType({
    "Benign": Recipe((
        _keepalive(0.45), _chatter(0.27), _video(0.14, 30, 6e5),
        Behaviour(0.12, {"tls": 0.4, "ack": 0.4, "bulk": 0.15, "name": 0.05}, (12, 1.0), (5e4, 1.4), (75, 25), 5),
        Behaviour(0.02, {"lease": 0.2, "arp": 0.4, "group": 0.2, "name": 0.2}, (0.5, 0.8), (700, 0.8), (70, 60), 4),
    ), 10, 400),
    "ARP_Spoofing": Recipe((
        _video(0.66, 80, 4e6), _chatter(0.06), _keepalive(0.06),
        Behaviour(0.18, {"arp": 0.3, "video": 0.3, "ack": 0.3, "data": 0.1}, (45, 0.8), (1.5e6, 0.9), (64, 5), 5),
    ), 10, 240),
    "Recon-Ping_Sweep": Recipe((
        Behaviour(0.7, {"arp": 0.75, "echo": 0.15, "ack": 0.1}, (2.0, 1.2), (40, 1.5), (50, 12), 2.5),
        _equal(0.1, "arp", 0, 0, 0),
        _keepalive(0.05), _chatter(0.04),
    ), 10, 264),
    "Recon-VulScan": Recipe((
        Behaviour(0.42, {"web": 0.4, "ack": 0.35, "syn": 0.1, "rst": 0.1, "fin": 0.05},
                  (6, 1.0), (9e3, 1.2), (64, 8), 4),
        Behaviour(0.14, {"dgram": 0.5, "video": 0.3, "rst": 0.2}, (400, 1.3), (6e3, 1.0), (64, 8), 3),
        _probing(0.16, 0.35, 3.0, (60, 5)), _steady_probe(0.03, "probe"), _keepalive(0.05), _chatter(0.04),
    ), 10, 390),
    "Recon-OS_Scan": Recipe((
        _probing(0.56, 0.55, 3.6, (55, 5)),
        Behaviour(0.22, {"probe": 0.35, "rst": 0.25, "echo": 0.2, "dgram": 0.2}, (5, 0.8), (150, 0.6), (55, 8), 4),
        _steady_probe(0.1, "rst"), _steady_probe(0.04, "probe"), *_QUIET_RECON,
    ), 10, 260),
    "Recon-Port_Scan": Recipe((
        _probing(0.66, 0.25, 7.5, (46, 5)),
        Behaviour(0.1, {"probe": 0.5, "shell": 0.15, "rst": 0.2, "ack": 0.15}, (8, 0.7), (140, 0.5), (48, 6), 4),
        _steady_probe(0.08, "probe"), _steady_probe(0.03, "rst"), *_QUIET_RECON,
    ), 10, 255),
    "MQTT-Malformed_Data": Recipe((
        Behaviour(0.6, {"garbled": 0.5, "ack": 0.35, "bulk": 0.15}, (110, 1.2), (9e5, 1.5), (70, 20), 3, 0.4),
        Behaviour(0.12, {"syn": 0.2, "fin": 0.15, "rst": 0.15, "connect": 0.25, "ack": 0.25},
                  (60, 1.0), (800, 0.8), (64, 3), 6),
        Behaviour(0.12, {"tls": 0.4, "ack": 0.4, "bulk": 0.2}, (15, 1.0), (8e4, 1.4), (75, 25), 5),
        _keepalive(0.05),
    ), 10, 12),
    "MQTT-DoS-Connect_Flood": Recipe((
        Behaviour(1, {"syn": 0.23, "ack": 0.37, "connect": 0.22, "fin": 0.06, "rst": 0.12},
                  (32, 0.7), (560, 0.4), (64, 0.3), 40, 0.03),
    ), 100, 16),
    "MQTT-DDoS-Publish_Flood": Recipe((
        Behaviour(1, {"publish": 0.5, "ack": 0.49, "syn": 0.01}, (118, 0.35), (5.5e4, 0.8), (64, 0.3), 14, 0.5),
    ), 100, 42),
    "MQTT-DoS-Publish_Flood": Recipe((
        Behaviour(1, {"publish": 0.53, "ack": 0.47}, (74, 0.2), (4.2e4, 0.8), (64, 0.2), 14, 0.5),
    ), 100, 39),
    "MQTT-DDoS-Connect_Flood": Recipe((
        Behaviour(1, {"syn": 0.2, "ack": 0.27, "connect": 0.18, "fin": 0.17, "rst": 0.18},
                  (14, 0.8), (430, 0.4), (64, 0.3), 25, 0.05),
    ), 100, 46),
    "DoS-TCP": Recipe((
        _flood(0.43, "bare", 75, 1100, 0.03),
        _equal(0.43, "bare", 9, 108), _equal(0.08, "bare", 0, 54), _equal(0.06, "bare", 3, 162),
    ), 100, 60, 0.06, 0.04),
    "DoS-ICMP": Recipe((
        _flood(0.16, "ping", 45, 650, 0.02),
        _equal(0.64, "ping", 0, 0), _equal(0.1, "ping", 1, 0), _equal(0.1, "ping", 0, 0, 63),
    ), 100, 110, 0.1, 0.03),
    "DoS-SYN": Recipe((
        _flood(0.86, "probe", 170, 1600, 0.03), _equal(0.1, "probe", 9, 116), _equal(0.04, "probe", 3, 58),
    ), 100, 84, 0.01, 0.04),
    "DoS-UDP": Recipe((_flood(1, "burst", 900, 2.4e4, 0.03),), 100, 98, 0.0, 0.04),
    "DDoS-SYN": Recipe((
        _flood(0.48, "probe", 48, 520, 0.02), _equal(0.46, "probe", 3, 58), _equal(0.06, "probe", 9, 116),
    ), 100, 214, 0.06, 0.03),
    "DDoS-TCP": Recipe((
        _flood(0.1, "bare", 22, 380, 0.02),
        _equal(0.69, "bare", 3, 162), _equal(0.14, "bare", 0, 54), _equal(0.07, "bare", 9, 108),
    ), 100, 211, 0.12, 0.03),
    "DDoS-ICMP": Recipe((
        _flood(0.06, "ping", 14, 230, 0.02),
        _equal(0.76, "ping", 1, 0), _equal(0.09, "ping", 0, 0), _equal(0.09, "ping", 1, 0, 63),
    ), 100, 220, 0.12, 0.02),
    "DDoS-UDP": Recipe((_flood(1, "burst", 280, 7.5e3, 0.02),), 100, 217, 0.0, 0.02),
})
