"""A tree of files is there completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iomt_ids.contract.errors import IomtIdsError
from iomt_ids.runtime.files import write_tree


def test_a_tree_holds_every_file_and_its_size_is_told(tmp_path: Path) -> None:
    written = write_tree(tmp_path / "tree", [("a/b.csv", [b"one\n", b"two\n"]), ("note.txt", [b"!"])])

    assert written == 9
    assert (tmp_path / "tree/a/b.csv").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "tree/note.txt").read_bytes() == b"!"
    assert [entry.name for entry in tmp_path.iterdir()] == ["tree"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()

    write_tree(tmp_path / "tree", [("a.csv", [b"1"])])

    assert (tmp_path / "tree/a.csv").read_bytes() == b"1"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_bytes(b"precious")

    with pytest.raises(IomtIdsError, match="exists and is not empty"):
        write_tree(tmp_path, [("theirs.csv", [b"ours"])])

    assert (tmp_path / "theirs.csv").read_bytes() == b"precious"


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tree").write_bytes(b"precious")

    with pytest.raises(IomtIdsError, match="is a file"):
        write_tree(tmp_path / "tree", [("a.csv", [b"1"])])


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the generator broke")

    with pytest.raises(RuntimeError, match="the generator broke"):
        write_tree(tmp_path / "tree", [("a.csv", [b"whole"]), ("b.csv", pieces())])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../outside.csv", "/outside.csv", "a/../../outside.csv", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(IomtIdsError, match="does not lie inside"):
        write_tree(tmp_path / "tree", [(path, [b"1"])])

    assert list(tmp_path.iterdir()) == []


def test_a_path_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IomtIdsError, match=r"'a\.csv' occurs twice"):
        write_tree(tmp_path / "tree", [("a.csv", [b"1"]), ("a.csv", [b"2"])])
