"""Operating points as a reader meets them: one row a model, and a slider along the thresholds of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iomt_ids.evaluate.curve_charts import precision_recall_chart, reliability_chart, roc_chart, roc_place
from iomt_ids.evaluate.score_counts import UNSEEN

_NARROW = "\u202f"
_Entry = Mapping[str, Any]


def operating_section(entries: Sequence[_Entry], name_of: Callable[[str], str]) -> dict[str, Any]:
    """What the report's section on operating points shows.

    Parameters
    ----------
    entries : sequence of mapping
        The ``operating`` of `scores.json`; may be empty.
    name_of : callable
        From a model's name to that for readers.

    Returns
    -------
    dict
        ``budget``; ``notes``, each sentence once, with the models it is about; ``costs``, the matrix and its categories;
        ``models``, one a row of the table, with its charts and the points of its slider.
    """
    said: dict[str, list[str]] = {}
    for e in entries:
        for note in e["notes"]:
            said.setdefault(note, []).append(name_of(e["model"]))
    return {
        "budget": entries[0]["false_alarms_per_million"] if entries else None, "notes": said,
        "costs": entries[0]["cost"] if entries else None, "models": [_model(e, name_of(e["model"])) for e in entries],
    }


def _model(entry: _Entry, name: str) -> dict[str, Any]:
    sweep = entry["sweep"]
    # Without a threshold of its own the slider starts at a half, which is what the binary task's answers are.
    start = entry["point"]
    if start is None:
        thresholds = sweep["threshold"]
        start = next((i for i, t in enumerate(thresholds) if t is None or t >= 0.5), len(thresholds) - 1)
    return {
        "entry": entry, "name": name, "start": start, "points": slider_points(sweep),
        "columns": list(slider_columns(sweep).items()), "attacks": list(sweep["recall_by_attack"]),
        **_charts(entry, name, start),
    }


def slider_columns(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Name and unit of each number that the slider moves, but for the attacks one by one, which follow."""
    columns = {"threshold": "of the alarm score"}
    for split in UNSEEN:
        if f"false_alarms_{split}" in sweep:
            columns[f"false alarms, {split}"] = "in a million benign rows"
    if "recall" in sweep:
        columns["attacks found, test"] = "any alert"
    if "cost_per_thousand" in sweep:
        columns["cost, test"] = "of a thousand rows, in false alarms"
    return columns


def slider_points(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each threshold, what is told there, in the order of `slider_columns`, and where the ROC's dot is (px)."""
    points = []
    for i, threshold in enumerate(sweep["threshold"]):
        told = [score_text(threshold)]
        for split in UNSEEN:
            if f"false_alarms_{split}" in sweep:
                told.append(_with_interval(sweep, f"false_alarms_{split}", i, per_million))
        if "recall" in sweep:
            told.append(_with_interval(sweep, "recall", i, percent))
        if "cost_per_thousand" in sweep:
            told.append(f"{sweep['cost_per_thousand'][i]:.1f}")
        told += [percent(found[i]) for found in sweep["recall_by_attack"].values()]
        both = "recall" in sweep and "false_alarms_test" in sweep
        at = [round(v, 1) for v in roc_place(sweep["false_alarms_test"][i], sweep["recall"][i])] if both else None
        points.append({"told": told, "at": at})
    return points


def _with_interval(sweep: Mapping[str, Any], name: str, place: int, text: Any) -> str:
    if f"{name}_low" not in sweep:
        return text(sweep[name][place])
    return f"{text(sweep[name][place])} ({text(sweep[f'{name}_low'][place])} to {text(sweep[f'{name}_high'][place])})"


def score_text(threshold: float | None) -> str:
    """A threshold with as many digits as tell it from 0 and 1.

    Examples
    --------
    >>> score_text(0.25), score_text(0.99999), score_text(None)
    ('0.2500', '0.9999900', 'never')
    """
    if threshold is None:
        return "never"
    return f"{threshold:.{4 if 0.001 <= threshold <= 0.999 else 7}f}"


def per_million(rate: float) -> str:
    """A rate as a count in a million.

    Examples
    --------
    >>> per_million(0.00123)
    '1\\u202f230'
    """
    return f"{1e6 * rate:,.0f}".replace(",", _NARROW)


def percent(share: float) -> str:
    """A share in hundredths.

    Examples
    --------
    >>> percent(0.98765)
    '98.77 %'
    """
    return f"{100 * share:.2f} %"


def _charts(entry: _Entry, name: str, start: int) -> dict[str, Any]:
    sweep, bins = entry["sweep"], entry["calibration"]["reliability"]
    drawn = {c: e for c, e in entry["classes"].items() if "recall" in e}
    alarm = None
    if "recall" in sweep and "false_alarms_test" in sweep:
        alarm = (sweep["false_alarms_test"], sweep["recall"])
    told = {c: f"{c}: ROC AUC {e['roc_auc']:.4f}, average precision {e['average_precision']:.4f}" for c, e in drawn.items()}
    return {
        "roc": roc_chart(
            f"ROC of {name}", {told[c]: (e["false_positive_rate"], e["recall"]) for c, e in drawn.items()}, alarm, start
        ),
        "precision_recall": precision_recall_chart(
            f"Precision and recall of {name}", {told[c]: (e["recall"], e["precision"]) for c, e in drawn.items()}
        ),
        "reliability": reliability_chart(
            f"Reliability of {name}",
            *(([b["confidence"] for b in bins[when]], [b["accuracy"] for b in bins[when]]) for when in ("before", "after")),
        ),
    }
