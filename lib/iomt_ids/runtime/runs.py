"""Runs on disk: models, scores, report and, last of all, the record. No record, no run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.problem import Problem
from iomt_ids.runtime.clock import new_run_id, now
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.log import log

_RECORD = "run.json"
_MODEL_RECORD = "detector.json"
_POINTER = "served.json"
# What a run was begun with, for the one that goes on with it.
_BEGUN = ".begun.json"
_CHECKPOINTS = ".checkpoints"
# May differ when a run goes on: they say what is done about deaths, not what is learnt.
_OF_NO_MATTER = ("resume", "restarts", "replacement_wait_s", "ranks_at_least")


@dataclass(frozen=True)
class SavedModel:
    """A model in a run's folder.

    Attributes
    ----------
    run : str
        Id of the run it belongs to.
    name : str
        ``<detector>-<task>-<feature set>``.
    detector : str
        A file of `models/`.
    problem : Problem
        What it was trained on.
    folder : Path
        What `Detector.load` reads.
    facts : dict
        ``importances``, ``curves``, ``facts`` and ``train_seconds`` of the training.
    """

    run: str
    name: str
    detector: str
    problem: Problem
    folder: Path
    facts: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One execution of a job that leaves models or scores."""

    id: str
    folder: Path
    started: str
    job: str

    @property
    def is_complete(self) -> bool:
        """Whether the record, which is written last, is there."""
        return (self.folder / _RECORD).exists()

    @property
    def checkpoints(self) -> Path:
        """Where trainings write how far they are."""
        return self.folder / _CHECKPOINTS

    def forget_checkpoints(self) -> None:
        """Remove what finished trainings have written there."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def save_model(self, name: str, detector: str, problem: Problem, save: Callable[[Path], None], facts: dict) -> None:
        """Write a model so that it is there completely or not at all.

        Parameters
        ----------
        save : callable
            Given an empty folder, writes the model into it.
        """
        target = self.folder / "models" / name
        fresh = target.with_name(f".{name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "model").mkdir(parents=True)
        save(fresh / "model")
        write_json(fresh / _MODEL_RECORD, {"detector": detector, "problem": problem.as_dict(), **facts})
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)

    def models(self) -> list[SavedModel]:
        """The run's models, by name."""
        return [_saved_model(record.parent) for record in sorted(self.folder.glob(f"models/[!.]*/{_MODEL_RECORD}"))]

    def write(self, name: str, content: dict | str) -> Path:
        """Write a file of the run atomically: a dict as JSON, text as it is."""
        path = self.folder / name
        if isinstance(content, dict):
            write_json(path, content)
        else:
            write_text(path, content)
        return path

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def finish(self, record: dict[str, Any]) -> Path:
        """Write the record: from now on the run exists."""
        self.forget_checkpoints()
        return self.write(_RECORD, {**record, "finished": now()})

    def outputs(self) -> dict[str, str]:
        """Paths of the run's files, for the final line of a job."""
        files = {path.stem: str(path) for path in sorted(self.folder.glob("[!.]*.*"))}
        return {**files, "run": str(self.folder)}


def start_run(home: Path, job: str) -> Run:
    """A new, empty run in the folder of the data it belongs to."""
    run_id = new_run_id()
    folder = home / "runs" / run_id
    folder.mkdir(parents=True)
    return Run(run_id, folder, now(), job)


def begin_run(home: Path, job: str, config: Config) -> Run:
    """A new run; or, with `train.resume`, the newest unfinished one of the same job and configuration if there is one.

    Parameters
    ----------
    home : Path
        The folder of the data's tables and runs.
    job : str
        The job's name.
    config : Config
        Its configuration.
    """
    asked = config.as_dict()
    asked["train"] = {key: value for key, value in asked["train"].items() if key not in _OF_NO_MATTER}
    # As it will be read: JSON knows no tuples.
    begun = json.loads(json.dumps({"job": job, "config": asked}))
    if config.train.resume:
        for path in sorted((home / "runs").glob(f"*/{_BEGUN}"), reverse=True):
            found = json.loads(path.read_text(encoding="utf-8"))
            if not (path.parent / _RECORD).exists() and {**found, "started": None} == {**begun, "started": None}:
                log().info("going on with run %s", path.parent.name)
                return Run(path.parent.name, path.parent, found["started"], job)
        log().info("no unfinished run of this configuration; starting a new one")
    run = start_run(home, job)
    run.write(_BEGUN, {**begun, "started": run.started})
    return run


def describe_run(run: Run, config: Config, versions: dict[str, str]) -> dict[str, Any]:
    """What a reader needs to repeat a run; the same in its record and in `scores.json`."""
    started = datetime.fromisoformat(run.started)
    return {
        "id": run.id, "job": run.job, "started": run.started,
        "seconds": (datetime.fromisoformat(now()) - started).total_seconds(),
        "versions": versions, "config": config.as_dict(), "split_scheme": config.split_scheme().text,
    }


def ledgers_of_other_schemes(home: Path, schemes: set[str], version: int | None) -> list[dict[str, Any]]:
    """Rows of the ledger that earlier runs on the same captures have written under other split schemes.

    Parameters
    ----------
    schemes : set of str
        Those that need no repeating.
    version : int or None
        Of `bronze.flows`; runs that have read another version saw other rows. None: not known, so nothing is repeated.

    Returns
    -------
    list of dict
        Of the newest run of each scheme; each row names its run.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    records = sorted((home / "runs").glob(f"*/{_RECORD}"), reverse=True) if version is not None else []
    for record in records:
        scheme = json.loads(record.read_text(encoding="utf-8")).get("split_scheme")
        if scheme is None or scheme in schemes or scheme in found or not (record.parent / "scores.json").exists():
            continue
        scores = json.loads((record.parent / "scores.json").read_text(encoding="utf-8"))
        rows = [row for row in (scores.get("ledger") or {}).get("rows", ()) if row["run"] == scores["run"]["id"]]
        if rows and scores["data"]["tables"].get("bronze.flows") == version:
            found[scheme] = rows
    return [row for rows in found.values() for row in rows]


def find_run(home: Path, wanted: str) -> Run:
    """A complete run that has models.

    Parameters
    ----------
    home : Path
        The folder of the data's tables and runs.
    wanted : str
        ``latest``, ``served``, a run's id, a run's folder, or another data's folder for the latest run there.

    Raises
    ------
    ConfigError
        If there is no such run.
    """
    if wanted == "served":
        return _open_run(served_model(home).folder.parents[2])
    if wanted == "latest":
        records = sorted((home / "runs").glob(f"*/{_RECORD}"), reverse=True)
        for record in records:
            if any(record.parent.glob(f"models/*/{_MODEL_RECORD}")):
                return _open_run(record.parent)
        raise ConfigError(
            f"there is no run with models under {home / 'runs'}; run train_detector or retrain first, "
            "or name the run of other data: --set evaluate.run=out/<data name>"
        )
    for folder in (Path(wanted), home / "runs" / wanted):
        if (folder / _RECORD).exists():
            return _open_run(folder)
    if (Path(wanted) / "runs").is_dir():
        return find_run(Path(wanted), "latest")
    raise ConfigError(f"there is no complete run '{wanted}': neither a folder with {_RECORD} nor an id under {home / 'runs'}")


def has_served(home: Path) -> bool:
    """Whether a model has ever been served from this folder."""
    return (home / _POINTER).exists()


def served_model(home: Path) -> SavedModel:
    """The model that the pointer names.

    Raises
    ------
    ConfigError
        If nothing has been served yet, or the model it names is gone.
    """
    pointer = home / _POINTER
    if not pointer.exists():
        raise ConfigError(f"no model is served yet: {pointer} does not exist; run retrain first")
    named = json.loads(pointer.read_text(encoding="utf-8"))
    folder = home / "runs" / named["run"] / "models" / named["model"]
    if not (folder / _MODEL_RECORD).exists():
        raise ConfigError(f"{pointer} names {folder}, which is not there")
    return _saved_model(folder)


def saved_model(folder: Path) -> SavedModel:
    """The model in a folder.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if not (folder / _MODEL_RECORD).exists():
        raise ConfigError(f"{folder} is no model's folder: it has no {_MODEL_RECORD}")
    return _saved_model(folder)


def serve(home: Path, run: Run, model: str) -> Path:
    """Switch the pointer to a model, atomically."""
    pointer = home / _POINTER
    write_json(pointer, {"run": run.id, "model": model, "since": now()})
    return pointer


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; nan and infinity are refused, absent numbers are null."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)


def _open_run(folder: Path) -> Run:
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    return Run(record["id"], folder, record["started"], record["job"])


def _saved_model(folder: Path) -> SavedModel:
    record = json.loads((folder / _MODEL_RECORD).read_text(encoding="utf-8"))
    problem = Problem.from_dict(record.pop("problem"))
    return SavedModel(folder.parents[1].name, folder.name, record.pop("detector"), problem, folder / "model", record)
