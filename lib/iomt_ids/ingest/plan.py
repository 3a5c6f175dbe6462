"""Which lines of which files become rows: everything that can be refused is refused here, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from iomt_ids.contract.errors import SourceError, raise_all
from iomt_ids.contract.flows import RELEASES, source_header
from iomt_ids.ingest.source import Capture, Source

_HEADER_LIMIT = 65_536


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
        Bytes.
    body : int
        Byte offset of the first row.
    """

    capture: Capture
    location: str
    release: str
    size: int
    body: int


def find_files(folder: Path, source: Source) -> list[CapturedFile]:
    """Every file of a data folder, named, typed and ready to be read.

    Raises
    ------
    SourceError
        Naming at once every unknown name, empty file and wrong header, or the folder itself if it does not
        exist or holds no file of the source.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder")
    paths = sorted(p for p in folder.glob(source.glob) if p.is_file())
    if not paths:
        raise SourceError(f"{folder}: no file matches {source.glob}")
    found: list[CapturedFile] = []
    problems: list[str] = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        capture = source.describe(name)
        if isinstance(capture, str):
            problems.append(capture)
            continue
        release, body, wrong = read_header(path, name)
        problems += wrong
        if release is not None:
            found.append(CapturedFile(capture, str(path.resolve()), release, path.stat().st_size, body))
    raise_all(problems, SourceError, f"cannot ingest {folder}")
    return found


def read_header(path: Path, name: str) -> tuple[str | None, int, list[str]]:
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
    with fs.LocalFileSystem().open_input_file(str(path)) as file:
        start = file.read(_HEADER_LIMIT)
    if not start.strip():
        return None, 0, [f"{name}: the file is empty"]
    line, _, _ = start.partition(b"\n")
    body = min(len(line) + 1, path.stat().st_size)
    bom = b"\xef\xbb\xbf"
    try:
        text = line.removeprefix(bom).decode("utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        return None, 0, [f"{name}, line 1: the header is not UTF-8 text (byte {error.start})"]
    header = tuple(text.split(","))
    for release in RELEASES:
        if header == source_header(release):
            return release, body, []
    return None, 0, [f"{name}, line 1: {sentence}" for sentence in _header_problems(header)]


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
    return ", ".join(f"'{n}'" for n in names)


@dataclass(frozen=True)
class Block:
    """Whole lines of one file, for one task to parse.

    Attributes
    ----------
    file : CapturedFile
        Where they are.
    start, end : int
        Byte offsets; ``start`` is the first byte of a line, ``end`` that of the next block's first line.
    """

    file: CapturedFile
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def cut_blocks(files: list[CapturedFile], block_bytes: int) -> list[Block]:
    """Cut files at line ends into blocks of about `block_bytes`."""
    return [block for file in files for block in _blocks_of(file, block_bytes)]


def _blocks_of(file: CapturedFile, block_bytes: int) -> Iterator[Block]:
    if file.size <= file.body:
        return
    with fs.LocalFileSystem().open_input_file(file.location) as opened:
        start = file.body
        while start < file.size:
            end = _next_line(opened, start + block_bytes, file.size)
            yield Block(file, start, end)
            start = end


def _next_line(opened: object, offset: int, size: int) -> int:
    """Offset of the first line that starts at or after `offset`; the file's size if there is none."""
    probe = max(0, offset - 1)
    while probe < size:
        chunk = opened.read_at(min(_HEADER_LIMIT, size - probe), probe)  # type: ignore[attr-defined]
        newline = chunk.find(b"\n")
        if newline >= 0:
            return probe + newline + 1
        probe += len(chunk)
    return size


def pack_blocks(blocks: list[Block], bins: int) -> list[list[Block]]:
    """Spread blocks over at most `bins` tasks of about equal bytes, repeatably."""
    packed: list[list[Block]] = [[] for _ in range(max(1, min(bins, len(blocks))))]
    filled = [0] * len(packed)
    for block in sorted(blocks, key=lambda b: (-b.size, b.file.capture.path, b.start)):
        lightest = filled.index(min(filled))
        packed[lightest].append(block)
        filled[lightest] += block.size
    return packed
