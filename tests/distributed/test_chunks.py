"""Parts of a training on disk are there in full, and of this training, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.chunks import NOTHING_KEPT, Chunks, chunk_size
from iomt_ids.distributed.launch import InProcessLauncher
from iomt_ids.distributed.resume import Endurance, ResumingLauncher, chunks_of

_ONE = "a" * 64


def _file(folder: Path) -> Path:
    (path,) = [p for p in folder.rglob("*") if p.is_file()]
    return path


def test_what_was_saved_is_there_and_nothing_else_is(tmp_path: Path) -> None:
    chunks = Chunks(tmp_path / "run", _ONE)
    assert chunks.load("trees-0") is None
    chunks.save("trees-0", b"content")
    assert Chunks(tmp_path / "run", _ONE).load("trees-0") == b"content"
    assert chunks.load("trees-1") is None


@pytest.mark.parametrize("damage", [
    lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:],
], ids=["cut", "cut in the hash", "emptied", "a bit turned"])
def test_a_damaged_part_is_not_there_and_is_replaced(tmp_path: Path, damage) -> None:
    chunks = Chunks(tmp_path, _ONE)
    chunks.save("trees-0", b"some content")
    path = _file(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert chunks.load("trees-0") is None
    chunks.save("trees-0", b"some content")
    assert chunks.load("trees-0") == b"some content"
    assert _file(tmp_path) == path


def test_another_trainings_part_is_not_there_even_under_the_same_name(tmp_path: Path) -> None:
    chunks = Chunks(tmp_path, _ONE)
    chunks.save("trees-0", b"content")
    # The same folder, since its name is the beginning of the identity.
    assert Chunks(tmp_path, _ONE[:-1] + "b").load("trees-0") is None
    _file(tmp_path).rename(_file(tmp_path).with_name("trees-1"))
    assert chunks.load("trees-1") is None


def test_parts_are_kept_in_the_folder_of_a_launcher_that_resumes_and_by_no_other(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    launcher = ResumingLauncher(InProcessLauncher(), Path("run"), Endurance(1, 1, 1.0), lambda _: None)
    assert chunks_of(launcher, lambda: _ONE) == Chunks(tmp_path / "run", _ONE)
    for other in (None, InProcessLauncher()):
        nothing = chunks_of(other, lambda: pytest.fail("the rows are hashed for nothing"))
        nothing.save("trees-0", b"content")
        assert nothing == NOTHING_KEPT and nothing.load("trees-0") is None
    assert not list(tmp_path.iterdir())


def test_a_part_that_cannot_be_written_ends_the_training_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LaunchError, match="every node must be able to write the run's folder"):
        Chunks(tmp_path / "file", _ONE).save("trees-0", b"content")


@pytest.mark.parametrize(("parts", "work", "wanted"), [(40, 0, 3), (3, 1, 1), (1, 10**9, 1), (100, 10**6, 1)])
def test_a_chunk_is_one_part_at_least_and_a_sixteenth_at_most(parts: int, work: int, wanted: int) -> None:
    assert chunk_size(parts, work, 500_000) == wanted
