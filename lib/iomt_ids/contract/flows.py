"""Every flow column once: our name, the source's name per release, unit, meaning.

A row of CICIoMT2024 is not one flow but the mean over a window of 10 or 100 consecutive
packets. Two incompatible releases exist; the header tells which one a file is. A column
that means something else in the other release is another column here, so that nothing
trained on one release is silently fed with the other.

Sources: Dadkhah et al., Internet of Things 28 (2024) 101351, Table 5, for release v2;
for v1 the meanings were read off the data themselves, see docs/experiments.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

RELEASES = ("v1", "v2")


@dataclass(frozen=True)
class FlowColumn:
    """One numeric column of a flow table.

    Attributes
    ----------
    name : str
        Our name, snake case, with its unit unless dimensionless.
    v1, v2 : str or None
        The source's name in that release; None where the release lacks it.
    unit : str
        ``B``, ``s``, ``1/s``, ``packets`` or ``1`` (dimensionless).
    meaning : str
        One sentence for the data dictionary.
    leak : str or None
        Why a score that used this column would not be honest; None if it may be used.
    """

    name: str
    v1: str | None
    v2: str | None
    unit: str
    meaning: str
    leak: str | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value that physics allows, both included.

        Examples
        --------
        >>> next(c for c in FLOW_COLUMNS if c.name == "syn_fraction").limits
        (0.0, 1.0)
        """
        if self.name.endswith("_fraction"):
            return 0.0, 1.0
        # Not the clock, which is no time, nor covariances, which have a sign.
        return (0.0, math.inf) if self.unit == "B" else (-math.inf, math.inf)


_FLAG = "fraction of the window's packets with the TCP {} flag"
_APP = "fraction of the window's packets on a well-known port of {}"
_PROTO = "fraction of the window's packets that are {}"


def _both(name: str, source: str, unit: str, meaning: str, leak: str | None = None) -> FlowColumn:
    return FlowColumn(name, source, source, unit, meaning, leak)


FLOW_COLUMNS: tuple[FlowColumn, ...] = (
    FlowColumn("flow_header_bytes", "Header_Length", None, "B",
               "running sum of header bytes of the packet's five-tuple, averaged over the window; grows with the flow"),
    FlowColumn("transport_header_bytes", None, "Header_Length", "B",
               "mean length of the transport header: UDP 8, TCP 20 to 60, else 0"),
    FlowColumn("ip_protocol_mean", "Protocol Type", None, "1", "mean IP protocol number, 0 for ARP"),
    FlowColumn("ip_protocol_mode", None, "Protocol Type", "1", "most frequent IP protocol number"),
    FlowColumn("ttl_mean", "Duration", "Time_To_Live", "1",
               "mean IP time to live; release v1 calls it Duration although it is no duration"),
    FlowColumn("flow_rate_per_s", "Rate", None, "1/s",
               "packets so far in the flow over the flow's age, averaged over the window"),
    FlowColumn("window_rate_per_s", None, "Rate", "1/s", "packets per second inside the window"),
    FlowColumn("source_rate_per_s", "Srate", None, "1/s",
               "the same for packets sent by the flow's source; equal to flow_rate_per_s in practice"),
    FlowColumn("destination_rate_per_s", "Drate", None, "1/s",
               "the same for packets sent by the flow's destination; 0 on Wi-Fi and MQTT"),
    _both("fin_fraction", "fin_flag_number", "1", _FLAG.format("FIN")),
    _both("syn_fraction", "syn_flag_number", "1", _FLAG.format("SYN")),
    _both("rst_fraction", "rst_flag_number", "1", _FLAG.format("RST")),
    _both("psh_fraction", "psh_flag_number", "1", _FLAG.format("PSH")),
    _both("ack_fraction", "ack_flag_number", "1", _FLAG.format("ACK")),
    _both("ece_fraction", "ece_flag_number", "1", _FLAG.format("ECE")),
    _both("cwr_fraction", "cwr_flag_number", "1", _FLAG.format("CWR")),
    FlowColumn("flow_ack_packets", "ack_count", None, "packets", "running ACK count of the flow, averaged"),
    FlowColumn("window_ack_packets", None, "ack_count", "packets", "ACK packets in the window"),
    FlowColumn("flow_syn_packets", "syn_count", None, "packets", "running SYN count of the flow, averaged"),
    FlowColumn("window_syn_packets", None, "syn_count", "packets", "SYN packets in the window"),
    FlowColumn("flow_fin_packets", "fin_count", None, "packets", "running FIN count of the flow, averaged"),
    FlowColumn("window_fin_packets", None, "fin_count", "packets", "FIN packets in the window"),
    FlowColumn("flow_rst_packets", "rst_count", None, "packets", "running RST count of the flow, averaged"),
    FlowColumn("window_rst_packets", None, "rst_count", "packets", "RST packets in the window"),
    _both("http_fraction", "HTTP", "1", _APP.format("HTTP")),
    _both("https_fraction", "HTTPS", "1", _APP.format("HTTPS")),
    _both("dns_fraction", "DNS", "1", _APP.format("DNS")),
    _both("telnet_fraction", "Telnet", "1", _APP.format("Telnet")),
    _both("smtp_fraction", "SMTP", "1", _APP.format("SMTP")),
    _both("ssh_fraction", "SSH", "1", _APP.format("SSH")),
    _both("irc_fraction", "IRC", "1", _APP.format("IRC")),
    _both("tcp_fraction", "TCP", "1", _PROTO.format("TCP")),
    _both("udp_fraction", "UDP", "1", _PROTO.format("UDP")),
    _both("dhcp_fraction", "DHCP", "1", _APP.format("DHCP")),
    _both("arp_fraction", "ARP", "1", _PROTO.format("ARP")),
    _both("icmp_fraction", "ICMP", "1", _PROTO.format("ICMP")),
    _both("igmp_fraction", "IGMP", "1", _PROTO.format("IGMP")),
    _both("ipv_fraction", "IPv", "1", _PROTO.format("IP")),
    _both("llc_fraction", "LLC", "1", _PROTO.format("LLC; equal to ipv_fraction")),
    _both("length_sum_bytes", "Tot sum", "B",
          "sum of frame lengths; in v1 over a buffer of at most 20 packets, averaged over the window"),
    _both("length_min_bytes", "Min", "B", "shortest frame, over the same buffer"),
    _both("length_max_bytes", "Max", "B", "longest frame, over the same buffer"),
    _both("length_mean_bytes", "AVG", "B", "mean frame length, over the same buffer"),
    _both("length_std_bytes", "Std", "B", "standard deviation of frame lengths, over the same buffer"),
    _both("length_window_bytes", "Tot size", "B", "mean frame length over the window"),
    FlowColumn("iat_epoch_s", "IAT", None, "s",
               "time since the previous packet, polluted by the absolute clock every 20 packets",
               leak="a disguised clock: each class was captured in its own hours, so it names the class"),
    FlowColumn("iat_s", None, "IAT", "s", "mean time between packets of the window"),
    FlowColumn("buffer_packets", "Number", None, "packets", "mean fill of the 20-packet buffer",
               leak="encodes the window size, which was chosen per class; on Bluetooth a row index"),
    FlowColumn("window_packets", None, "Number", "packets", "packets in the window",
               leak="the window size, which was chosen per class"),
    FlowColumn("magnitude", "Magnitue", None, "1", "square root of the mean lengths in plus out; the typo is theirs"),
    FlowColumn("radius", "Radius", None, "B", "square root of the length variances in plus out"),
    FlowColumn("covariance", "Covariance", None, "B^2", "mean product of length deviations in and out"),
    FlowColumn("variance_ratio", "Variance", None, "1", "length variance in over out, 0 or 1, averaged"),
    FlowColumn("length_variance", None, "Variance", "B^2", "variance of frame lengths in the window"),
    FlowColumn("weight", "Weight", None, "1", "packets in times packets out of the buffer, averaged",
               leak="the square of buffer_packets, so the window size again"),
)

# What is said of a column over a window and those before it in the same capture; see `prepare.past`.
PAST_STATISTICS = {"mean": "mean", "std": "standard deviation"}


def past_column(name: str, statistic: str) -> str:
    """The column that holds a statistic of another one's past.

    Examples
    --------
    >>> past_column("ttl_mean", "std")
    'ttl_mean_past_std'
    """
    return f"{name}_past_{statistic}"


def past_columns(names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the past of some columns, in the order of the array ``past``."""
    return tuple(past_column(name, statistic) for statistic in PAST_STATISTICS for name in names)


PAST_COLUMNS: tuple[FlowColumn, ...] = tuple(
    FlowColumn(past_column(c.name, statistic), None, None, c.unit, f"{words} of {c.name} over this window and those before it")
    for statistic, words in PAST_STATISTICS.items() for c in FLOW_COLUMNS if c.leak is None
)

# Columns of a row by itself, without and with those that leak; and without, but with the past of its capture.
VECTOR_SETS = ("leak_free", "all")
FEATURE_SETS = (*VECTOR_SETS, "past")
SET_NAMES = dict(zip(FEATURE_SETS, ("leak-free", "all features", "with the past"), strict=True))
# Each at most the next, but for rounding in the last digits.
IN_ORDER = ("length_min_bytes", "length_mean_bytes", "length_max_bytes")
ROUNDING = 1e-9


def source_header(release: str) -> tuple[str, ...]:
    """Column names of a release's CSV files, in file order.

    Raises
    ------
    KeyError
        If the release is unknown.

    Examples
    --------
    >>> len(source_header("v1")), len(source_header("v2"))
    (45, 39)
    """
    return _HEADERS[release]


def columns_of(release: str) -> tuple[FlowColumn, ...]:
    """The flow columns that a release has, in the order of its header."""
    by_source = {getattr(c, release): c for c in FLOW_COLUMNS}
    return tuple(by_source[name] for name in source_header(release))


def feature_names(release: str, feature_set: str) -> tuple[str, ...]:
    """Our names of the features of a set, in the order of the release's header.

    Parameters
    ----------
    release : str
        One of `RELEASES`.
    feature_set : str
        ``"leak_free"`` leaves out every column with a ``leak``; ``"all"`` keeps them, for
        comparison with published work only; ``"past"`` adds to the first what the windows before
        say, see `prepare.past`.

    Examples
    --------
    >>> sorted(set(feature_names("v1", "all")) - set(feature_names("v1", "leak_free")))
    ['buffer_packets', 'iat_epoch_s', 'weight']
    >>> [len(feature_names(release, "past")) / len(feature_names(release, "leak_free")) for release in RELEASES]
    [3.0, 3.0]
    """
    if feature_set not in FEATURE_SETS:
        raise KeyError(f"unknown feature set {feature_set!r}; known: {', '.join(FEATURE_SETS)}")
    own = tuple(c.name for c in columns_of(release) if feature_set == "all" or c.leak is None)
    return own if feature_set in VECTOR_SETS else own + past_columns(own)


# The order in which v1 writes its columns is the order above; v2 leaves some out and changes none.
_HEADERS = MappingProxyType({
    release: tuple(getattr(c, release) for c in FLOW_COLUMNS if getattr(c, release) is not None)
    for release in RELEASES
})
