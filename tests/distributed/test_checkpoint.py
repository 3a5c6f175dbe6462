"""A training that was interrupted ends as if it had not been."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iomt_ids.contract.errors import ContractError, LaunchError
from iomt_ids.distributed import checkpoint
from iomt_ids.distributed.checkpoint import identity_of
from iomt_ids.distributed.train import Training, train_rank
from iomt_ids.distributed.work import Alone
from iomt_ids.models.dense_net import Params
from tests.distributed.test_train import _write

_PARAMS = Params(layers=(8,), ranks=1, batch_rows=64, steps=33, learning_rate=0.01, dropout=0.2)
_UNTIMED: dict[str, Any] = {"train_seconds": 0.0, "epoch_seconds": []}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rows")
    return {
        "train": _write(folder / "train.parquet", 700, 1), "validation": _write(folder / "val.parquet", 211, 2),
        "features": ["a", "b"], "label": "y", "labels": [0, 2, 5], "scaling": [[0.7, 0.6], [0.0, 0.6]],
        "seed": 0, "params": asdict(_PARAMS), "network": {"kind": "dense_net", "layers": [8], "dropout": 0.2},
    }


def _kept(job: dict[str, Any], path: Path) -> dict[str, Any]:
    return {**job, "checkpoint": {"path": str(path), "steps": 4, "identity": identity_of("train", job)}}


@pytest.fixture(scope="module")
def uninterrupted(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    return train_rank(_kept(job, tmp_path_factory.mktemp("whole") / "c.npz"), Alone())


def _interrupt(monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], after: int) -> None:
    """Train until so many pieces of epochs have been learnt, and die."""
    original, pieces = Training.run_steps, []

    def run_steps(self: Training, epoch: int, first: int, last: int) -> float:
        pieces.append(first)
        if len(pieces) > after:
            raise KeyboardInterrupt
        return original(self, epoch, first, last)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_steps", run_steps)
        with pytest.raises(KeyboardInterrupt):
            train_rank(job, Alone())


# Eleven steps an epoch, in three pieces: within the first epoch, at its end, later and after several deaths.
@pytest.mark.parametrize("deaths", [[1], [3], [5, 1, 2]], ids=["within an epoch", "between epochs", "again and again"])
def test_an_interrupted_training_ends_with_the_very_same_weights(
    job: dict[str, Any], uninterrupted: tuple[dict[str, Any], bytes], deaths: list[int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = _kept(job, tmp_path / "c.npz")
    for after in deaths:
        _interrupt(monkeypatch, kept, after)
        assert (tmp_path / "c.npz").exists()
    facts, payload = train_rank(kept, Alone())
    whole, weights = uninterrupted
    assert payload == weights
    assert {**facts, **_UNTIMED} == {**whole, **_UNTIMED}


def test_what_has_been_learnt_to_the_end_is_not_learnt_again(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _kept(job, tmp_path / "c.npz")
    first = train_rank(kept, Alone())
    monkeypatch.setattr(Training, "run_steps", lambda *_: pytest.fail("it learns again"))
    assert train_rank(kept, Alone())[1] == first[1]


def test_a_death_while_it_is_written_leaves_the_one_before(
    job: dict[str, Any], uninterrupted: tuple[dict[str, Any], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _kept(job, tmp_path / "c.npz")
    _interrupt(monkeypatch, kept, 4)
    before = (tmp_path / "c.npz").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            train_rank(kept, Alone())
    assert (tmp_path / "c.npz").read_bytes() == before
    assert train_rank(kept, Alone())[1] == uninterrupted[1]


def test_another_trainings_file_and_a_damaged_one_are_refused(job: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    train_rank(_kept(job, path), Alone())
    with pytest.raises(ContractError, match="of another training"):
        train_rank(_kept({**job, "seed": 1}, path), Alone())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ContractError, match=r"c\.npz is damaged"):
        train_rank(_kept(job, path), Alone())


def test_a_pickle_in_a_checkpoint_is_not_opened(job: dict[str, Any], tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    np.savez(tmp_path / "c.npz", meta=np.array([Exploit()], dtype=object))
    with pytest.raises(ContractError, match="damaged"):
        train_rank(_kept(job, tmp_path / "c.npz"), Alone())
    assert not (tmp_path / "executed").exists()


def test_ranks_that_see_different_files_do_not_start(job: dict[str, Any], tmp_path: Path) -> None:
    class Other(Alone):
        size = 2

        def sum(self, values: Any) -> Any:
            # The other rank says zero in all that it is asked.
            return np.asarray(values, dtype=float)

    train_rank(_kept(job, tmp_path / "c.npz"), Alone())
    with pytest.raises(LaunchError, match="ranks see different files"):
        train_rank(_kept(job, tmp_path / "c.npz"), Other())


def test_another_number_of_ranks_goes_on_at_the_same_row(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Two(Alone):
        """Rank 0 of two that see the same."""

        size = 2

        def sum(self, values: Any) -> Any:
            return 2.0 * np.asarray(values)

    kept = _kept(job, tmp_path / "c.npz")
    _interrupt(monkeypatch, kept, 4)  # 4 steps into the second epoch: 256 rows
    seen: list[tuple[int, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_steps", lambda self, epoch, first, last: seen.append(
            (epoch, first, int(self.optimizer.iterations.numpy()))
        ) or 1.0)
        train_rank(kept, Two())
    # Of six steps an epoch with 128 rows each, two are behind it.
    assert seen[0] == (2, 2, 8)


def test_it_tells_what_it_is_of(job: dict[str, Any], tmp_path: Path) -> None:
    train_rank(_kept(job, tmp_path / "c.npz"), Alone())
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        meta = json.loads(file["meta"].tobytes())
        names = {name.partition(".")[0] for name in file.files}
    assert names == {"meta", "net", "best", "optimizer", "dice"}
    assert (meta["seed"], meta["ranks"], meta["rows"]) == (0, 1, 700)
