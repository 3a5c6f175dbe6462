"""Which files may be read: everything that can be refused is refused here, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iomt_ids.contract.errors import SourceError, raise_all
from iomt_ids.contract.flows import RELEASES, source_header
from iomt_ids.ingest.source import Capture, Source
from iomt_ids.ingest.unpack import PACKINGS, Limits, UnpackError, open_content, packing_of

HEADER_BYTES = 65_536
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CapturedFile:
    """A file that may be read: its capture, its release, where its rows are.

    Attributes
    ----------
    capture : Capture
        What its name says.
    location : str
        Absolute path.
    release : str
        One of `contract.flows.RELEASES`.
    size : int
        Bytes on disk.
    changed_ns : int
        When it was last written, nanoseconds since 1970.
    body : int
        Byte offset of the first row, in the unpacked content.
    packing : str or None
        ``gz``, ``zst`` or ``zip``; None for plain text.
    """

    capture: Capture
    location: str
    release: str
    size: int
    changed_ns: int
    body: int
    packing: str | None = None

    @property
    def name(self) -> str:
        """Path below the data folder, as it is on disk."""
        return f"{self.capture.path}.{self.packing}" if self.packing else self.capture.path


def find_files(folder: Path, source: Source, limits: Limits) -> list[CapturedFile]:
    """Every file of a data folder, named, typed and ready to be read.

    Parameters
    ----------
    folder : Path
        The data folder.
    source : Source
        Gives the files' pattern; the same names packed (``.gz``, ``.zst``, ``.zip``) are found as well.
    limits : Limits
        How much a packed file may hold.

    Raises
    ------
    SourceError
        Naming at once every unknown name, empty file and wrong header, or the folder itself if it does not
        exist or holds no file of the source.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder")
    patterns = [source.glob, *(f"{source.glob}.{packing}" for packing in PACKINGS)]
    paths = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    if not paths:
        raise SourceError(f"{folder}: no file matches {source.glob}")
    found: list[CapturedFile] = []
    problems: list[str] = []
    named: dict[str, str] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        packing = packing_of(name)
        plain = name.removesuffix(f".{packing}")
        if plain in named:
            problems.append(f"{name}: the same capture as {named[plain]}; keep one of them")
            continue
        named[plain] = name
        capture = source.describe(plain)
        if isinstance(capture, str):
            problems.append(capture)
            continue
        release, body, wrong = read_header(path, name, limits)
        problems += wrong
        if release is not None:
            facts = path.stat()
            found.append(CapturedFile(capture, str(path.resolve()), release, facts.st_size, facts.st_mtime_ns, body, packing))
    raise_all(problems, SourceError, f"cannot ingest {folder}")
    return found


def read_header(path: Path, name: str, limits: Limits) -> tuple[str | None, int, list[str]]:
    """A file's release and the offset of its first row, or what is wrong with its header.

    Returns
    -------
    release : str or None
        None if the header is no known release's.
    body : int
        Offset in bytes of the first row.
    problems : list of str
        Sentences that name the file, line 1 and each column.
    """
    try:
        with open_content(str(path), packing_of(name), limits) as content:
            start = content.read(HEADER_BYTES)
    except UnpackError as error:
        return None, 0, [f"{name}: {error}"]
    if not start.strip():
        return None, 0, [f"{name}: the file is empty"]
    line, end, _ = start.partition(b"\n")
    try:
        text = line.removeprefix(_BOM).decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        return None, 0, [f"{name}, line 1: the header is not UTF-8 text (byte {error.start}){_encoding(start)}"]
    if wrong := _not_a_line(text, start):
        return None, 0, [f"{name}, line 1: {wrong}"]
    header = tuple(text.split(","))
    for release in RELEASES:
        if header == source_header(release):
            return release, len(line) + len(end), []
    return None, 0, [f"{name}, line 1: {sentence}" for sentence in _header_problems(header)]


def _not_a_line(text: str, start: bytes) -> str | None:
    if "\0" in text:
        return f"the header holds NUL{_encoding(start)}"
    if "\r" in text:
        return "lines end in CR alone, wanted LF or CR LF"
    return None


def _encoding(start: bytes) -> str:
    is_utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff")) or start[1:8:2] == b"\0\0\0\0" or start[0:8:2] == b"\0\0\0\0"
    return "; it looks like UTF-16, wanted UTF-8" if is_utf16 else ""


def _header_problems(header: tuple[str, ...]) -> list[str]:
    # The release it was meant to be is the one it shares most columns with.
    release = max(RELEASES, key=lambda r: (len(set(header) & set(source_header(r))), -len(source_header(r))))
    wanted = source_header(release)
    problems = []
    if missing := [c for c in wanted if c not in header]:
        problems.append(f"missing column {_quoted(missing)}")
    if unknown := [c for c in header if c not in wanted]:
        problems.append(f"unknown column {_quoted(unknown)}")
    if doubled := sorted({c for c in header if header.count(c) > 1}):
        problems.append(f"column given twice {_quoted(doubled)}")
    # Places are compared among the columns that both have, or one missing column would misplace all after it.
    present = [c for c in dict.fromkeys(header) if c in wanted]
    if moved := [h for h, w in zip(present, [c for c in wanted if c in present], strict=True) if h != w]:
        problems.append(f"misplaced column {_quoted(moved)}")
    return [f"{p} (compared with release {release}, {len(wanted)} columns)" for p in problems]


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{n[:80]}'" for n in names)
