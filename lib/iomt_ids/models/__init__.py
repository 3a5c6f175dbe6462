"""Detectors, one file each, found by discovery: a new file with a `DETECTOR` is a new detector."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from iomt_ids.models.detector import Detector


@cache
def detectors() -> dict[str, Detector]:
    """Every detector by name.

    Returns
    -------
    dict of str to Detector
        Sorted by name; the name is that of the file.
    """
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        detector = getattr(importlib.import_module(f"{__name__}.{module.name}"), "DETECTOR", None)
        if detector is not None:
            found[module.name] = detector
    return found
