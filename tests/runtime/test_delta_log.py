"""The transaction log: nobody's commit is lost, nothing is half there, what is not understood is refused."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.contract.commit import Change, DataFile
from iomt_ids.contract.errors import ContractError, IomtIdsError
from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS
from iomt_ids.runtime.delta_log import DeltaLog

COMMITS = 50


def a_file(name: str, rows: int = 1) -> DataFile:
    return DataFile(f"split=train/category=DoS/{name}.parquet", {"split": "train", "category": "DoS"}, 10, rows)


def append(log: DeltaLog, *names: str, **properties: str):
    return log.commit(BRONZE_FLOWS, lambda state: Change(tuple(map(a_file, names)), (), properties), constraints={})


def _writer(folder: str, who: str, start) -> None:
    log = DeltaLog(Path(folder))
    start.wait()
    for i in range(COMMITS):
        append(log, f"{who}-{i}", **{f"{who}.{i}": "taken in"})


def test_commits_of_two_processes_are_all_there(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    writers = [context.Process(target=_writer, args=(str(tmp_path), who, start)) for who in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [w.exitcode for w in writers] == [0, 0]
    state = DeltaLog(tmp_path).state()
    assert state.version == 2 * COMMITS - 1
    assert {Path(path).stem for path in state.files} == {f"{who}-{i}" for who in "ab" for i in range(COMMITS)}
    assert set(state.properties) == {f"{who}.{i}" for who in "ab" for i in range(COMMITS)}


@given(st.lists(st.tuples(st.sets(st.integers(0, 9), max_size=4), st.sets(st.integers(0, 9), max_size=4)), max_size=8))
def test_the_state_is_what_was_added_and_not_removed(tmp_path_factory: pytest.TempPathFactory, steps) -> None:
    log, kept = DeltaLog(tmp_path_factory.mktemp("log")), set()
    for add, remove in steps:
        gone = {f"file {i} %20" for i in remove} & kept
        new = {f"file {i} %20" for i in add} - kept
        state = log.commit(
            BRONZE_FLOWS, lambda s, new=new, gone=gone: Change(tuple(map(a_file, sorted(new))), tuple(
                path for path in s.files if Path(path).stem in gone), {"last": str(sorted(new))}), constraints={},
        )
        kept = kept - gone | new
        assert {Path(path).stem for path in state.files} == kept
        assert log.state() == state


def test_a_file_that_another_process_removed_is_not_removed_twice(tmp_path: Path) -> None:
    log = DeltaLog(tmp_path)
    path = next(iter(append(log, "a").files))
    with pytest.raises(ContractError, match="was removed by another process meanwhile"):
        log.commit(BRONZE_FLOWS, lambda _: Change((), (f"{path}x",), {}), constraints={})
    assert log.state().version == 0


def _with_little_room(folder: str, name: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    with pytest.raises(IomtIdsError, match=r"cannot commit to .*_delta_log: .*File too large.*; the table is as it was"):
        append(DeltaLog(Path(folder)), name)


def test_a_disk_that_is_full_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    before = append(DeltaLog(tmp_path), "a")
    child = multiprocessing.get_context("fork").Process(target=_with_little_room, args=(str(tmp_path), "b"))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert DeltaLog(tmp_path).state() == before
    assert [p.name for p in (tmp_path / "_delta_log").iterdir()] == [f"{0:020d}.json"]


def test_a_disk_that_does_not_confirm_a_version_is_no_reason_to_deny_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fails(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(handle)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(IomtIdsError, match=r"version 0 of .* is committed, but the disk does not confirm it: .*Input/output error"):
        append(DeltaLog(tmp_path), "a")
    assert list(DeltaLog(tmp_path).state().files) == [a_file("a").path]


def test_what_was_ever_added_is_told_by_its_name(tmp_path: Path) -> None:
    log = DeltaLog(tmp_path)
    assert log.added("") == set()
    append(log, "one-1", "one-2", "two-one-3")
    log.commit(BRONZE_FLOWS, lambda _: Change((a_file("one-4"),), (a_file("one-2").path,), {}), constraints={})
    assert log.added("one") == {a_file(f"one-{i}").path for i in (1, 2, 4)}


def test_a_missing_version_is_refused(tmp_path: Path) -> None:
    log = DeltaLog(tmp_path)
    for name in "abc":
        append(log, name)
    (log.log / f"{1:020d}.json").unlink()
    with pytest.raises(ContractError, match="version 1 is missing"):
        log.state()


@pytest.mark.parametrize("protocol", [
    {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]},
    {"minReaderVersion": 2, "minWriterVersion": 5},
    {"minReaderVersion": 1, "minWriterVersion": 4},
    {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["changeDataFeed"]},
])
def test_a_table_of_a_newer_protocol_is_refused(tmp_path: Path, protocol: dict) -> None:
    log = DeltaLog(tmp_path)
    append(log, "a")
    (log.log / f"{1:020d}.json").write_text(json.dumps({"protocol": protocol}) + "\n")
    with pytest.raises(ContractError, match="the table needs Delta reader"):
        append(log, "b")


def test_columns_may_come_and_none_may_go(tmp_path: Path) -> None:
    log = DeltaLog(tmp_path)
    append(log, "a")
    version = log.log / f"{0:020d}.json"
    actions = [json.loads(line) for line in version.read_text().splitlines()]
    metadata = next(a["metaData"] for a in actions if "metaData" in a)
    schema = json.loads(metadata["schemaString"])
    schema["fields"] = [f for f in schema["fields"] if f["name"] != "weight"]
    metadata["schemaString"] = json.dumps(schema)
    version.write_text("\n".join(map(json.dumps, actions)) + "\n")
    append(log, "b")
    newest = (log.log / f"{1:020d}.json").read_text()
    assert '\\"weight\\"' in newest
    with pytest.raises(ContractError, match=r"of the table is not what bronze\.rejects declares"):
        log.commit(BRONZE_REJECTS, lambda _: Change((), (), {}), constraints={})
