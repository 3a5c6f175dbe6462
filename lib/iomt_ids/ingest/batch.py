"""One ingest from a folder to two changes: what is new is read, what is known is not, and every line is accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from pyarrow import fs
from pyspark.sql import SparkSession

from iomt_ids.contract.commit import Change, DataFile, Store, TableState
from iomt_ids.contract.errors import BusyError, ContractError, IomtIdsError, SourceError, raise_all
from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS, Table
from iomt_ids.ingest.blocks import Surveyed, survey_files
from iomt_ids.ingest.ledger import Entry, Ledger, plan_work
from iomt_ids.ingest.plan import CapturedFile
from iomt_ids.ingest.unpack import Limits
from iomt_ids.ingest.write import Target, Written, without_captures, write_blocks

# Spark hands out work in tasks of about this much text: enough to hide a task's own cost, few enough files.
_TASK_BYTES = 96 << 20


@dataclass(frozen=True)
class Rules:
    """How files are read; see ``ingest`` in conf/base.yaml."""

    block_bytes: int
    max_rejected_fraction: float
    replace: bool
    limits: Limits


@dataclass(frozen=True)
class Batch:
    """Captures to read and captures to drop.

    Attributes
    ----------
    read : list of Surveyed
        Captures to read.
    drop : frozenset of str
        Captures whose rows go: replaced ones, and with ``replace`` those that are gone from the folder.
    stale : frozenset of str
        Captures of which only rejects are there, left by a run that died between its two commits.
    rebuild : bool
        Whether the tables' ledgers do not account for their rows, so that everything is read again.
    known : int
        Captures that are not read again.
    based_on : (int, int)
        Versions of the two tables that were compared.
    """

    read: list[Surveyed]
    drop: frozenset[str]
    stale: frozenset[str]
    rebuild: bool
    known: int
    based_on: tuple[int, int]

    @property
    def lines(self) -> int:
        """Lines to read."""
        return sum(s.lines for s in self.read)

    @property
    def unfinished(self) -> list[str]:
        """Files whose last line does not end as the others do; nobody can tell whether they were cut off."""
        return [s.file.name for s in self.read if not s.ends]

    @property
    def changes_nothing(self) -> bool:
        """Whether the tables hold already what the folder holds."""
        return not (self.read or self.drop or self.stale or self.rebuild)


@dataclass(frozen=True)
class Taken:
    """What was read of a batch.

    Attributes
    ----------
    flows, rejects : list of DataFile
    entries : dict of str to Entry
        For the ledger.
    """

    flows: list[DataFile]
    rejects: list[DataFile]
    entries: dict[str, Entry]


def plan_batch(
    spark: SparkSession, files: Sequence[CapturedFile], flows: TableState, rejects: TableState, rules: Rules, tasks: int
) -> Batch:
    """Compare files with the tables, and look into those that are new.

    Raises
    ------
    SourceError
        Naming at once every capture whose content changed under its old name, unless `rules.replace`, and every file that
        cannot be unpacked.
    """
    ledger, other = Ledger.of(flows), Ledger.of(rejects)
    rebuild = flows.version >= 0 and not _accounted(flows, ledger, rejects, other)
    work = plan_work(files, Ledger({}) if rebuild else ledger)
    surveyed, problems = survey_files(
        spark, [*work.read, *work.compare], rules.limits, block_bytes=rules.block_bytes, tasks=tasks
    )
    compared = {f.capture.path for f in work.compare}
    changed = [
        s for s in surveyed if s.file.capture.path in compared and s.digest != ledger.entries[s.file.capture.path].digest
    ]
    if not rules.replace:
        problems += [
            f"{s.file.name}: its content changed since it was taken in; give it another name, or say --replace "
            "(ingest.replace=true)"
            for s in changed
        ]
    raise_all(problems, SourceError, "cannot ingest")
    new = [s for s in surveyed if s.file.capture.path not in compared]
    drop = {s.file.capture.path for s in changed} | (set(work.gone) if rules.replace else set())
    stale = set() if rebuild else set(other.entries) - set(ledger.entries)
    known = len(files) - len(new) - len(changed)
    return Batch(
        [*new, *changed], frozenset(drop), frozenset(stale), rebuild, known, (flows.version, rejects.version)
    )


def _accounted(flows: TableState, ledger: Ledger, rejects: TableState, other: Ledger) -> bool:
    same = all(other.entries.get(path) == entry for path, entry in ledger.entries.items())
    return same and ledger.lines - ledger.rejected == flows.rows and other.rejected == rejects.rows


def read_batch(
    spark: SparkSession, batch: Batch, folders: tuple[Path, Path], rules: Rules, *, prefix: str, slots: int, now_ns: int
) -> Taken:
    """Read a batch into Parquet files that belong to no table yet.

    Parameters
    ----------
    folders : (Path, Path)
        Where files of flows and of rejects are written.
    prefix : str
        Starts the name of every file written.

    Raises
    ------
    ContractError
        If lines in are not rows out plus rejects.
    SourceError
        If a file changed while it was read, or too large a share of lines was rejected.
    IomtIdsError
        If a file cannot be read or written.
    """
    blocks = [block for s in batch.read for block in s.blocks]
    tasks = max(slots, -(-sum(b.size for b in blocks) // _TASK_BYTES))
    target = Target(str(folders[0].absolute()), str(folders[1].absolute()), prefix)
    done = write_blocks(spark, blocks, target, rules.limits, block_bytes=rules.block_bytes, tasks=tasks)
    raise_all(sorted({w.problem for w in done if w.problem}), IomtIdsError, "cannot ingest")
    rejected = _rejected(done)
    _require_all(batch, done)
    _require_same([s.file for s in batch.read])
    _require_few(batch, rejected, rules.max_rejected_fraction)
    entries = {
        s.file.capture.path: Entry.of(s.file, s.digest, s.lines, rejected.get(s.file.capture.path, 0), now_ns=now_ns)
        for s in batch.read
    }
    return Taken([f for w in done for f in w.flows], [f for w in done for f in w.rejects], entries)


def take_in(
    spark: SparkSession, batch: Batch, store: Store, rules: Rules, *, slots: int, now_ns: int
) -> dict[Table, TableState]:
    """Read a batch and commit it; see `read_batch` and `plan_change` for what can be wrong.

    Returns
    -------
    dict of Table to TableState
        The two tables' new states.
    """
    # Rejects first: should we die in between, the next run finds them without rows and takes them back.
    order, prefix = (BRONZE_REJECTS, BRONZE_FLOWS), f"part-{uuid4().hex}"
    folders = {table: store.staging(table) for table in order}
    committed: dict[Table, TableState] = {}
    try:
        taken = read_batch(
            spark, batch, (folders[BRONZE_FLOWS], folders[BRONZE_REJECTS]), rules, prefix=prefix, slots=slots, now_ns=now_ns
        )
        for table in order:
            planner = partial(plan_change, table=table, batch=batch, taken=taken, folder=folders[table], prefix=prefix)
            committed[table] = store.commit(table, planner)
    finally:
        for table in set(order) - set(committed):
            store.discard(table, prefix)
    return committed


def _rejected(done: Sequence[Written]) -> dict[str, int]:
    found: dict[str, int] = {}
    for written in done:
        for path, count in written.rejected.items():
            found[path] = found.get(path, 0) + count
    return found


def _require_all(batch: Batch, done: Sequence[Written]) -> None:
    rows, rejects = (sum(f.rows for w in done for f in files(w)) for files in (lambda w: w.flows, lambda w: w.rejects))
    if batch.lines != rows + rejects:
        raise ContractError(f"{batch.lines} rows in, {rows} out and {rejects} rejected: they do not add up; nothing was kept")


def _require_same(files: Sequence[CapturedFile]) -> None:
    found = fs.LocalFileSystem().get_file_info([f.location for f in files])
    changed = [
        f"{f.name}: the file changed while it was read" for f, info in zip(files, found, strict=True)
        if (info.size, info.mtime_ns) != (f.size, f.changed_ns)
    ]
    raise_all(changed, SourceError, "cannot ingest")


def _require_few(batch: Batch, rejected: dict[str, int], most: float) -> None:
    total = sum(rejected.values())
    if total > most * batch.lines:
        worst = sorted(rejected, key=lambda path: -rejected[path])[:5]
        named = ", ".join(f"{path} ({rejected[path]})" for path in worst)
        raise SourceError(
            f"cannot ingest: {total} of {batch.lines} rows cannot be read, more than ingest.max_rejected_fraction ({most:g}) "
            f"allows; most of them in {named}; nothing was kept"
        )


def plan_change(state: TableState, table: Table, batch: Batch, taken: Taken, folder: Path, prefix: str) -> Change:
    """The change that makes a batch part of a table.

    Parameters
    ----------
    state : TableState
        The newest; may be newer than the one that the batch was planned on.
    folder : Path
        Where the table's files are.
    prefix : str
        Starts the name of files that are written again without some captures.

    Raises
    ------
    BusyError
        If another process has taken in one of the captures meanwhile.
    """
    ledger = Ledger.of(state)
    added = taken.flows if table is BRONZE_FLOWS else taken.rejects
    if batch.rebuild:
        if state.version not in batch.based_on:
            raise BusyError(f"{folder}: another process has changed the table meanwhile; run again")
        return Change(tuple(added), tuple(state.files), Ledger(taken.entries).as_property())
    drop = batch.drop | batch.stale
    if twice := sorted((set(taken.entries) & set(ledger.entries)) - drop):
        raise BusyError(f"{folder}: another process has taken in {twice[0]} meanwhile; run again")
    remove, kept = [], []
    if drop & set(ledger.entries):
        for file in state.files.values():
            remainder = without_captures(folder, file, drop, table, prefix)
            if remainder is not file:
                remove.append(file.path)
                kept += [remainder] if remainder else []
    ledger = ledger.with_entries(taken.entries, without=drop - set(taken.entries))
    return Change((*kept, *added), tuple(remove), ledger.as_property())
