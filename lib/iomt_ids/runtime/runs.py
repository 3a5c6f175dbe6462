"""Runs on disk: models, scores, report and, last of all, the record. No record, no run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.problem import Problem
from iomt_ids.runtime.clock import new_run_id, now
from iomt_ids.runtime.config import Config

_RECORD = "run.json"
_MODEL_RECORD = "detector.json"
_POINTER = "served.json"


@dataclass(frozen=True)
class SavedModel:
    """A model in a run's folder.

    Attributes
    ----------
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

    @property
    def is_complete(self) -> bool:
        """Whether the record, which is written last, is there."""
        return (self.folder / _RECORD).exists()

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
        return self.write(_RECORD, {"id": self.id, "started": self.started, "finished": now(), **record})


def start_run(config: Config) -> Run:
    """A new, empty run of the configured data."""
    run_id = new_run_id()
    folder = config.home / "runs" / run_id
    folder.mkdir(parents=True)
    return Run(run_id, folder, now())


def find_run(config: Config, wanted: str) -> Run:
    """A complete run that has models.

    Parameters
    ----------
    wanted : str
        ``latest``, ``served``, a run's id, or a run's folder (also of other data).

    Raises
    ------
    ConfigError
        If there is no such run.
    """
    if wanted == "served":
        return find_run(config, served_model(config).folder.parents[2].as_posix())
    if wanted == "latest":
        records = sorted((config.home / "runs").glob(f"*/{_RECORD}"), reverse=True)
        for record in records:
            if any(record.parent.glob(f"models/*/{_MODEL_RECORD}")):
                return _open_run(record.parent)
        raise ConfigError(f"there is no run with models under {config.home / 'runs'}; run train_detector or retrain first")
    for folder in (Path(wanted), config.home / "runs" / wanted):
        if (folder / _RECORD).exists():
            return _open_run(folder)
    raise ConfigError(f"there is no complete run '{wanted}': neither a folder with {_RECORD} nor an id under {config.home / 'runs'}")


def served_model(config: Config) -> SavedModel:
    """The model that the pointer names.

    Raises
    ------
    ConfigError
        If nothing has been served yet, or the model it names is gone.
    """
    pointer = config.home / _POINTER
    if not pointer.exists():
        raise ConfigError(f"no model is served yet: {pointer} does not exist; run retrain first")
    named = json.loads(pointer.read_text(encoding="utf-8"))
    folder = config.home / "runs" / named["run"] / "models" / named["model"]
    if not (folder / _MODEL_RECORD).exists():
        raise ConfigError(f"{pointer} names {folder}, which is not there")
    return _saved_model(folder)


def serve(config: Config, run: Run, model: str) -> Path:
    """Switch the pointer to a model, atomically."""
    pointer = config.home / _POINTER
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
    os.replace(fresh, path)


def _open_run(folder: Path) -> Run:
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    return Run(record["id"], folder, record["started"])


def _saved_model(folder: Path) -> SavedModel:
    record = json.loads((folder / _MODEL_RECORD).read_text(encoding="utf-8"))
    problem = Problem.from_dict(record.pop("problem"))
    return SavedModel(folder.name, record.pop("detector"), problem, folder / "model", record)
