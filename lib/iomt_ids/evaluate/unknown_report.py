"""One self-contained HTML file of what detectors make of attacks that they have not learnt."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from iomt_ids.evaluate.operating_section import percent


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


def _read(name: str) -> str:
    return resources.files("iomt_ids.evaluate").joinpath(name).read_text(encoding="utf-8")
