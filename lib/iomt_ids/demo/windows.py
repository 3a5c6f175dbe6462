"""From a behaviour to rows: draw packets, then compute each column as its release does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iomt_ids.contract.flows import FLOW_COLUMNS
from iomt_ids.demo.traffic import KINDS, Behaviour

_SHORTEST, _LONGEST = 42, 1514
# Release v1 measures lengths over a buffer that is emptied every 20 packets.
BUFFER = 20
_PORTS = ("http", "https", "dns", "telnet", "smtp", "ssh", "irc", "dhcp")
_PROTOCOL_COLUMNS = {"tcp_fraction": 6, "udp_fraction": 17, "icmp_fraction": 1, "igmp_fraction": 2, "arp_fraction": 0}
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "ece", "cwr")

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Drift:
    """How far a recording has moved from its beginning, as factors on what a behaviour says.

    Attributes
    ----------
    pace, grown, length : float
        Logarithm of the factor at the end of the train split.
    start, end : float
        The part of the recording to draw from; train is 0 to 1, test lies behind it.
    """

    pace: float = 0.0
    grown: float = 0.0
    length: float = 0.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Place:
    """Where a window lies in the 20-packet buffer of release v1.

    Attributes
    ----------
    packets : int
        Packets of the window.
    before : int
        Packets of the previous window that are still in the buffer.
    """

    packets: int
    before: int = 0

    @property
    def positions(self) -> np.ndarray:
        """Fill of the buffer at each packet of the window."""
        return (self.before + np.arange(self.packets)) % BUFFER + 1

    @property
    def number(self) -> float:
        """What release v1 writes as `Number`: the mean fill, full counting as empty."""
        return float(np.mean(self.positions % BUFFER))

    @property
    def weight(self) -> float:
        """What release v1 writes as `Weight`: the mean squared fill, full counting as one less."""
        return float(np.mean(np.minimum(self.positions, BUFFER - 1) ** 2.0))


def draw_windows(
    behaviour: Behaviour, place: Place, rows: int, drift: Drift, release: str, rng: np.random.Generator
) -> Columns:
    """Draw windows of one behaviour.

    Parameters
    ----------
    behaviour : Behaviour
        What the packets are.
    place : Place
        Where the windows lie in the buffer.
    rows : int
        Windows to draw.
    drift : Drift
        Which part of the recording they come from.
    release : str
        ``v1`` or ``v2``.
    rng : Generator
        Source of chance.

    Returns
    -------
    dict of str to ndarray of float64, shape (rows,)
        Every column of the release by our name, but for the clock (`iat_epoch_s`) of v1.
    """
    when = rng.uniform(drift.start, drift.end, rows)
    still = 0.0 if behaviour.is_frozen else 1.0
    kinds, lengths = _draw_packets(behaviour, place, rows, np.exp(still * drift.length * when), rng)
    pace = behaviour.pace[0] * np.exp(behaviour.pace[1] * rng.standard_normal(rows) + still * drift.pace * when)
    grown = behaviour.grown[0] * np.exp(behaviour.grown[1] * rng.standard_normal(rows) + still * drift.grown * when)
    ttl = np.clip(behaviour.ttl[0] + behaviour.ttl[1] * rng.standard_normal(rows), 1, 255)
    window = slice(place.before, None)
    columns = {c.name: np.zeros(rows) for c in FLOW_COLUMNS if getattr(c, release) is not None}
    columns.update(_shares(behaviour, kinds[:, window]))
    columns["ttl_mean"] = np.round(ttl, 1) * columns["ipv_fraction"]
    if release == "v1":
        columns.update(_flow_columns(columns, pace, grown, lengths[:, window], behaviour, rng))
        columns.update(_buffered_lengths(lengths, place))
    else:
        columns.update(_window_columns(columns, behaviour, kinds, lengths[:, window], pace))
    return columns


def _draw_packets(
    behaviour: Behaviour, place: Place, rows: int, stretch: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Kind (index into the behaviour's kinds) and length of each packet, shape (rows, before + packets)."""
    facts = [KINDS[name] for name in behaviour.kinds]
    shape = (rows, place.before + place.packets)
    base = np.array([kind.length for kind in facts])
    if behaviour.is_frozen:
        return np.zeros(shape, dtype=np.int8), np.full(shape, np.round(base[0]))
    shares = np.array(list(behaviour.kinds.values()))
    weights = rng.standard_gamma(np.maximum(behaviour.evenness * shares, 0.05), (rows, len(facts))) + 1e-9
    edges = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    chance = rng.random(shape, dtype=np.float32)
    kinds = np.zeros(shape, dtype=np.int8)
    for edge in edges.T[:-1]:
        kinds += chance > edge[:, None]
    spread = np.array([kind.spread for kind in facts], dtype=np.float32)[kinds]
    own = behaviour.scale * rng.standard_normal(rows) + np.log(stretch)
    # A kind of fixed length stays so, whatever the window's own scale.
    moved = spread * rng.standard_normal(shape, dtype=np.float32) + own[:, None] * np.minimum(spread * 3, 1)
    return kinds, np.clip(np.round(base[kinds] * np.exp(moved)), _SHORTEST, _LONGEST)


def _shares(behaviour: Behaviour, kinds: np.ndarray) -> Columns:
    """Fractions of the window by flag, port and protocol."""
    facts = [KINDS[name] for name in behaviour.kinds]
    packets = kinds.shape[1]
    counts = np.stack([(kinds == index).sum(axis=1) for index in range(len(facts))])

    def share(of: list[bool]) -> np.ndarray:
        return (counts * np.array(of)[:, None]).sum(axis=0) / packets

    columns = {f"{flag}_fraction": share([flag in kind.flags for kind in facts]) for flag in _FLAGS}
    columns |= {f"{port}_fraction": share([kind.port == port for kind in facts]) for port in _PORTS}
    columns |= {name: share([kind.protocol == number for kind in facts]) for name, number in _PROTOCOL_COLUMNS.items()}
    columns["ipv_fraction"] = share([kind.protocol != 0 for kind in facts])
    columns["llc_fraction"] = columns["ipv_fraction"]
    return columns


def _flow_columns(
    columns: Columns, pace: np.ndarray, grown: np.ndarray, lengths: np.ndarray, behaviour: Behaviour,
    rng: np.random.Generator,
) -> Columns:
    """What release v1 accumulates over the five-tuple of a packet."""
    rows, packets = lengths.shape
    number = {name: value for name, value in _PROTOCOL_COLUMNS.items() if value}
    protocol = sum(np.round(columns[name] * packets) * value for name, value in number.items()) / packets
    # Counters are drawn apart from the bytes of the flow: rows of a pool are combined with flows of a pool.
    age = behaviour.grown[0] / 90 * np.exp(behaviour.grown[1] * rng.standard_normal(rows))

    def counted(name: str, most: float) -> np.ndarray:
        return np.round(np.minimum(columns[name] * np.sqrt(age) * 3, most) * packets) / packets

    return {
        "flow_header_bytes": np.round(grown * packets) / packets,
        "ip_protocol_mean": protocol,
        "flow_rate_per_s": pace,
        "source_rate_per_s": pace,
        "flow_ack_packets": counted("fin_fraction", 3),
        "flow_syn_packets": counted("syn_fraction", 4),
        "flow_fin_packets": counted("rst_fraction", 2),
        "flow_rst_packets": np.round((columns["rst_fraction"] + 0.4 * columns["ack_fraction"]) * age, 2),
        "length_window_bytes": lengths.mean(axis=1),
    }


def _buffered_lengths(lengths: np.ndarray, place: Place) -> Columns:
    """Length statistics over the filling buffer, averaged over the packets of the window."""
    rows = len(lengths)
    size = min(lengths.shape[1], BUFFER)
    buffers = lengths.reshape(rows, -1, size)
    fill = np.arange(1, size + 1)
    sums = np.cumsum(buffers, axis=2)
    means = sums / fill
    variances = np.maximum(np.cumsum(buffers**2, axis=2) / fill - means**2, 0)

    def average(values: np.ndarray) -> np.ndarray:
        return values[:, :, place.before:].mean(axis=(1, 2))

    std = average(np.sqrt(variances))
    return {
        "length_sum_bytes": average(sums),
        "length_min_bytes": average(np.minimum.accumulate(buffers, axis=2)),
        "length_max_bytes": average(np.maximum.accumulate(buffers, axis=2)),
        "length_mean_bytes": average(means),
        "length_std_bytes": std,
        "buffer_packets": np.full(rows, place.number),
        "magnitude": average(np.sqrt(2 * means)),
        "radius": np.sqrt(2) * std,
        "covariance": average(variances),
        "variance_ratio": average(variances > 1e-6),
        "weight": np.full(rows, place.weight),
    }


def _window_columns(
    columns: Columns, behaviour: Behaviour, kinds: np.ndarray, lengths: np.ndarray, pace: np.ndarray
) -> Columns:
    """What release v2 computes over the window itself."""
    rows, packets = lengths.shape
    facts = [KINDS[name] for name in behaviour.kinds]
    numbers = sorted({kind.protocol for kind in facts})
    by_number = np.stack([sum(
        ((kinds == index).sum(axis=1) for index, kind in enumerate(facts) if kind.protocol == number), np.zeros(rows)
    ) for number in numbers])
    header = np.array([kind.header for kind in facts], dtype=float)[kinds[:, -packets:]].mean(axis=1)
    variance = lengths.var(axis=1)
    rate = np.maximum(pace, 0.01) * 10
    counted = ("ack", "syn", "fin", "rst")
    counts = {f"window_{flag}_packets": np.round(columns[f"{flag}_fraction"] * packets) for flag in counted}
    return counts | {
        "transport_header_bytes": header,
        "ip_protocol_mode": np.array(numbers, dtype=float)[by_number.argmax(axis=0)],
        "window_rate_per_s": rate,
        "iat_s": 1 / rate,
        "length_sum_bytes": lengths.sum(axis=1),
        "length_min_bytes": lengths.min(axis=1),
        "length_max_bytes": lengths.max(axis=1),
        "length_mean_bytes": lengths.mean(axis=1),
        "length_std_bytes": np.sqrt(variance),
        "length_window_bytes": lengths.mean(axis=1),
        "window_packets": np.full(rows, float(packets)),
        "length_variance": variance,
    }
