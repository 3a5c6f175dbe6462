"""What the rows themselves say: how attacks and devices differ from ordinary traffic, what is mistaken for what.

A comparison of two groups of rows is made from their quantiles alone, so Spark passes over the
rows once, however many classes and features there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import ATTACKS, benign_labels, benign_of, class_names

# Midpoints of 40 equal slices of a group and its quartiles: enough to place a separation to about 0.03.
_SLICES = tuple((i + 0.5) / 40 for i in range(40))
_QUARTILES = (0.25, 0.5, 0.75)
_TAILS = (0.05, 0.95)
_ACCURACY = 2_000  # an approximate quantile is off by at most one row in this many
_MOST = 8
# A separation below this is what two samples of the same traffic can show.
_LEAST = 0.1
_NORMAL_IQR, _NORMAL_TAILS = 1.349, 3.290


@dataclass(frozen=True)
class _Group:
    """Quantiles of the features of one group of rows; a feature that is always null is left out."""

    rows: int
    quantiles: dict[str, np.ndarray]

    def slices(self, feature: str) -> np.ndarray:
        return self.quantiles[feature][: len(_SLICES)]

    def median(self, feature: str) -> float:
        return float(self.quantiles[feature][len(_SLICES) + 1])

    def spread(self, feature: str) -> float | None:
        """Standard deviation of the signed logarithm as the quartiles show it, or the tails if those agree."""
        logs = _signed_log(self.quantiles[feature])
        low, _, high, bottom, top = logs[len(_SLICES):]
        found = (high - low) / _NORMAL_IQR or (top - bottom) / _NORMAL_TAILS
        return float(found) if found > 1e-9 else None


def describe_attacks(flows: DataFrame, features: Sequence[str]) -> list[dict[str, Any]]:
    """What each attack looks like against the benign traffic of its protocol.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`; only those of the train split are read.
    features : sequence of str
        Feature columns to compare.

    Returns
    -------
    list of dict
        One entry an attack that has rows, in the order of `contract.attacks`, in plain values::

            {"attack": "DoS-SYN", "category": "DoS", "protocol": "wifi_mqtt", "sentence": "one host opens ...",
             "needed": "",
             "rows": 400, "benign": "Benign", "benign_rows": 1900,
             "features": [{"feature": "syn_fraction", "benign_median": 0.0, "attack_median": 0.97,
                           "effect": 4.1, "separation": 0.98, "direction": "higher"}, ...]}

        ``features`` holds at most eight, most telling first: by the size of ``separation``, then of
        ``effect``; a column that only repeats an earlier one is left out. It is empty when the protocol
        has no benign row.

    Notes
    -----
    ``separation`` is Cliff's delta (the rank-biserial correlation, twice the area under the ROC curve
    less one): the chance that a row of the attack is above a benign row less the chance that it is
    below; 1 and -1 mean that no rows overlap. It needs no scale, so a feature that benign traffic
    never moves can be compared as well. ``effect`` says how far: difference of the medians of
    ``sign(x) log(1 + |x|)`` in robust standard deviations of benign traffic (interquartile range
    / 1.349, or the 5 % to 95 % range / 3.290 where the quartiles agree); None where benign traffic has
    no spread at all. ``direction`` is the sign of ``separation``. A median of an even number of rows
    is the lower of the middle two, a value that occurs.
    """
    groups = _quantiles(flows.where(F.col("split") == "train"), ("attack",), features)
    described = []
    for attack in ATTACKS:
        group, benign = groups.get((attack.name,)), benign_of(attack.protocol)
        if attack == benign or group is None:
            continue
        reference = groups.get((benign.name,))
        described.append({
            "attack": attack.name, "category": attack.category, "protocol": attack.protocol,
            "sentence": attack.sentence, "needed": attack.needed, "rows": group.rows,
            "benign": benign.name, "benign_rows": reference.rows if reference else 0,
            "features": _most_telling(group, reference, features, "attack") if reference else [],
        })
    return described


def describe_devices(
    flows: DataFrame,
    features: Sequence[str],
    confusions: Mapping[str, Sequence[tuple[str | None, str, int, int, int]]],
) -> list[dict[str, Any]]:
    """What the profiling captures say of each device, and whom it alarms.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`. The profile split is described, against the benign rows of the train split.
    features : sequence of str
        Feature columns to compare.
    confusions : mapping of str to sequence of tuple
        ``{"<detector>-<task>-<feature set>": [(device, protocol, label, prediction, count), ...]}``,
        counts of the profile split, labels as indices of the task.

    Returns
    -------
    list of dict
        One entry a protocol and device, Wi-Fi first, then by name, in plain values::

            {"device": "Powerlabs_HR_Monitor", "protocol": "bluetooth", "rows": 138,
             "reference": "Bluetooth-Benign", "reference_rows": 900,
             "features": [{"feature": "length_mean_bytes", "reference_median": 31.0, "device_median": 44.0,
                           "effect": 1.2, "separation": 0.7, "direction": "higher"}, ...],
             "false_alarms": {"random_forest-attack-leak_free": {"rows": 138, "alarms": 3, "rate": 0.0217,
                              "taken_for": [{"class": "Bluetooth-DoS", "count": 3, "share": 0.0217}]}}}

        ``reference`` is the benign class of the protocol, or None (and ``features`` empty) when it
        has no train row. ``rate`` is None when a model saw no row. A profiling capture holds no
        attack, so every verdict other than a benign class is a false alarm. A device without a
        name is called ``"unnamed"``.
    """
    named = flows.withColumn("device", F.coalesce(F.col("device"), F.lit("unnamed")))
    kept = named.where((F.col("split") == "profile") | ((F.col("split") == "train") & (F.col("category") == "Benign")))
    groups = _quantiles(kept, ("split", "protocol", "device"), features)
    described = []
    for (split, protocol, device), group in sorted(groups.items(), key=lambda g: (g[0][1] == "bluetooth", g[0][2])):
        if split != "profile":
            continue
        reference = groups.get(("train", protocol, "unnamed"))
        described.append({
            "device": device, "protocol": protocol, "rows": group.rows,
            "reference": benign_of(protocol).name if reference else None,
            "reference_rows": reference.rows if reference else 0,
            "features": _most_telling(group, reference, features, "device") if reference else [],
            "false_alarms": {
                model: _false_alarms(model, counts, device, protocol) for model, counts in sorted(confusions.items())
            },
        })
    return described


def mistaken_for(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The classes that the rows of each class are wrongly predicted as, most frequent first.

    Parameters
    ----------
    confusion : sequence of sequence of int, shape (n, n)
        Counts of flows; row is the true class, column the predicted one.
    classes : sequence of str
        Their n names.

    Returns
    -------
    dict of str to list of dict
        ``{"class", "count", "share"}`` with the share of the true class's rows; an absent class has an empty list.

    Examples
    --------
    >>> mistaken_for([[8, 2], [0, 5]], ["Benign", "Attack"])
    {'Benign': [{'class': 'Attack', 'count': 2, 'share': 0.2}], 'Attack': []}
    """
    mistakes = {}
    for true, row in enumerate(confusion):
        total = sum(row)
        wrong = [(int(count), column) for column, count in enumerate(row) if column != true and count]
        mistakes[classes[true]] = [
            {"class": classes[column], "count": count, "share": count / total}
            for count, column in sorted(wrong, key=lambda w: (-w[0], w[1]))
        ]
    return mistakes


def _quantiles(flows: DataFrame, keys: tuple[str, ...], features: Sequence[str]) -> dict[tuple[str, ...], _Group]:
    wanted = F.array(*[F.lit(float(p)) for p in (*_SLICES, *_QUARTILES, *_TAILS)])
    measures = [F.percentile_approx(F.col(name), wanted, F.lit(_ACCURACY)).alias(name) for name in features]
    rows = flows.groupBy(*keys).agg(F.count(F.lit(1)).alias("n_rows"), *measures).collect()
    return {
        tuple(row[k] for k in keys): _Group(
            int(row["n_rows"]), {name: np.array(row[name]) for name in features if row[name] is not None}
        )
        for row in rows
    }


def _signed_log(values: np.ndarray) -> np.ndarray:
    # Monotone, so the logarithm of a quantile is the quantile of the logarithm.
    return np.sign(values) * np.log1p(np.abs(values))


def _most_telling(group: _Group, reference: _Group, features: Sequence[str], noun: str) -> list[dict[str, Any]]:
    """The features that differ most; `noun` names the group's median, the reference is benign or so called."""
    other = "benign" if noun == "attack" else "reference"
    found: list[dict[str, Any]] = []
    for name in features:
        if name not in group.quantiles or name not in reference.quantiles:
            continue
        separation = float(np.sign(group.slices(name)[:, None] - reference.slices(name)[None, :]).mean())
        if abs(separation) < _LEAST or _twins(name, [f["feature"] for f in found], group, reference):
            continue
        medians = np.array([group.median(name), reference.median(name)])
        shift, spread = float(np.subtract(*_signed_log(medians))), reference.spread(name)
        found.append({
            "feature": name, f"{other}_median": float(medians[1]), f"{noun}_median": float(medians[0]),
            "effect": shift / spread if spread else None, "separation": separation,
            "direction": "higher" if separation > 0 else "lower",
        })
    found.sort(key=lambda f: (-round(abs(f["separation"]), 2), -_size(f["effect"])))
    return found[:_MOST]


def _size(effect: float | None) -> float:
    # A move away from what never moves is larger than any that can be measured.
    return float("inf") if effect is None else abs(effect)


def _twins(name: str, others: Sequence[str], *groups: _Group) -> bool:
    """Whether one of the others has the same quantiles in all groups, as the source writes some columns twice."""
    return any(all(np.array_equal(g.quantiles[name], g.quantiles[o]) for g in groups) for o in others)


def _false_alarms(
    model: str, counts: Sequence[tuple[str | None, str, int, int, int]], device: str, protocol: str
) -> dict[str, Any]:
    task = model.split("-")[1]
    names, benign = class_names(task), benign_labels(task)
    seen: dict[int, int] = {}
    for its_device, its_protocol, _, prediction, count in counts:
        if (its_device or "unnamed", its_protocol) == (device, protocol):
            seen[prediction] = seen.get(prediction, 0) + int(count)
    rows = sum(seen.values())
    alarms = sorted(((n, label) for label, n in seen.items() if label not in benign and n), key=lambda a: (-a[0], a[1]))
    total = sum(n for n, _ in alarms)
    return {
        "rows": rows, "alarms": total, "rate": total / rows if rows else None,
        "taken_for": [{"class": names[label], "count": n, "share": n / rows} for n, label in alarms],
    }
