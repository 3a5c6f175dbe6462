"""What a table holds and what changes it, apart from who reads, writes or stores it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from iomt_ids.contract.tables import Table


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a table.

    Attributes
    ----------
    path : str
        Below the table's folder, with forward slashes.
    partition : mapping of str to str
        Value of each partition column.
    size : int
        Bytes.
    rows : int
    stats : mapping
        ``minValues``, ``maxValues`` and ``nullCount`` by column, as Delta defines them.
    """

    path: str
    partition: Mapping[str, str]
    size: int
    rows: int
    stats: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableState:
    """What a table is at one version.

    Attributes
    ----------
    version : int
        -1 if there is no table yet.
    files : mapping of str to DataFile
        Its files by path.
    properties : mapping of str to str
        Its configuration.
    """

    version: int
    files: Mapping[str, DataFile]
    properties: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files.values())


@dataclass(frozen=True)
class Change:
    """Files to add and paths to remove, in one transaction, and properties to set.

    Attributes
    ----------
    add : tuple of DataFile
    remove : tuple of str
        Paths of files of the state that the change is for.
    properties : mapping of str to str
        Set in the same transaction; others stay.
    """

    add: tuple[DataFile, ...]
    remove: tuple[str, ...]
    properties: Mapping[str, str]


#: Gives the change for a state, again for each newer state that another process has committed meanwhile.
Planner = Callable[[TableState], Change]


class Store(Protocol):
    """What keeps tables; `runtime.tables.Warehouse` is one."""

    def staging(self, table: Table) -> Path:
        """The folder in which files are written that a commit will name."""

    def commit(self, table: Table, planner: Planner) -> TableState:
        """Make files of `staging` part of a table, in one step."""

    def discard(self, table: Table, prefix: str) -> None:
        """Remove files of `staging` that no commit has named."""
