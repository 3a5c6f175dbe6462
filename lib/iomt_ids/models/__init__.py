"""Detectors, one file each, found by discovery: a new file with a `DETECTOR` is a new detector."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from iomt_ids.contract.attacks import TASKS
from iomt_ids.contract.errors import ConfigError, raise_all

# Ranks that grow trees come through here, and start without Spark.
if TYPE_CHECKING:
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


def assignments(
    wanted: Mapping[str, Sequence[str]], feature_set: str, compared: Mapping[str, Mapping[str, Sequence[str]]],
    overrides: Iterable[str],
) -> list[tuple[str, str, str]]:
    """Which detector learns which task from which features.

    Parameters
    ----------
    wanted : mapping of str to sequence of str
        Detector to tasks, learnt from ``feature_set``.
    compared : mapping of str to mapping of str to sequence of str
        Feature set to detector to tasks, learnt from that set as well.
    overrides : iterable of str
        Detectors whose parameters are overridden; only their names are checked here.

    Returns
    -------
    list of (detector, task, feature set)
        Without repeats, in the order given.

    Raises
    ------
    ConfigError
        Naming every unknown detector, with the nearest known one, and every task that a detector cannot learn.
    """
    known = list(detectors())
    problems = []
    for name in dict.fromkeys([*wanted, *(name for others in compared.values() for name in others), *overrides]):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            problems.append(f"unknown detector '{name}'; did you mean '{near}'?")
    learnt = [(feature_set, wanted), *compared.items()]
    chosen = list(dict.fromkeys((d, task, of) for of, some in learnt for d, tasks in some.items() for task in tasks))
    problems += [
        f"detector '{d}' cannot learn task '{task}', only {', '.join(detectors()[d].tasks)}"
        for d, task in dict.fromkeys((d, task) for d, task, _ in chosen)
        if d in known and task in TASKS and task not in detectors()[d].tasks
    ]
    raise_all(problems, ConfigError, "configuration")
    # The past of a row is all that a sequence has to say, whichever set was asked for.
    return list(dict.fromkeys((d, task, "past" if detectors()[d].is_sequential else of) for d, task, of in chosen))


def who_takes_part(asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Who is asked about attacks that it has not learnt.

    Parameters
    ----------
    asked : sequence of str
        Detectors that name single attacks.

    Returns
    -------
    named, anomaly : list of str
        Those asked, once each, and every detector that knows benign rows only: these need not be asked.

    Raises
    ------
    ConfigError
        Naming every detector that is unknown, with the nearest known one, or that cannot name attacks.
    """
    named = [name for name, _, _ in assignments({name: ["attack"] for name in asked}, "", {}, [])]
    return named, [name for name, kind in detectors().items() if kind.is_anomaly]


def require_explainable(detector: str) -> Detector:
    """A detector whose verdicts can be explained.

    Raises
    ------
    ConfigError
        If they cannot; the message names those whose can.
    """
    kind = detectors()[detector]
    if not kind.is_explainable:
        known = ", ".join(name for name, other in detectors().items() if other.is_explainable)
        raise ConfigError(f"verdicts of {detector} cannot be explained, only those of {known}; serve one of these")
    return kind
