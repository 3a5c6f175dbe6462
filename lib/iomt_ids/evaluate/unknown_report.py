"""What detectors make of attacks that they have not learnt, for readers: one HTML file, and a table for the terminal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from iomt_ids.evaluate.operating_section import percent

_WIDTH = 119


def render_unknown(content: Mapping[str, Any]) -> str:
    """The report of a run of `unknown_attacks`.

    Parameters
    ----------
    content : mapping
        The content of ``unknown_attacks.json``.

    Returns
    -------
    str
        An HTML page that loads nothing; its one script sorts tables. Every name in it is escaped.
    """
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_read)
    )
    script = _read("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.get_template("unknown.html.j2").render(
        **content, percent=percent, script=Markup(script), script_hash=digest,  # noqa: S704
    )


def unknown_table(content: Mapping[str, Any]) -> str:
    """The result as plain text, for the terminal.

    Parameters
    ----------
    content : mapping
        The content of ``unknown_attacks.json``.

    Returns
    -------
    str
        Lines of at most 119 characters without a newline at the end.
    """
    data = content["data"]
    heads = ("detector", "held out", "rows", "any alert (95 %)", "if learnt", "AUROC, new", "taken for")
    lines = [
        f"{data['name']}{', synthetic demo data' if data['synthetic'] else ''}: attacks that were not learnt, test split, "
        f"{content['false_alarms_per_million']:,} false alarms in a million", _line(*heads), "-" * _WIDTH,
    ]
    for e in content["folds"]:
        novelty, first = e["novelty"]["auroc"], e["mistaken_for"][0]["class"] if e["mistaken_for"] else "-"
        told = _short(e["recall_learnt"] and e["recall_learnt"]["rate"]), _short(novelty and novelty["value"])
        lines.append(_line(e["detector"], e["held_out"], e["rows"], rate_text(e["recall"]), *told, first))
    for a in content["anomaly"]:
        for name, found in a["held_out"].items():
            rows, area = (found["recall"] or {"rows": "-"})["rows"], found["alarm"] and found["alarm"]["value"]
            lines.append(_line(a["detector"], name, rows, rate_text(found["recall"]), "-", _short(area), "never learns an attack"))
    return "\n".join(lines)


def _line(detector: str, held_out: str, rows: Any, alert: str, learnt: str, new: str, taken_for: str) -> str:
    return f"{detector:<18.18} {held_out:<24.24} {rows:>7} {alert:>17} {learnt:>9} {new:>10}  {taken_for:<.25}"


def rate_text(found: Mapping[str, Any] | None) -> str:
    """A share with its interval in short.

    Examples
    --------
    >>> rate_text({"rate": 0.5, "low": 0.25, "high": 0.75}), rate_text(None)
    ('.500 (.250-.750)', '-')
    """
    return "-" if found is None else f"{_short(found['rate'])} ({_short(found['low'])}-{_short(found['high'])})"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


def _read(name: str) -> str:
    return resources.files("iomt_ids.evaluate").joinpath(name).read_text(encoding="utf-8")
