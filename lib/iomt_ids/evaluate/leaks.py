"""Which features name the class by how the data was made, found from the rows themselves.

Nothing here reads what `contract.flows` says of leaks: a test compares the two. Rows of the test
split are not looked at, so a verdict owes nothing to what detectors are scored on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.flows import feature_names
from iomt_ids.evaluate.artefacts import DRIFT, clock_evidence, places_of, rounding_evidence, window_evidence
from iomt_ids.evaluate.captures import Capture, bin_edges, count_gathered, count_values, gather_captures

VERDICTS = ("quarantine", "ablate", "keep")
# Two classes are told apart if one feature alone is right on 19 rows of 20.
_TOLD = 0.95
# One capture may be odd by chance; a rule of the recording holds in half of those it can be seen in, in two at least.
_MOST, _LEAST = 0.5, 2
# A file is told if the model is right on half of what guessing misses, and by three standard errors more than
# guessing. Less is what counters and drift do: validation rows lie between train rows of the same stretch of traffic.
_SURE, _HALF = 3.0, 0.5
_FILE_BINS = 8


def describe_leaks(flows: DataFrame) -> dict[str, Any]:
    """The ``leaks`` of `scores.json`: a verdict on every feature, with its evidence.

    Parameters
    ----------
    flows : DataFrame
        Rows of `gold.features`, of one release. Three passes at most are made over those outside the test split.

    Returns
    -------
    dict
        Plain values::

            {"captures": 13, "rows": 17000, "features": [
                {"feature": "buffer_packets", "verdict": "quarantine", "protocol": "wifi_mqtt",
                 "sentence": "is set by how the capture was cut ...",
                 "value": {"f1_macro": 0.2, "told": 12, "pairs": 45, "best": ["A", "B"], "best_accuracy": 1.0},
                 "clock": {...}, "window": {...}, "rounding": {...}}, ...],
             "files": [{"class": "DoS-UDP", "files": 4, "rows": 300, "accuracy": 0.4, "chance": 0.25,
                        "kept_accuracy": 0.3, "told": True, "kept_told": False}, ...],
             "not_testable": ["ARP_Spoofing", ...]}

        The keys of ``clock``, ``window`` and ``rounding`` are those of `evaluate.artefacts`, of the protocol
        where the evidence is strongest. ``value`` is None without validation rows. Without rows, or without
        rows outside the test split, everything is empty.
    """
    seen = flows.where(F.col("split") != "test")
    first = seen.select("release").first()
    features = feature_names(first["release"], "all") if first else ()
    captures, is_whole = gather_captures(seen, features) if first else ([], True)
    learnt = [c for c in captures if not c.is_profile]
    labels = {name: i for i, name in enumerate(sorted({c.attack for c in learnt}))}
    edges = bin_edges(learnt, len(features))
    if is_whole:
        counts = count_gathered(learnt, edges, labels)
    else:
        counts = count_values(seen.where(F.col("split") != "profile"), features, edges, labels)
    protocols = {c.attack: c.protocol for c in learnt}
    values = [value_evidence(of_feature, list(labels), protocols) for of_feature in counts]
    return judge_features(captures, features, values)


def judge_features(
    captures: Sequence[Capture], features: Sequence[str], values: Sequence[dict[str, Any] | None]
) -> dict[str, Any]:
    """Verdicts on features, and what files give away, from what was gathered.

    Parameters
    ----------
    captures : sequence of Capture
        Without rows of the test split.
    features : sequence of str
        Names of the columns of `Capture.values`.
    values : sequence of dict or None
        Of `value_evidence`, one a feature.

    Returns
    -------
    dict
        As `describe_leaks` says.
    """
    found = []
    for i, name in enumerate(features):
        found.append({"feature": name, **_judge(captures, i), "value": values[i]})
    found.sort(key=lambda f: VERDICTS.index(f["verdict"]))
    kept = [i for i, name in enumerate(features) if any(f["feature"] == name and f["verdict"] == "keep" for f in found)]
    files, untestable = file_evidence([c for c in captures if not c.is_profile], kept)
    return {"captures": len(captures), "rows": sum(len(c.lines) for c in captures), "features": found,
            "files": files, "not_testable": untestable}


def _judge(captures: Sequence[Capture], feature: int) -> dict[str, Any]:
    """The gravest verdict of the protocols."""
    found = []
    for protocol in dict.fromkeys(c.protocol for c in captures):
        places = places_of([c for c in captures if c.protocol == protocol], feature)
        evidence = {"clock": clock_evidence(places), "window": window_evidence(places), "rounding": rounding_evidence(places)}
        verdict, sentence = _verdict(**evidence)
        found.append({"verdict": verdict, "protocol": protocol, "sentence": sentence, **evidence})
    return min(found, key=lambda f: (VERDICTS.index(f["verdict"]), -f["clock"]["captures"]))


def _verdict(clock: Mapping[str, Any], window: Mapping[str, Any], rounding: Mapping[str, Any]) -> tuple[str, str]:
    """One word, and one sentence in plain words."""
    seen, ordered = clock["captures"], clock["ordered"]
    if _mostly(clock["dated"], seen):
        return "quarantine", (f"holds the clock: in {clock['dated']} of {seen} captures it reads as seconds since 1970, "
                              f"from {clock['first']} to {clock['last']}")
    if _mostly(clock["indexed"], seen):
        return "quarantine", f"counts rows: in {clock['indexed']} of {seen} captures it takes the same step from row to row"
    if _mostly(ordered, seen) and clock["restarts"] < _MOST * ordered:
        return "quarantine", f"runs with the clock: it puts {ordered} of {seen} captures in order and does not start over in each"
    if window["is_rule"]:
        return "quarantine", (f"is set by how captures were cut into rows: it recurs by rule in {window['periodic']} and stands "
                              f"still in {window['constant']} of {window['captures']} captures, at values that differ by class")
    if rounding["gridded"]:
        return "quarantine", (f"is rounded in some classes only: {len(rounding['gridded'])} need at most {rounding['decimals']} "
                              f"decimals, {len(rounding['free'])} more than any grid")
    if ordered:
        return "ablate", (f"follows the order of capture in {ordered} of {seen} captures, as a counter or a rate of a long flow "
                          "does; traffic explains it, but compare scores without it")
    if abs(clock["rho"]) >= DRIFT:
        return "ablate", (f"drifts with the time of capture (rank correlation {clock['rho']:+.2f} at most), as counters of a flow "
                          "do; traffic explains it, but compare scores without it")
    if window["periodic"]:
        return "ablate", (f"recurs by rule in {window['periodic']} of {window['captures']} captures, as repetitive traffic can, "
                          "but not in the others")
    return "keep", "shows no trace of the recording" if seen else "never varies in a capture long enough to look at"


def _mostly(part: int, whole: int) -> bool:
    return part >= max(_LEAST, _MOST * whole)


def value_evidence(counts: np.ndarray, classes: Sequence[str], protocols: Mapping[str, str]) -> dict[str, Any] | None:
    """How well a feature alone tells the classes: learnt from train rows, scored on validation rows.

    A row is given to the class with the largest share of its train rows in the row's bin, so a rare class
    counts as much as a flood; that is a tree of at most `captures.BINS` leaves whose cuts are quantiles.

    Parameters
    ----------
    counts : ndarray of int64, shape (2, n_classes, BINS + 1)
        Of `count_values`.
    classes : sequence of str
        Their names.
    protocols : mapping of str to str
        Only classes of one protocol are compared in pairs.

    Returns
    -------
    dict or None
        ``f1_macro`` over the classes that have validation rows; ``told``, of ``pairs``, with a balanced
        accuracy of at least 0.95; ``best`` and ``best_accuracy`` of a pair. None without validation rows.
    """
    learnt, held_out = (side / np.maximum(side.sum(axis=1, keepdims=True), 1) for side in counts)
    if not held_out.any():
        return None
    predicted = learnt.argmax(axis=0)
    confusion = np.stack([counts[1][:, predicted == c].sum(axis=1) for c in range(len(classes))], axis=1)
    support = confusion.sum(axis=1)
    f1 = 2 * np.diag(confusion) / np.maximum(support + confusion.sum(axis=0), 1)
    pairs = []
    for i, one in enumerate(classes):
        for j in range(i + 1, len(classes)):
            if support[i] and support[j] and protocols[one] == protocols[classes[j]]:
                wins = 0.5 + 0.5 * np.sign(learnt[i] - learnt[j])
                pairs.append((float(held_out[i] @ wins + held_out[j] @ (1 - wins)) / 2, one, classes[j]))
    best = max(pairs, default=None)
    return {
        "f1_macro": float(f1[support > 0].mean()), "told": sum(p[0] >= _TOLD for p in pairs), "pairs": len(pairs),
        "best": list(best[1:]) if best else None, "best_accuracy": best[0] if best else None,
    }


def file_evidence(captures: Sequence[Capture], kept: Sequence[int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Whether the features tell the file within a class, with all of them and with those that are kept.

    Naive Bayes on eight quantile bins a feature, from the train rows gathered, scored on the validation rows.

    Parameters
    ----------
    captures : sequence of Capture
        Without those of single devices, which are meant to differ.
    kept : sequence of int
        Places of the features with the verdict keep.

    Returns
    -------
    list of dict
        One a class with several files; see `describe_leaks`.
    list of str
        Classes with a single file, or too few validation rows: not testable.
    """
    by_class: dict[str, list[Capture]] = {}
    for capture in captures:
        by_class.setdefault(capture.attack, []).append(capture)
    found, untestable = [], []
    for name, parts in sorted(by_class.items()):
        parts = [p for p in parts if p.held_out.any() and not p.held_out.all()]
        if len(parts) < 2:
            untestable.append(name)
            continue
        rows, chance = int(sum(p.held_out.sum() for p in parts)), 1 / len(parts)
        every = list(range(parts[0].values.shape[1]))
        accuracy, kept_accuracy = (_tell_files(parts, columns) for columns in (every, kept))
        sure = chance + max(_HALF * (1 - chance), _SURE * (chance * (1 - chance) / rows) ** 0.5)
        found.append({"class": name, "files": len(parts), "rows": rows, "accuracy": accuracy, "chance": chance,
                      "kept_accuracy": kept_accuracy, "told": accuracy > sure, "kept_told": kept_accuracy > sure})
    return found, untestable


def _tell_files(parts: Sequence[Capture], columns: Sequence[int]) -> float:
    """Balanced accuracy on validation rows."""
    pooled = np.concatenate([p.values[~p.held_out] for p in parts])
    scores = [np.zeros((int(p.held_out.sum()), len(parts))) for p in parts]
    for column in columns:
        cuts = np.unique(np.nanquantile(pooled[:, column], np.linspace(0, 1, _FILE_BINS + 1)[1:-1], method="lower"))
        bins = [np.searchsorted(cuts, p.values[:, column], side="right") for p in parts]
        shares = np.stack([np.bincount(b[~p.held_out], minlength=len(cuts) + 1) + 1.0 for b, p in zip(bins, parts, strict=True)])
        logs = np.log(shares / shares.sum(axis=1, keepdims=True))
        for score, b, p in zip(scores, bins, parts, strict=True):
            score += logs[:, b[p.held_out]].T
    return float(np.mean([(score.argmax(axis=1) == i).mean() for i, score in enumerate(scores)]))
