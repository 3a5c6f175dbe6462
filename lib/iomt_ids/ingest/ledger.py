"""Which files a table has taken in, kept in the table's own properties, so that rows and ledger change in one commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iomt_ids.contract.commit import TableState
from iomt_ids.ingest.plan import CapturedFile

# Another name for digests of another kind: a table without this property is read again.
PROPERTY = "iomt_ids.ledger.xxh3"
# A file written this shortly before it was read could be written again within the same tick of the clock.
_RACY_NS = 2_000_000_000


@dataclass(frozen=True)
class Entry:
    """What was read of one capture.

    Attributes
    ----------
    size : int
        Bytes on disk.
    changed_ns : int
        When it was last written; 0 if that was too shortly before it was read to be trusted.
    digest : str
        Names its content, see `ingest.blocks`.
    lines, rejected : int
        Lines without the header, and how many of them are rejects.
    """

    size: int
    changed_ns: int
    digest: str
    lines: int
    rejected: int

    @classmethod
    def of(cls, file: CapturedFile, digest: str, lines: int, rejected: int, *, now_ns: int) -> Entry:
        """The entry of a file read at `now_ns`."""
        return cls(file.size, file.changed_ns if now_ns - file.changed_ns > _RACY_NS else 0, digest, lines, rejected)


@dataclass(frozen=True)
class Ledger:
    """Entries by capture."""

    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, state: TableState) -> Ledger:
        """The ledger in a table's properties; empty if there is none."""
        found = json.loads(state.properties.get(PROPERTY, "{}"))
        return cls({path: Entry(*values) for path, values in found.items()})

    @property
    def lines(self) -> int:
        """Lines of all captures."""
        return sum(e.lines for e in self.entries.values())

    @property
    def rejected(self) -> int:
        """Rejected lines of all captures."""
        return sum(e.rejected for e in self.entries.values())

    def with_entries(self, entries: Mapping[str, Entry], without: Iterable[str] = ()) -> Ledger:
        """A copy with some entries more or changed, and some gone."""
        gone = set(without)
        return Ledger({path: e for path, e in {**self.entries, **entries}.items() if path not in gone})

    def as_property(self) -> dict[str, str]:
        """The property to store."""
        values = {p: [e.size, e.changed_ns, e.digest, e.lines, e.rejected] for p, e in sorted(self.entries.items())}
        return {PROPERTY: json.dumps(values, separators=(",", ":"))}


@dataclass(frozen=True)
class Work:
    """What a run has to do with each file.

    Attributes
    ----------
    read : list of CapturedFile
        New captures.
    compare : list of CapturedFile
        Known captures whose size or date is another: their content decides.
    gone : list of str
        Captures in the ledger that are no longer in the folder.
    """

    read: list[CapturedFile]
    compare: list[CapturedFile]
    gone: list[str]


def plan_work(files: Iterable[CapturedFile], ledger: Ledger) -> Work:
    """Compare a folder with the ledger without reading a file."""
    found = {f.capture.path: f for f in files}
    new = [f for path, f in found.items() if path not in ledger.entries]
    touched = [
        f for path, f in found.items()
        if path in ledger.entries and (f.size, f.changed_ns) != (ledger.entries[path].size, ledger.entries[path].changed_ns)
    ]
    return Work(new, touched, [path for path in ledger.entries if path not in found])
