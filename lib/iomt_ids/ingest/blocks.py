"""Where lines begin, how many there are and what a file's content is, found in one parallel pass; then blocks for tasks.

A file is looked at in pieces of fixed size. Each gives the number of its line ends, the place of the first of them and a
digest; a block begins behind the first line end of one piece and ends behind that of a later one, so that tasks get whole
lines and every line knows its number. The digests of all pieces, hashed again, name the file's content: by XXH3 of 128 bits, which
tells a changed file from the same one. Who can write into the folder needs no collision to have other rows read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pyarrow import fs
from pyspark.sql import SparkSession
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from iomt_ids.ingest.parse import count_lines
from iomt_ids.ingest.plan import CapturedFile
from iomt_ids.ingest.unpack import Limits, UnpackError, open_content

PIECE_BYTES = 4 << 20
# Far beyond any row; a file without line ends must not be read into memory whole.
MOST_LINE_BYTES = 64 << 20
_CACHED_BYTES = 256 << 10
_TOO_LONG = f"a line is longer than {MOST_LINE_BYTES >> 20} MiB"


@dataclass(frozen=True)
class Block:
    """Whole lines of one file, for one task to parse.

    Attributes
    ----------
    file : CapturedFile
        Where they are.
    start, end : int
        Byte offsets; ``start`` is the first byte of a line, ``end`` that of the next block's first line. A packed file is
        one block, in offsets of its content.
    first_line : int
        Number of the first line in the file; the header is line 1.
    lines : int
        How many there are.
    """

    file: CapturedFile
    start: int
    end: int
    first_line: int
    lines: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Surveyed:
    """What a file holds.

    Attributes
    ----------
    file : CapturedFile
    digest : str
        Names its content; the same for the same bytes.
    blocks : tuple of Block
        Its lines without the header.
    ends : bool
        Whether the last line ends as the others do.
    """

    file: CapturedFile
    digest: str
    blocks: tuple[Block, ...]
    ends: bool

    @property
    def lines(self) -> int:
        """Lines without the header."""
        return sum(block.lines for block in self.blocks)


@dataclass(frozen=True)
class _Piece:
    digest: bytes
    newlines: int
    first: int  # place behind the first line end; -1 if there is none
    ends: bool


def survey_files(
    spark: SparkSession, files: Sequence[CapturedFile], limits: Limits, *, block_bytes: int, tasks: int,
    piece_bytes: int = PIECE_BYTES,
) -> tuple[list[Surveyed], list[str]]:
    """Count, hash and cut files, in parallel.

    Returns
    -------
    list of Surveyed
        In the order given, without the files that cannot be read.
    list of str
        What is wrong with those.
    """
    plain = [f for f in files if f.packing is None]
    packed = [f for f in files if f.packing is not None]
    pieces = [(f.location, start, piece_bytes, f.body) for f in plain for start in range(0, f.size, piece_bytes)]
    found = iter(_in_parallel(spark, _look_at_piece, pieces, tasks))
    outcomes = {
        f.location: _cut(f, [next(found) for _ in range(0, f.size, piece_bytes)], piece_bytes, block_bytes) for f in plain
    }
    looked = _in_parallel(spark, lambda f: _look_at_packed(f, limits, piece_bytes), packed, tasks)
    outcomes |= {f.location: outcome for f, outcome in zip(packed, looked, strict=True)}
    problems = [f"{f.name}: {o}" for f in files if isinstance(o := outcomes[f.location], str)]
    return [o for f in files if isinstance(o := outcomes[f.location], Surveyed)], problems


def read_block(block: Block, limits: Limits, block_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """The lines of a block, in parts that fit in memory.

    Yields
    ------
    (int, int, bytes)
        Number of the first line, how many there are, and whole lines.
    """
    if block.file.packing is None:
        with fs.LocalFileSystem().open_input_file(block.file.location) as file:
            yield block.first_line, block.lines, file.read_at(block.size, block.start)
        return
    line = block.first_line
    for part in _whole_lines(block.file, limits, block_bytes):
        lines = count_lines(part)
        yield line, lines, part
        line += lines


def pack_blocks(blocks: Sequence[Block], tasks: int) -> list[list[Block]]:
    """Spread blocks over at most `tasks` of about equal bytes, repeatably, those of one partition side by side."""

    def place_of(block: Block) -> tuple[str, str, str, str, int]:
        capture = block.file.capture
        return capture.split, capture.category, block.file.release, capture.path, block.start

    ordered = sorted(blocks, key=place_of)
    total = sum(b.size for b in ordered)
    packed: list[list[Block]] = []
    before = 0
    for block in ordered:
        # By the middle of a block, so that the last task is not given all that was rounded away.
        place = (before + block.size // 2) * tasks // max(1, total)
        if not packed or place >= len(packed):
            packed.append([])
        packed[-1].append(block)
        before += block.size
    return packed


def _in_parallel(spark: SparkSession, look: Callable, items: Sequence, tasks: int) -> list:
    if not items:
        return []
    # A few tasks a core, so that progress shows and cores end together; each gets large and small ones from everywhere.
    slices = min(len(items), 4 * tasks)
    order = [place for first in range(slices) for place in range(first, len(items), slices)]
    found = spark.sparkContext.parallelize([items[place] for place in order], slices).map(look).collect()
    return [outcome for _, outcome in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]


def _look_at_piece(piece: tuple[str, int, int, int]) -> _Piece:
    location, start, size, body = piece
    with fs.LocalFileSystem().open_input_file(location) as file:
        data = file.read_at(size, start)
    # Line ends of the header are not counted, nor what stands before it.
    skip = max(0, min(body - start, len(data)))
    first = data.find(b"\n", skip)
    line_ends = _count_line_ends(data, skip)
    return _Piece(xxh3_128_digest(data), line_ends, first + 1 + start if first >= 0 else -1, data.endswith(b"\n"))


def _count_line_ends(data: bytes, start: int) -> int:
    text = np.frombuffer(data, np.uint8)
    # What a comparison gives stays in the processor's cache: the kernel would have to find room for that of a whole piece.
    windows = (text[at : at + _CACHED_BYTES] for at in range(start, text.size, _CACHED_BYTES))
    return sum(int(np.count_nonzero(window == ord("\n"))) for window in windows)


def _cut(file: CapturedFile, pieces: Sequence[_Piece], piece_bytes: int, block_bytes: int) -> Surveyed | str:
    blocks: list[Block] = []
    start, line, newlines, without = file.body, 2, 0, 0
    for place, piece in enumerate(pieces):
        without = 0 if piece.first >= 0 else without + piece_bytes
        if without > MOST_LINE_BYTES:
            return _TOO_LONG
        # The first line end of a piece belongs to the line that the pieces before began.
        if piece.first > start and newlines and place * piece_bytes - start >= block_bytes:
            blocks.append(Block(file, start, piece.first, line, newlines + 1))
            line += newlines + 1
            start, newlines = piece.first, piece.newlines - 1
        else:
            newlines += piece.newlines
    ends = not pieces or pieces[-1].ends or file.size <= file.body
    if start < file.size:
        blocks.append(Block(file, start, file.size, line, newlines + (0 if ends else 1)))
    return Surveyed(file, _digest(p.digest for p in pieces), tuple(blocks), ends)


def _digest(pieces: Iterable[bytes]) -> str:
    """The name of a file's content, from the digests of its pieces."""
    return xxh3_128_hexdigest(b"".join(pieces))


def _look_at_packed(file: CapturedFile, limits: Limits, piece_bytes: int) -> Surveyed | str:
    lines, size, ends = 0, 0, True
    try:
        for part in _whole_lines(file, limits, piece_bytes):
            lines += count_lines(part)
            size += len(part)
            ends = part.endswith(b"\n")
    except UnpackError as error:
        return str(error)
    digests = []
    with fs.LocalFileSystem().open_input_file(file.location) as raw:
        while data := raw.read(piece_bytes):
            digests.append(xxh3_128_digest(data))
    block = Block(file, file.body, file.body + size, 2, lines)
    return Surveyed(file, _digest(digests), (block,) if lines else (), ends)


def _whole_lines(file: CapturedFile, limits: Limits, part_bytes: int) -> Iterator[bytes]:
    with open_content(file.location, file.packing, limits) as content:
        content.read(file.body)
        held = b""
        while data := content.read(part_bytes):
            whole, end, rest = (held + data).rpartition(b"\n")
            if end:
                yield whole + end
            held = rest
            if len(held) > MOST_LINE_BYTES:
                raise UnpackError(_TOO_LONG)
        if held:
            yield held
