"""The comparison of all detectors as plain text, for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from iomt_ids.contract.attacks import TASKS
from iomt_ids.contract.flows import FEATURE_SETS, SET_NAMES

_WIDTH = 119
_CELL = 15  # ".874 ±.012 .953"
_Group = tuple[str, tuple[str, ...]]


def comparison_table(scores: Mapping[str, Any]) -> str:
    """All detectors by task, leak-free and all-features scores side by side.

    Parameters
    ----------
    scores : mapping
        The content of ``scores.json``.

    Returns
    -------
    str
        Lines of at most 119 characters without a newline at the end. Macro-F1, the larger half of its
        95 % interval and accuracy on all rows of the test split; ``-`` where there is no such number.
        A task's all-features columns are left out when no detector has them.

    Examples
    --------
    >>> comparison_table({"data": {"name": "d", "synthetic": True}, "scores": []})
    'd, synthetic demo data: no detector was scored on the test split'
    """
    data = scores["data"]
    title = f"{data['name']}, synthetic demo data" if data["synthetic"] else str(data["name"])
    found = {
        (s["detector"], s["task"], s["features"]): s
        for s in scores["scores"] if (s["split"], s["scope"], s["counted"]) == ("test", "all", "rows")
    }
    if not found:
        return f"{title}: no detector was scored on the test split"
    detectors = list(dict.fromkeys(detector for detector, _, _ in found))
    groups = []
    for task in TASKS:
        sets = tuple(f for f in FEATURE_SETS if any((d, task, f) in found for d in detectors))
        if sets:
            groups.append((task, sets))
    name_width = max(8, *(len(d) for d in detectors))
    lines = [f"{title}: test split, macro-F1 ± 95 % interval, accuracy"]
    for block in _blocks(groups, name_width):
        lines += ["", *_heading(block, name_width), *_body(block, name_width, detectors, found)]
    return "\n".join(lines)


def _blocks(groups: Sequence[_Group], name_width: int) -> list[list[_Group]]:
    """As many tasks beside each other as the width holds."""
    blocks: list[list[_Group]] = [[]]
    used = name_width
    for task, sets in groups:
        width = 2 + len(sets) * (_CELL + 1) - 1
        if blocks[-1] and used + width > _WIDTH:
            blocks.append([])
            used = name_width
        blocks[-1].append((task, sets))
        used += width
    return blocks


def _heading(block: Sequence[_Group], name_width: int) -> list[str]:
    tasks = [f"{task:<{len(sets) * (_CELL + 1) - 1}}" for task, sets in block]
    sets_line = [" ".join(f"{SET_NAMES[s]:<{_CELL}}" for s in sets) for _, sets in block]
    units = [" ".join(f"{'F1':>4} {'±':>5} {'acc':>4}" for _ in sets) for _, sets in block]
    lines = ["  ".join(["".ljust(name_width), *tasks]), "  ".join(["".ljust(name_width), *sets_line]),
             "  ".join(["detector".ljust(name_width), *units])]
    lines = [line.rstrip() for line in lines]
    return [*lines, "-" * max(len(line) for line in lines)]


def _body(
    block: Sequence[_Group], name_width: int, detectors: Sequence[str], found: Mapping[tuple[str, str, str], Any]
) -> list[str]:
    lines = []
    for detector in detectors:
        parts = [" ".join(_cell(found.get((detector, task, s))) for s in sets) for task, sets in block]
        lines.append("  ".join([detector.ljust(name_width), *parts]).rstrip())
    return lines


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None or score["f1_macro"] is None:
        f1, half, accuracy = "-", "", _fraction(score["accuracy"]) if score else "-"
    else:
        low, high = score.get("f1_macro_low"), score.get("f1_macro_high")
        f1, accuracy = _fraction(score["f1_macro"]), _fraction(score["accuracy"])
        known = low is not None and high is not None
        half = "±" + _fraction(max(high - score["f1_macro"], score["f1_macro"] - low)) if known else "-"
    return f"{f1:>4} {half:>5} {accuracy:>4}"


def _fraction(value: float | None) -> str:
    """Three decimals without the zero in front, four characters wide."""
    if value is None:
        return "-"
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else f"{value:.2f}"


def operating_table(scores: Mapping[str, Any]) -> str:
    """What each detector raises and finds at its threshold, leak-free ones where there are any.

    Parameters
    ----------
    scores : mapping
        The content of ``scores.json``.

    Returns
    -------
    str
        Lines of at most 119 characters, the first one empty: false alarms in a million benign rows and attacks found, of
        the test split, with their exact 95 % intervals, and the expected calibration error before and after. Below it
        what has to be known of the thresholds, once each. An empty text if there are no operating points.
    """
    entries = scores.get("operating") or []
    entries = [e for e in entries if e["features"] == "leak_free"] or entries
    if not entries:
        return ""
    name_width = max(8, *(len(e["detector"]) for e in entries))
    lines = ["", f"at the threshold for {entries[0]['false_alarms_per_million']:,} false alarms in a million: test split"]
    lines.append(f"{'detector':<{name_width}}  {'task':<8} {'threshold':>9} {'false alarms (95 %)':>24} {'found (95 %)':>16} "
                 f"{'ECE':>4} after")
    lines.append("-" * len(lines[-1]))
    for e in entries:
        alarms, found, test = e["false_alarms"].get("test"), e["recall"], e["calibration"]["test"]
        cells = [
            "never" if alarms and e["threshold"] is None else _measured(e["threshold"], "{:.4f}", 1),
            _interval(alarms, "{:,.0f}", 1e6), _interval(found, "{:.3f}", 1),
        ]
        lines.append(f"{e['detector']:<{name_width}}  {e['task']:<8} {cells[0]:>9} {cells[1]:>24} {cells[2]:>16} "
                     f"{_fraction(test['ece_before']):>4} {_fraction(test['ece_after']):>5}")
    said = dict.fromkeys(note for e in entries for note in e["notes"])
    return "\n".join([*lines, *(line for note in said for line in textwrap.wrap(note, _WIDTH))])


def _measured(value: float | None, form: str, scale: float) -> str:
    return "-" if value is None else form.format(scale * value).removeprefix("0" if form == "{:.3f}" else "")


def _interval(share: Mapping[str, Any] | None, form: str, scale: float) -> str:
    if share is None:
        return "-"
    rate, low, high = (_measured(share[name], form, scale) for name in ("rate", "low", "high"))
    return f"{rate} ({low}-{high})"
