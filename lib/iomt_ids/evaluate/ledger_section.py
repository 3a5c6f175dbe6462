"""The ledger, the split audit and the times to detect as a reader meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iomt_ids.contract.flows import SET_NAMES
from iomt_ids.contract.splits import ASIDE

SCHEME_NAMES = {
    "official": "official", "group": "captures whole", "time": "end of each train capture",
    "random": "by chance, for comparison only",
}
_NO_RANKING = "no ranking"
_Row = Mapping[str, Any]


def ledger_section(ledger: Mapping[str, Any], run: str) -> dict[str, Any]:
    """What the report's ledger shows.

    Parameters
    ----------
    ledger : mapping
        The ``ledger`` of `scores.json`; may be empty.
    run : str
        Id of the run that the report is of; rows of others say so.

    Returns
    -------
    dict
        ``rows``, each with its ``standing``; ``pairs``; ``verdicts``, a sentence a task and feature set of this run;
        ``uncertain``, classes of few rows; ``runs``, others that rows are repeated from.
    """
    rows = [{**row, "standing": standing(row)} for row in ledger.get("rows", ())]
    own = [row for row in rows if row["run"] == run and row["counted"] == "rows"]
    return {
        "rows": rows, "pairs": ledger.get("pairs", []), "schemes": SCHEME_NAMES,
        "verdicts": [_verdict([r for r in own if (r["task"], r["features"]) == group])
                     for group in dict.fromkeys((r["task"], r["features"]) for r in own)],
        "uncertain": [(row, c) for row in own for c in row["uncertain"]],
        "runs": sorted({row["run"] for row in rows} - {run}),
    }


def standing(row: _Row) -> str:
    """Whom a detector may be called better than.

    Examples
    --------
    >>> standing({"better_than": [], "not_ranked_with": ["dense_net"]})
    'no ranking with dense net'
    >>> standing({"better_than": ["decision_tree"], "not_ranked_with": []}), standing({"better_than": [], "not_ranked_with": []})
    ('decision tree', '–')
    """
    if row["better_than"]:
        return _listed(row["better_than"])
    return f"{_NO_RANKING} with {_listed(row['not_ranked_with'])}" if row["not_ranked_with"] else "–"


def _verdict(rows: Sequence[_Row]) -> str:
    """One sentence on the detectors of a task and feature set."""
    place = f"{rows[0]['task']}, {SET_NAMES[rows[0]['features']]}"
    if len(rows) == 1:
        return f"{place}: {_listed([rows[0]['detector']])} alone."
    first = max(rows, key=lambda row: row["f1_macro"])
    if len(first["better_than"]) == len(rows) - 1:
        return f"{place}: {_listed([first['detector']])} is better than every other."
    level = [first["detector"], *first["not_ranked_with"]]
    return f"{place}: {_NO_RANKING} among {_listed(level)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def split_section(splits: Mapping[str, Any]) -> dict[str, Any]:
    """What the report's split audit shows; ``schemes`` with their name for readers, totals and notes."""
    shown = []
    for entry in splits.get("schemes", ()):
        classes = entry["classes"]
        shown.append({
            **entry, "name": SCHEME_NAMES[entry["scheme"]], "in_force": entry["text"] == splits["in_force"],
            "total": {name: sum(c[name] for c in classes) for name in ("train", "test", ASIDE, "exact", "near", "disputed")},
            "notes": _notes(entry),
        })
    return {"schemes": shown, "near": splits.get("near", "")}


def _notes(entry: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before believing a score under a scheme."""
    said = []
    without = [c["class"] for c in entry["classes"] if c["train"] and not c["test"]]
    if entry["scheme"] == "random":
        said.append("Neighbouring rows of every capture lie on both sides: a score under this cut says little of new traffic.")
    elif entry["adjoining"]:
        gap = f"{entry['gap_rows']} rows lie between" if entry["gap_rows"] else "no row lies between"
        said.append(f"Test rows go on where train rows of the same capture end, {gap}: {', '.join(entry['adjoining'])}.")
    if entry["scheme"] == "group" and entry["not_splittable"]:
        said.append(f"A single capture, so not group-splittable; cut as in the source: {', '.join(entry['not_splittable'])}.")
    if without:
        said.append(f"Too short for test rows: {', '.join(without)}.")
    return said


def time_section(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the report's times to detect show: one table a model, waits as text and as the number they sort by."""
    return [
        {**entry, "rows": [
            {**a, **{name: {**a[name], "text": wait_text(a[name])} for name in ("alert", "stable")}} for a in entry["attacks"]
        ]} for entry in entries
    ]


def wait_text(wait: Mapping[str, Any]) -> str:
    """Windows from the start of each capture, the fastest and the slowest if they differ.

    Examples
    --------
    >>> wait_text({"first": [3]}), wait_text({"first": [3, 1, 9]}), wait_text({"first": [2, None]})
    ('3', '1 to 9', '2 to never')
    """
    found = sorted(n for n in wait["first"] if n is not None)
    ends = [*([str(found[0])] if found else []), "never" if None in wait["first"] else str(found[-1])]
    return " to ".join(dict.fromkeys(ends))
