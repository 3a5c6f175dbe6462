"""Verdicts as deep as a model is sure, as a reader meets them: one row a model, and what becomes of each attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from iomt_ids.evaluate.curve_charts import coverage_chart

_Entry = Mapping[str, Any]


def hierarchy_section(entries: Sequence[_Entry], name_of: Callable[[str], str]) -> dict[str, Any]:
    """What the report's section on sure verdicts shows.

    Parameters
    ----------
    entries : sequence of mapping
        The ``hierarchy`` of `scores.json`; may be empty.
    name_of : callable
        From a model's name to that for readers.

    Returns
    -------
    dict
        ``error`` that thresholds allow and its ``confidence``; ``notes``, each sentence once, with the models it is about;
        ``levels``; ``models``, one a row of the table, with its chart and its attacks.
    """
    said: dict[str, list[str]] = {}
    for e in entries:
        for note in e["notes"]:
            said.setdefault(note, []).append(name_of(e["model"]))
    return {
        "error": entries[0]["error"] if entries else None, "confidence": entries[0]["confidence"] if entries else None,
        "notes": said, "levels": [level["level"] for level in entries[0]["levels"]] if entries else [],
        "models": [{"entry": e, "name": name_of(e["model"]), "chart": _chart(e, name_of(e["model"]))} for e in entries],
    }


def _chart(entry: _Entry, name: str) -> Markup | None:
    curves = {
        f"{level}: mean error over all coverages {curve['area']:.5f}": (curve["coverage"], curve["error"])
        for level, curve in entry["curves"].items()
    }
    return coverage_chart(f"Wrong answers by share of rows answered: {name}", curves) if curves else None
