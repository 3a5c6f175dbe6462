"""The leak hunter's numbers as a reader meets them: one row a feature, what each test saw in a few words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def leak_section(leaks: Mapping[str, Any], marked: Collection[str]) -> dict[str, Any]:
    """What the report's section on leaks shows.

    Parameters
    ----------
    leaks : mapping
        The ``leaks`` of `scores.json`; may be empty.
    marked : collection of str
        Features that the contract marks as leaks, to say whether the two agree.

    Returns
    -------
    dict
        ``suspects`` and ``kept``, rows for the two tables; ``found_only`` and ``marked_only``, names on which
        hunter and contract disagree; ``files`` and ``not_testable`` as they are; ``captures`` and ``rows`` looked at.
    """
    features = leaks.get("features") or []
    rows = [{"feature": f["feature"], "verdict": f["verdict"], "sentence": f["sentence"], "evidence": evidence_of(f)}
            for f in features]
    quarantined = [f["feature"] for f in features if f["verdict"] == "quarantine"]
    return {
        "suspects": [r for r in rows if r["verdict"] != "keep"], "kept": [r for r in rows if r["verdict"] == "keep"],
        "found_only": [name for name in quarantined if name not in marked],
        "marked_only": [f["feature"] for f in features if f["feature"] in marked and f["feature"] not in quarantined],
        "files": leaks.get("files") or [], "not_testable": leaks.get("not_testable") or [],
        "captures": leaks.get("captures", 0), "rows": leaks.get("rows", 0),
    }


def evidence_of(found: Mapping[str, Any]) -> dict[str, str]:
    """What each test saw of one feature; an empty text where it saw nothing.

    Examples
    --------
    >>> clock = {"captures": 3, "dated": 0, "indexed": 3, "ordered": 3, "restarts": 3, "rho": 1.0, "factors": []}
    >>> window = {"captures": 3, "periodic": 0, "constant": 0, "lag": None, "levels": []}
    >>> seen = evidence_of({"value": None, "clock": clock, "window": window, "rounding": {"gridded": [], "free": []}})
    >>> seen["clock"], seen["window"]
    ('same step 3 of 3; in order 3, from zero 3; rank correlation +1.00', '')
    """
    return {"value": _value(found["value"]), "clock": _clock(found["clock"]), "window": _window(found["window"]),
            "rounding": _rounding(found["rounding"])}


def _value(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    return f"macro-F1 {value['f1_macro']:.2f}; tells {value['told']} of {value['pairs']} pairs"


def _clock(clock: Mapping[str, Any]) -> str:
    seen, parts = clock["captures"], []
    if clock["dated"]:
        factors = ", ".join(f"×{factor:.4g}" for factor in clock["factors"])
        parts.append(f"a date in {clock['dated']} of {seen} ({factors}): {clock['first']} to {clock['last']}")
    if clock["indexed"]:
        parts.append(f"same step {clock['indexed']} of {seen}")
    if clock["ordered"]:
        parts.append(f"in order {clock['ordered']}, from zero {clock['restarts']}")
    if seen:
        parts.append(f"rank correlation {clock['rho']:+.2f}".replace("+0.00", "0.00"))
    return "; ".join(parts)


def _window(window: Mapping[str, Any]) -> str:
    if not window["periodic"]:
        return f"constant in {window['constant']} of {window['captures']}" if window["constant"] else ""
    levels = " / ".join(_listed([f"{v:.4g}" for v in level]) for level in window["levels"][:3])
    return (f"recurs every {window['lag']} rows in {window['periodic']}, constant in {window['constant']} "
            f"of {window['captures']}; {levels}")


def _rounding(rounding: Mapping[str, Any]) -> str:
    if not rounding["gridded"]:
        return ""
    return f"{len(rounding['gridded'])} classes on {rounding['decimals']} decimals, {len(rounding['free'])} on no grid"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:4]) + (", …" if len(words) > 4 else "")
