"""Bluetooth Low Energy rows: few columns vary, and some are running counters of the capture."""

from __future__ import annotations

import numpy as np

from iomt_ids.contract.flows import FLOW_COLUMNS
from iomt_ids.demo.lines import CLOCK

_PACKETS = 10
# Header bytes, share of packets with data, packets per second, mean and deviation of lengths, shortest, longest.
_BENIGN = (14.0, 0.08, 50.0, 42.0, 9.4, 8.0, 262.0)
_FLOOD = (4.9, 0.35, 112.0, 24.0, 12.0, 9.0, 50.0)
# A flood needs a moment to build up, and lets go in between: such stretches look like ordinary traffic.
_LULL_ROWS = 23
_LULL_SHARE = 0.06


def draw_bluetooth(
    attack: str, first: int, rows: int, scale: float, release: str, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw rows of a Bluetooth capture.

    Parameters
    ----------
    attack : str
        ``Bluetooth-Benign`` or ``Bluetooth-DoS``.
    first : int
        Rows of the capture before these: `Number` and `Tot sum` count on.
    rows : int
        How many to draw.
    scale : float
        Factor on rates and lengths, of the device or of the drift.
    release : str
        ``v1`` or ``v2``.
    rng : Generator
        Source of chance.

    Returns
    -------
    dict of str to ndarray of float64, shape (rows,)
        Every column of the release by our name.
    """
    index = first + np.arange(rows)
    is_lull = rng.random(index[-1] // _LULL_ROWS - first // _LULL_ROWS + 1) < _LULL_SHARE
    floods = (attack == "Bluetooth-DoS") & ~is_lull[index // _LULL_ROWS - first // _LULL_ROWS]
    header, with_data, rate, mean, deviation, shortest, longest = np.where(
        floods, np.array(_FLOOD)[:, None], np.array(_BENIGN)[:, None]
    )
    wander = np.sin(index / 900.0) * 0.03
    drawn = {
        "llc": rng.binomial(_PACKETS, with_data) / _PACKETS,
        "rate": rate * scale * np.exp(wander + 0.06 * rng.standard_normal(rows)),
        "mean": mean * np.exp(wander / 10 + 0.01 * rng.standard_normal(rows)),
        "deviation": deviation * np.exp(-wander / 5 + 0.02 * rng.standard_normal(rows)),
    }
    drawn["header"] = np.where(floods, 14.0 * drawn["llc"], header)
    extremes = {"length_min_bytes": shortest, "length_max_bytes": longest}
    columns = {c.name: np.zeros(rows) for c in FLOW_COLUMNS if getattr(c, release) is not None}
    fill = _of_v1 if release == "v1" else _of_v2
    return columns | extremes | fill(drawn, _PACKETS * index, rng)


def _of_v1(drawn: dict[str, np.ndarray], before: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    number = before + (_PACKETS + 1) / 2
    return {
        "flow_header_bytes": drawn["header"],
        "flow_rate_per_s": drawn["rate"],
        "destination_rate_per_s": drawn["rate"],
        "llc_fraction": drawn["llc"],
        "length_sum_bytes": np.round(drawn["mean"] * number, 1),
        "length_mean_bytes": drawn["mean"],
        "length_std_bytes": drawn["deviation"],
        "length_window_bytes": np.round(drawn["mean"] + 1.5 * rng.standard_normal(len(number)), 1),
        CLOCK: 0.7 / drawn["rate"] * np.exp(0.4 * rng.standard_normal(len(number))),
        "buffer_packets": number,
        "magnitude": np.sqrt(drawn["mean"]),
        "radius": drawn["deviation"],
    }


def _of_v2(drawn: dict[str, np.ndarray], before: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    rate = drawn["rate"] * np.exp(0.4 * rng.standard_normal(len(before)))
    total = np.round(drawn["mean"] * _PACKETS + 5 * rng.standard_normal(len(before)))
    return {
        "window_rate_per_s": rate,
        "iat_s": 1 / rate,
        "llc_fraction": drawn["llc"],
        "length_sum_bytes": total,
        "length_mean_bytes": total / _PACKETS,
        "length_window_bytes": total / _PACKETS,
        "length_std_bytes": drawn["deviation"],
        "length_variance": drawn["deviation"] ** 2,
        "window_packets": np.full(len(before), float(_PACKETS)),
    }
