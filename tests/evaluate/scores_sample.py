"""A `scores.json` as a run writes it, with made-up but consistent numbers."""

from __future__ import annotations

import copy
import functools
import random
from typing import Any

from iomt_ids.contract.attacks import ATTACKS, TASKS, benign_labels, class_names
from iomt_ids.contract.flows import feature_names
from tests.evaluate.simulated import counted, described, simulated, told_by_level

DETECTORS = ("random_forest", "gradient_boosted", "dense_net", "decision_tree", "logistic_regression")
_SKILL = {
    "random_forest": 0.90,
    "gradient_boosted": 0.89,
    "dense_net": 0.86,
    "decision_tree": 0.80,
    "logistic_regression": 0.68,
}


def sample_scores(
    detectors: tuple[str, ...] = DETECTORS,
    *,
    devices: tuple[str, ...] = ("Ecobee_Camera", "Powerlabs_HR_Monitor"),
    synthetic: bool = True,
    all_features: tuple[str, ...] = ("random_forest",),
) -> dict[str, Any]:
    """Every detector on every task; those of `all_features` also with the leaks."""
    dice = random.Random(7)
    scores, models = [], {}
    for detector in detectors:
        for task in TASKS:
            for features in ("leak_free", "all"):
                if features == "all" and detector not in all_features:
                    continue
                skill = min(
                    0.995,
                    _SKILL.get(detector, 0.8) + (0.06 if features == "all" else 0) + (0.06 if task == "binary" else 0),
                )
                confusion = sample_confusion(task, skill, dice)
                models[f"{detector}-{task}-{features}"] = _model(detector, features, dice)
                for split, scope in (("test", "all"), ("test", "wifi_mqtt"), ("test", "bluetooth"), ("profile", "all")):
                    scoped = _scoped(confusion, task, split, scope)
                    scores.append(_score(detector, task, features, split, scope, scoped))
                    # As if each row had been there five times.
                    fewer = [[n // 5 for n in row] for row in scoped]
                    scores.append(_score(detector, task, features, split, scope, fewer) | {"counted": "distinct"})
    return {
        "run": {
            "id": "20261124-021500-5c1e",
            "job": "retrain",
            "started": "2026-11-24T02:15:00+00:00",
            "seconds": 213.4,
            "versions": {"iomt_ids": "0.1.0", "python": "3.11.7", "pyspark": "4.2.0"},
            "config": {"seed": 1, "features": {"set": "leak_free"}, "train": {"tasks": ["binary", "attack"]}},
        },
        "data": {
            "name": "demo",
            "raw": "out/demo/raw",
            "synthetic": synthetic,
            "note": "made with seed 1",
            "release": "v1",
            "tables": {"gold.features": 3, "silver.flows": 2},
            "rows": {
                split: {a.name: n + 10 * a.id for a in ATTACKS}
                for split, n in (("train", 900), ("validation", 90), ("test", 200))
            }
            | {"profile": {"Benign": 1200, "Bluetooth-Benign": 138}},
        },
        "scores": scores,
        "operating": [_operating(*name.split("-")) for name in models],
        "hierarchy": [_hierarchy(name) for name in models if "-attack-" in name],
        "models": models,
        "insight": {
            "attacks": [_attack(a, dice) for a in ATTACKS if a.category != "Benign"],
            "devices": [_device(d, i, models, dice) for i, d in enumerate(devices)],
        },
        "leaks": {
            "captures": 12,
            "rows": 15_000,
            "features": [
                _judged("iat_epoch_s", "quarantine", dated=10, factors=[10.0, 20.0], first="2023-08-28", last="2023-09-14"),
                _judged("buffer_packets", "quarantine", periodic=6, constant=4, lag=2, levels=[[5.5, 13.5], [9.5]]),
                _judged("weight", "quarantine", gridded=["Benign"], free=["DoS-SYN", "DoS-UDP"], decimals=2),
                _judged("flow_header_bytes", "ablate", ordered=1, restarts=1, rho=0.93),
                _judged("ttl_mean", "keep"),
            ],
            "files": [
                {
                    "class": "DoS-SYN", "files": 4, "rows": 120, "accuracy": 0.91, "chance": 0.25, "kept_accuracy": 0.27,
                    "told": True, "kept_told": False,
                }
            ],
            "not_testable": ["Benign", "ARP_Spoofing"],
        },
        "splits": {
            "in_force": "official", "near": "equal in every leak-free column when rounded to 3 significant digits",
            "schemes": [_split(name, text) for name, text in (
                ("official", "official"), ("group", "group, test 0.2, salt s"), ("time", "time, test 0.2, gap 19"),
                ("random", "random, test 0.2, salt s"),
            )],
        },
        "ledger": _ledger(scores),
        "time_to_detect": [_times(*name.split("-")) for name in models],
        "duplicates": [
            {
                "features": features, "precision": precision, "columns": columns,
                "ceiling": {"task": "attack", "accuracy": 0.998, "f1_macro": 0.987},
                "classes": [{
                    "class": "DoS-SYN", "rows": 1200, "distinct": 1000, "within_files": 150, "across_files": 50, "test_rows": 300,
                    "test_rows_learnt_from": 20, "under_another_label": 0,
                }],
            }
            for features, precision, columns in (("leak_free", "double", 42), ("all", "double", 45), ("all", "float", 45))
        ],
    }


def _split(scheme: str, text: str) -> dict[str, Any]:
    counted = {"train": 900, "test": 0 if scheme == "time" else 200, "aside": 0, "exact": 31, "exact_same_label": 30, "near": 45,
               "near_same_label": 41, "disputed": 7}
    return {
        "scheme": scheme, "text": text, "gap_rows": 19 if scheme == "time" else 0, "not_splittable": ["Benign"],
        "adjoining": ["Benign"],
        "classes": [{"class": "Benign", "captures": 1, **counted}, {"class": "DoS-SYN", "captures": 5, **counted}],
        "ceiling": {t: {"accuracy": 0.9912, "f1_macro": 0.9834, "f1_macro_reached": 0.98} for t in TASKS},
    }


def _ledger(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Every test score; the forest is better than the decision tree, nobody else than anybody; one row of another run."""
    rows = []
    for s in scores:
        if (s["split"], s["scope"]) != ("test", "all"):
            continue
        others = [d for d in DETECTORS if d != s["detector"]] if s["features"] == "leak_free" else []
        better = ["decision_tree"] if s["detector"] == "random_forest" and others else []
        f1 = s["f1_macro"]
        kept = ("detector", "task", "features", "counted", "rows", "f1_macro", "f1_macro_low", "f1_macro_high", "f1_weighted")
        numbers = {k: s[k] for k in kept}
        rows.append(numbers | {
            "run": "20261124-021500-5c1e", "model": f"{s['detector']}-{s['task']}-{s['features']}", "scheme": "official",
            "split_scheme": "official",
            "f1_weighted_low": s["f1_weighted"] - 0.01, "f1_weighted_high": s["f1_weighted"] + 0.01,
            "f1_macro_captures_low": f1 - 0.02 if s["task"] == "attack" else None,
            "f1_macro_captures_high": f1 + 0.02 if s["task"] == "attack" else None, "several_captures": ["DDoS-UDP"],
            "uncertain": [{"class": "Recon-VulScan", "rows": 60, "recall": 0.5, "low": 0.368, "high": 0.632}],
            "better_than": better, "not_ranked_with": [d for d in others if d not in better],
        })
    other = {**rows[0], "run": "20261123-1", "scheme": "random", "split_scheme": "random, test 0.2, salt s"}
    pair = {
        "task": "attack", "features": "leak_free", "first": "random_forest", "second": "decision_tree", "first_only_rows": 90,
        "second_only_rows": 20, "first_only_distinct": 80, "second_only_distinct": 19, "p": 1e-9, "p_holm": 2e-9, "differ": True,
    }
    return {"rows": [*rows, other], "pairs": [pair, {**pair, "second": "dense_net", "p": 0.2, "p_holm": 0.2, "differ": False}]}


def _times(detector: str, task: str, features: str) -> dict[str, Any]:
    benign = {"share": 0.0123, "stretches": 400}
    wait = {"first": [3, 1], "first_packets": [30.0, 10.0], "median": 2, "most": None, "benign": benign}
    never = {"first": [None], "first_packets": [None], "median": None, "most": None, "benign": None}
    return {
        "model": f"{detector}-{task}-{features}", "detector": detector, "task": task, "features": features, "threshold": 0.75,
        "false_alarms_per_million": 1000, "stable_windows": 3, "scrambled": 1 if detector == "dense_net" else 0,
        "attacks": [
            {"attack": "DDoS-UDP", "captures": 2, "windows": 350, "packets_per_window": 10.0, "alert": wait, "stable": wait},
            {"attack": "ARP_Spoofing", "captures": 1, "windows": 75, "packets_per_window": None, "alert": wait, "stable": never},
        ],
    }


def _operating(detector: str, task: str, features: str) -> dict[str, Any]:
    """Of a simulated detector; those of a task and feature set are the same for all detectors."""
    entry = copy.deepcopy(_simulated_entry(task, features))
    return entry | {"model": f"{detector}-{task}-{features}", "detector": detector}


def _hierarchy(model: str) -> dict[str, Any]:
    detector, _, features = model.split("-")
    return copy.deepcopy(_simulated_levels(features)) | {"model": model, "detector": detector}


@functools.cache
def _simulated_levels(features: str) -> dict[str, Any]:
    return told_by_level("attack", simulated("attack", 3000, seed=6), error=0.1, features=features)


@functools.cache
def _simulated_entry(task: str, features: str) -> dict[str, Any]:
    rows = simulated(task, 3000, seed=len(task), sharpness=2.0 if features == "all" else 0.7)
    return described(task, counted(task, rows), budget=10_000, features=features)


def _judged(feature: str, verdict: str, **seen: Any) -> dict[str, Any]:
    """A feature's verdict as `describe_leaks` gives it; `seen` overrides any number of its evidence."""
    clock = {"captures": 10, "dated": 0, "factors": [], "first": None, "last": None, "indexed": 0, "ordered": 0, "restarts": 0}
    window = {"captures": 10, "periodic": 0, "constant": 0, "lag": None, "levels": [], "is_rule": False}
    rounding: dict[str, Any] = {"gridded": [], "free": [], "decimals": None}
    value = {"f1_macro": 0.5, "told": 3, "pairs": 45, "best": ["Benign", "DoS-SYN"], "best_accuracy": 0.99}
    parts: dict[str, dict[str, Any]] = {
        "clock": clock | {"rho": 0.1}, "window": window, "rounding": rounding, "value": value,
    }
    filled = {name: {k: seen.get(k, v) for k, v in part.items()} for name, part in parts.items()}
    return {"feature": feature, "verdict": verdict, "protocol": "wifi_mqtt", "sentence": f"why {feature} is {verdict}", **filled}


def sample_confusion(task: str, skill: float, dice: random.Random) -> list[list[int]]:
    """Rows fall on the diagonal with probability `skill`, else on neighbours; class 2 of the attack task is absent."""
    n = len(class_names(task))
    matrix = []
    for true in range(n):
        total = 0 if (task, true) == ("attack", 2) else dice.randrange(200, 2000)
        row = [0] * n
        for _ in range(total):
            row[true if dice.random() < skill else max(0, min(n - 1, true + dice.choice((-2, -1, 1, 1, 3))))] += 1
        matrix.append(row)
    return matrix


def _scoped(confusion: list[list[int]], task: str, split: str, scope: str) -> list[list[int]]:
    if split == "profile":
        benign = benign_labels(task)
        return [[c // 10 for c in row] if i in benign else [0] * len(row) for i, row in enumerate(confusion)]
    if scope == "all":
        return confusion
    if task == "attack":
        return [row if ATTACKS[i].protocol == scope else [0] * len(row) for i, row in enumerate(confusion)]
    share = 9 if scope == "wifi_mqtt" else 1
    return [[c * share // 10 for c in row] for row in confusion]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _score(
    detector: str, task: str, features: str, split: str, scope: str, confusion: list[list[int]]
) -> dict[str, Any]:
    names, benign = class_names(task), benign_labels(task)
    rows, per_class = sum(map(sum, confusion)), {}
    for i, name in enumerate(names):
        hit, support, said = confusion[i][i], sum(confusion[i]), sum(row[i] for row in confusion)
        recall, precision = _ratio(hit, support), _ratio(hit, said)
        f1 = _ratio(2 * hit, support + said) if support and said else None
        per_class[name] = {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": support,
            "false_alarm_rate": _ratio(said - hit, rows - support),
        }
    mean = {
        m: _ratio(
            sum(c[m] for c in per_class.values() if c[m] is not None and c["support"]),
            sum(c[m] is not None and c["support"] > 0 for c in per_class.values()),
        )
        for m in ("precision", "recall", "f1")
    }
    weighted = {
        m: _ratio(sum((c[m] or 0) * c["support"] for c in per_class.values()), rows)
        for m in ("precision", "recall", "f1")
    }
    quiet = sum(confusion[i][j] for i in benign for j in benign)
    return {
        "detector": detector,
        "task": task,
        "features": features,
        "split": split,
        "scope": scope,
        "counted": "rows",
        "rows": rows,
        "accuracy": _ratio(sum(confusion[i][i] for i in range(len(names))), rows),
        **{f"{m}_macro": mean[m] for m in mean},
        **{f"{m}_weighted": weighted[m] for m in weighted},
        "f1_macro_low": None if mean["f1"] is None else mean["f1"] - 0.0071,
        "f1_macro_high": None if mean["f1"] is None else mean["f1"] + 0.0062,
        "mcc": None if mean["f1"] is None else mean["f1"] - 0.01,
        "false_alarm_rate": _ratio(
            sum(sum(confusion[i]) for i in benign) - quiet, sum(sum(confusion[i]) for i in benign)
        ),
        "per_class": per_class,
        "classes": list(names),
        "confusion": confusion,
        "train_seconds": 12.34,
        "score_seconds": 1.5,
    }


def _model(detector: str, features: str, dice: random.Random) -> dict[str, Any]:
    names = feature_names("v1", features)
    shares = [dice.random() ** 6 for _ in names]
    curve = [
        {
            "epoch": e,
            "train_loss": 2.1 / e + 0.21,
            "validation_loss": 2.0 / e + 0.28 + 0.004 * e,
            "validation_accuracy": 0.9 - 0.6 / e,
        }
        for e in range(1, 31)
    ]
    return {
        "importances": None
        if detector == "dense_net"
        else {n: s / sum(shares) for n, s in zip(names, shares, strict=True)},
        "curves": curve if detector == "dense_net" else [],
        "facts": {"trees": 60} if "forest" in detector else {"ranks": 2},
    }


def _movement(names: tuple[str, ...], noun: str, other: str, dice: random.Random) -> list[dict[str, Any]]:
    found = []
    for i, name in enumerate(dice.sample(names, 6)):
        separation = dice.choice((-1, 1)) * (0.99 - 0.1 * i)
        found.append(
            {
                "feature": name,
                f"{other}_median": dice.random() * 100,
                f"{noun}_median": dice.random() * 40000,
                "effect": None if i == 1 else separation * 4,
                "separation": separation,
                "direction": "higher" if separation > 0 else "lower",
            }
        )
    return found


def _attack(attack: Any, dice: random.Random) -> dict[str, Any]:
    return {
        "attack": attack.name,
        "category": attack.category,
        "protocol": attack.protocol,
        "sentence": attack.sentence, "needed": attack.needed,
        "rows": 900 + 10 * attack.id,
        "benign": "Benign",
        "benign_rows": 900,
        "features": _movement(feature_names("v1", "leak_free")[:24], "attack", "benign", dice),
    }


def _device(name: str, place: int, models: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    alarms = {
        m: {
            "rows": 600,
            "alarms": k,
            "rate": k / 600,
            "taken_for": [{"class": "ARP_Spoofing", "count": k, "share": k / 600}] if k else [],
        }
        for m, k in ((m, dice.randrange(0, 30)) for m in models)
    }
    return {
        "device": name,
        "protocol": "bluetooth" if place % 2 else "wifi_mqtt",
        "rows": 600,
        "reference": "Benign",
        "reference_rows": 900,
        "features": _movement(feature_names("v1", "leak_free"), "device", "reference", dice),
        "false_alarms": alarms,
    }
