"""Delta's transaction log on a local disk: read a table's state, and commit a change atomically between processes.

Stock Delta keeps writers of one Java process apart on a local disk, not those of two: both may see that a version is free and
rename onto it. Here a version comes into being by ``link``, which the kernel refuses if the name is there. The log is the
protocol's own (https://github.com/delta-io/delta/blob/master/PROTOCOL.md), reader version 1 and writer version 3; a table that
asks for more is refused, not guessed at.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

from pyarrow import parquet as pq

from iomt_ids.contract.commit import Change, DataFile, Planner, TableState
from iomt_ids.contract.errors import ContractError, IomtIdsError
from iomt_ids.contract.tables import Table

READER, WRITER = 1, 3
_CONSTRAINT = "delta.constraints."
_TRIES = 1000
# What Java's URIs, and so Spark's logs, leave as it is: a path that is written in two ways is two files to a reader.
_PLAIN = "/=:@!$&'()*+,;~"


class DeltaLog:
    """The log of one table.

    Parameters
    ----------
    folder : Path
        The table's folder; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "_delta_log"

    def state(self) -> TableState:
        """The newest version.

        Raises
        ------
        ContractError
            If a version is missing or the table needs a newer protocol.
        """
        version, replay = self._replayed()
        return TableState(version, replay.files, replay.properties)

    def commit(self, table: Table, planner: Planner, *, constraints: Mapping[str, str]) -> TableState:
        """Add and remove files in one transaction.

        Parameters
        ----------
        table : Table
            Its declared shape; written into the log of a new table.
        planner : callable
            Gives the change for the newest state; asked again whenever another process was faster.
        constraints : mapping of str to str
            CHECK constraints by name, as SQL.

        Returns
        -------
        TableState
            The version that this change made.

        Raises
        ------
        IomtIdsError
            If the log cannot be written; the table is as it was, or the message says that it is not.
        ContractError
            If the change does not fit the table.
        """
        for _ in range(_TRIES):
            version, replay = self._replayed()
            state = TableState(version, replay.files, replay.properties)
            change = planner(state)
            if gone := [path for path in change.remove if path not in state.files]:
                raise ContractError(f"{self.folder}: {gone[0]} was removed by another process meanwhile; run again")
            actions = self._actions(table, state, replay.metadata, change, constraints)
            if self._publish(state.version + 1, actions):
                return self._after(state, change, actions)
        raise IomtIdsError(f"{self.log}: other processes committed {_TRIES} times in a row first")

    def added(self, prefix: str) -> set[str]:
        """Files whose name starts so and that any version has added, whether or not a later one has removed them."""
        found = set()
        for path in self._versions():
            actions = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if prefix in line)
            found |= {unquote(action["add"]["path"]) for action in actions if "add" in action}
        return {path for path in found if path.rpartition("/")[2].startswith(prefix)}

    def _replayed(self) -> tuple[int, _Replay]:
        replay = _Replay(self.folder)
        version = self._checkpoint(replay)
        for number, path in self._versions_after(version):
            for line in path.read_text(encoding="utf-8").splitlines():
                replay.take(json.loads(line))
            version = number
        return version, replay

    def _checkpoint(self, replay: _Replay) -> int:
        try:
            version = int(json.loads((self.log / "_last_checkpoint").read_text())["version"])
        except (FileNotFoundError, ValueError, KeyError):
            return -1
        parts = sorted(self.log.glob(f"{version:020d}.checkpoint*.parquet"))
        for part in parts:
            names = [n for n in ("protocol", "metaData", "add") if n in pq.read_schema(part).names]
            for row in pq.read_table(part, columns=names).to_pylist(maps_as_pydicts="strict"):
                replay.take({name: action for name, action in row.items() if action is not None})
        return version if parts else -1

    def _versions_after(self, version: int) -> Iterable[tuple[int, Path]]:
        for path in self._versions():
            number = int(path.name.removesuffix(".json"))
            if number <= version:
                continue
            if number != version + 1:
                raise ContractError(f"{self.log}: version {version + 1} is missing")
            version = number
            yield number, path

    def _versions(self) -> list[Path]:
        return sorted(p for p in self.log.iterdir() if re.fullmatch(r"\d{20}\.json", p.name)) if self.log.is_dir() else []

    def _actions(
        self, table: Table, state: TableState, before: dict[str, Any], change: Change, constraints: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        now = time.time_ns() // 1_000_000
        actions = [{"commitInfo": _commit_info(table, state, change, now)}]
        properties = {**{f"{_CONSTRAINT}{name}": sql for name, sql in constraints.items()}, **change.properties}
        metadata = _metadata(table, before, properties, now, self.folder)
        if metadata != before:
            # Constraints ask for writer version 3, which tables of earlier runs may not have.
            actions.append({"protocol": {"minReaderVersion": READER, "minWriterVersion": WRITER}})
            actions.append({"metaData": metadata})
        actions += [{"remove": _remove(state.files[path], now)} for path in change.remove]
        actions += [{"add": _add(file, now)} for file in change.add]
        return actions

    def _publish(self, version: int, actions: list[dict[str, Any]]) -> bool:
        """Make a version; False if another process has made it."""
        fresh = self.log / f".{version:020d}.{uuid4()}.tmp"
        try:
            self.log.mkdir(parents=True, exist_ok=True)
            try:
                with fresh.open("w", encoding="utf-8") as handle:
                    handle.writelines(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
                    handle.flush()
                    os.fsync(handle.fileno())
                # Not `rename`, which replaces what is there.
                os.link(fresh, self.log / f"{version:020d}.json")
            except FileExistsError:
                return False
            finally:
                with suppress(OSError):
                    fresh.unlink(missing_ok=True)
        except OSError as error:
            raise IomtIdsError(f"cannot commit to {self.log}: {error}; the table is as it was") from error
        try:
            folder = os.open(self.log, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise IomtIdsError(
                f"version {version} of {self.folder} is committed, but the disk does not confirm it: {error}"
            ) from error
        return True

    def _after(self, state: TableState, change: Change, actions: list[dict[str, Any]]) -> TableState:
        files = {path: file for path, file in state.files.items() if path not in change.remove}
        files |= {file.path: file for file in change.add}
        properties = next((a["metaData"]["configuration"] for a in actions if "metaData" in a), state.properties)
        return TableState(state.version + 1, files, properties)


class _Replay:
    """Actions, one after the other, to the state they lead to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, DataFile] = {}
        self.metadata: dict[str, Any] = {}

    @property
    def properties(self) -> dict[str, str]:
        return dict(self.metadata.get("configuration") or {})

    def take(self, action: dict[str, Any]) -> None:
        if "protocol" in action:
            asked = action["protocol"]
            features = {*(asked.get("readerFeatures") or []), *(asked.get("writerFeatures") or [])} - {
                "appendOnly", "invariants", "checkConstraints",
            }
            writer = asked["minWriterVersion"]
            # Writer 7 only says that features are listed.
            if asked["minReaderVersion"] > READER or WRITER < writer != 7 or features:
                raise ContractError(
                    f"{self.folder}: the table needs Delta reader {asked['minReaderVersion']}, writer {writer} "
                    f"{sorted(features) or ''}; this job writes reader {READER}, writer {WRITER}"
                )
        elif "metaData" in action:
            self.metadata = action["metaData"]
        elif "add" in action:
            file = _data_file(action["add"])
            self.files[file.path] = file
        elif "remove" in action:
            self.files.pop(unquote(action["remove"]["path"]), None)


def _commit_info(table: Table, state: TableState, change: Change, now: int) -> dict[str, Any]:
    return {
        "timestamp": now, "operation": "WRITE",
        "operationParameters": {"mode": "Append", "partitionBy": json.dumps(list(table.partitions))},
        "readVersion": state.version, "isolationLevel": "Serializable", "isBlindAppend": False,
        "operationMetrics": {
            "numFiles": str(len(change.add)), "numRemovedFiles": str(len(change.remove)),
            "numOutputRows": str(sum(f.rows for f in change.add)), "numOutputBytes": str(sum(f.size for f in change.add)),
        },
        "engineInfo": "iomt_ids", "txnId": str(uuid4()),
    }


def _remove(file: DataFile, now: int) -> dict[str, Any]:
    return {
        "path": quote(file.path, safe=_PLAIN), "deletionTimestamp": now, "dataChange": True, "extendedFileMetadata": True,
        "partitionValues": dict(file.partition), "size": file.size,
    }


def _add(file: DataFile, now: int) -> dict[str, Any]:
    return {
        "path": quote(file.path, safe=_PLAIN), "partitionValues": dict(file.partition), "size": file.size,
        "modificationTime": now, "dataChange": True, "stats": json.dumps({"numRecords": file.rows, **file.stats}),
    }


def _data_file(add: dict[str, Any]) -> DataFile:
    stats = json.loads(add.get("stats") or "{}")
    rows = int(stats.pop("numRecords", 0))
    return DataFile(unquote(add["path"]), dict(add["partitionValues"] or {}), int(add["size"]), rows, stats)


def _metadata(table: Table, before: dict[str, Any], properties: Mapping[str, str], now: int, folder: Path) -> dict[str, Any]:
    declared = json.loads(table.schema.json())
    for column in declared["fields"]:
        column["nullable"] = True  # as Spark's Delta writes every table
    known = {f["name"]: f["type"] for f in json.loads(before["schemaString"])["fields"]} if before else {}
    wanted = {f["name"]: f["type"] for f in declared["fields"]}
    if lost := [name for name in known if known[name] != wanted.get(name)]:
        # The one policy of evolution: columns may come, none may go or change its type.
        raise ContractError(f"{folder}: column '{lost[0]}' of the table is not what {table.name} declares; use another folder")
    if before and before.get("partitionColumns") != list(table.partitions):
        raise ContractError(f"{folder}: partitioned by {before.get('partitionColumns')}, wanted {list(table.partitions)}")
    schema = before["schemaString"] if known == wanted else json.dumps(declared)
    return {
        "id": before.get("id") or str(uuid4()), "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": list(table.partitions), "createdTime": before.get("createdTime") or now,
        "configuration": {**(before.get("configuration") or {}), **properties},
    }
