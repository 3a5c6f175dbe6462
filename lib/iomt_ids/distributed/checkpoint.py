"""Where a training stands, written so that it can go on after any death: all of it or nothing, by rank 0.

What is written is numbers and JSON in one ``.npz`` without pickles. Read back on every rank, it gives the very weights
that an uninterrupted training would have had: parameters, the optimizer's moments and step, the counters of dropout,
the place in the order of the rows, the curves and the best weights so far.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.contract.errors import ContractError, LaunchError
from iomt_ids.distributed.work import Communicator

_META = "meta"


@dataclass
class Progress:
    """How far a training is; changed in place.

    Attributes
    ----------
    weights : list of ndarray
        Of the best epoch so far.
    epoch, step : int
        The epoch that is under way, counted from 1, and how many of its steps have been taken.
    loss : float
        Sum over those steps of the loss, averaged over ranks.
    curves : list of dict
        One entry a finished epoch.
    best, best_epoch : float, int
        The best validation so far, and when it was reached.
    done : bool
        Whether there is nothing left to learn.
    """

    weights: list[np.ndarray]
    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    curves: list[dict[str, Any]] = field(default_factory=list)
    best: float = float("-inf")
    best_epoch: int = 0
    done: bool = False


class Checkpoint:
    """One training's file.

    Parameters
    ----------
    wanted : mapping or None
        ``path``, ``steps`` (at least so many between two) and ``identity`` (`identity_of` the work); None writes nothing.
    training : train.Training
        Its net, optimizer, plan and ranks.
    """

    def __init__(self, wanted: Mapping[str, Any] | None, training: Any) -> None:
        self._path = Path(wanted["path"]) if wanted else None
        self._identity = wanted["identity"] if wanted else ""
        self.every_steps: int = wanted["steps"] if wanted else 0
        self._training = training
        self._saved_at = 0

    def load(self) -> Progress | None:
        """Set net and optimizer to what was written, on every rank; None if nothing was.

        Raises
        ------
        ContractError
            If the file is of another training, or damaged.
        LaunchError
            If ranks do not see the same file.
        """
        if self._path is None:
            return None
        content = self._path.read_bytes() if self._path.exists() else b""
        _require_same(content, self._training.ranks, self._path)
        if not content:
            return None
        meta, arrays = _unpack(content, self._path)
        if meta["identity"] != self._identity or meta["rows"] != self._training.plan.rows:
            raise ContractError(f"{self._path} is of another training, or of other rows; remove it to start anew")
        progress = Progress(arrays["best"], **meta["progress"])
        self._restore(arrays, meta, progress)
        self._saved_at = self._steps_taken(progress)
        return progress

    def save(self, progress: Progress) -> None:
        """Write, if enough has happened since the last time."""
        taken = self._steps_taken(progress)
        if self._path is None or not (progress.done or taken - self._saved_at >= self.every_steps):
            return
        self._saved_at = taken
        # Horovod: one rank writes; a rank that reads is behind a reduction that rank 0 has not reached yet.
        if self._training.ranks.rank == 0:
            _write(self._path, self._pack(progress))

    def _steps_taken(self, progress: Progress) -> int:
        return (progress.epoch - 1) * self._training.plan.steps + progress.step

    def _pack(self, progress: Progress) -> bytes:
        training = self._training
        state = {name: value for name, value in vars(progress).items() if name != "weights"}
        meta = {
            "identity": self._identity, "rows": training.plan.rows, "ranks": training.ranks.size, "seed": training.seed,
            "batch_rows": training.plan.batch_rows, "progress": state,
        }
        groups = {
            "net": training.net.get_weights(), "best": progress.weights,
            "optimizer": [v.numpy() for v in training.optimizer.variables], "dice": [v.numpy() for v in training.dice],
        }
        buffer = io.BytesIO()
        np.savez(
            buffer, **{_META: np.frombuffer(json.dumps(meta).encode(), np.uint8)},
            **{f"{name}.{i:04d}": np.asarray(a) for name, arrays in groups.items() for i, a in enumerate(arrays)},
        )
        return buffer.getvalue()

    def _restore(self, arrays: dict[str, list[np.ndarray]], meta: dict[str, Any], progress: Progress) -> None:
        training, plan = self._training, self._training.plan
        training.net.set_weights(arrays["net"])
        for variable, value in zip(training.optimizer.variables, arrays["optimizer"], strict=True):
            variable.assign(value)
        for variable, value in zip(training.dice, arrays["dice"], strict=True):
            # Horovod: the seed is a rank's own, the count of throws is everybody's.
            variable.assign([variable.numpy()[0], value[1]])
        if (meta["ranks"], meta["batch_rows"]) != (training.ranks.size, plan.batch_rows):
            # Another number of ranks takes other steps: go on at the same row, and at the same place of the schedule.
            learnt = progress.step * meta["ranks"] * meta["batch_rows"]
            step = min(learnt // (training.ranks.size * plan.batch_rows), plan.steps)
            progress.loss *= step / progress.step if progress.step else 0.0
            progress.step = step
            training.optimizer.iterations.assign(self._steps_taken(progress))


def identity_of(function: str, job: Mapping[str, Any]) -> str:
    """SHA-256 of what a training is asked to do; neither where its rows lie nor how many ranks there are is part of it.

    Examples
    --------
    >>> one = identity_of("m:f", {"seed": 1, "train": ["/a/p.parquet"], "params": {"ranks": 2, "steps": 9}})
    >>> one == identity_of("m:f", {"seed": 1, "train": ["/b/p.parquet"], "params": {"ranks": 1, "steps": 9}})
    True
    >>> one == identity_of("m:f", {"seed": 2, "train": ["/a/p.parquet"], "params": {"ranks": 2, "steps": 9}})
    False
    """
    asked = {name: value for name, value in job.items() if not _is_files(value)}
    if isinstance(asked.get("params"), Mapping):
        asked["params"] = {name: value for name, value in asked["params"].items() if name != "ranks"}
    return hashlib.sha256(json.dumps([function, asked], sort_keys=True, default=str).encode()).hexdigest()


def _is_files(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v.endswith(".parquet") for v in value)


def _require_same(content: bytes, ranks: Communicator, path: Path) -> None:
    # 40 bits of a hash are exact in a double, also when they are added up.
    own = int.from_bytes(hashlib.sha256(content).digest()[:5], "big")
    if float(ranks.sum(np.array([float(own)]))[0]) != float(own) * ranks.size:
        raise LaunchError(f"ranks see different files {path}; every node must see the run's folder")


def _unpack(content: bytes, path: Path) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    arrays: dict[str, list[np.ndarray]] = {"net": [], "best": [], "optimizer": [], "dice": []}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            meta = json.loads(file[_META].tobytes())
            for name in sorted(set(file.files) - {_META}):
                arrays[name.partition(".")[0]].append(file[name])
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ContractError(f"{path} is damaged ({error}); remove it to start anew") from error
    return meta, arrays


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, also when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
