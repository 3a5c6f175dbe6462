"""Data sources, one file each, found by discovery: a new file with a `SOURCE` is a new source."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from iomt_ids.contract.errors import SourceError
from iomt_ids.ingest.source import Source


@cache
def sources() -> dict[str, Source]:
    """Every source by name.

    Returns
    -------
    dict of str to Source
        Sorted by name; the name is that of the file.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").SOURCE for name in names}


def find_source(name: str) -> Source:
    """The source of that name.

    Raises
    ------
    SourceError
        If there is none; the message lists those there are.
    """
    if name not in sources():
        raise SourceError(f"unknown source '{name}'; known: {', '.join(sources())}")
    return sources()[name]
