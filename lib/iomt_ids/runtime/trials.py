"""Trials of tuning on disk: each is a file of its own, complete or absent, found again by what was tried."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iomt_ids.runtime.runs import write_json


class Trials:
    """The trials of one folder.

    Attributes
    ----------
    folder : Path
        Holds one JSON file a trial, named by the hash of its key.
    reused, made : int
        Trials that were found, and those that were not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reused = self.made = 0

    def remember(self, key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was measured under this key, now or before.

        Parameters
        ----------
        key : dict
            Everything the result depends on, as plain values.
        measure : callable
            Called if there is no such trial; its result is kept before it is returned.
        """
        path = self.folder / f"{_hash(key)}.json"
        if path.exists():
            self.reused += 1
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"]
            return found
        result = measure()
        write_json(path, {"key": key, "result": result})
        self.made += 1
        # As a later run will read it: a number has as many digits in both.
        again: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"]
        return again


def _hash(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
