"""Lines to rows or rejects, inside a Spark task.

Arrow's CSV reader parses a whole block. A block that it refuses, or that holds a number that is
not finite, is halved until the bad lines stand alone; only those are looked at in Python, to say
which column is wrong. Both paths round decimal text to the nearest double, so the same text gives
the same number whichever path it took.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from iomt_ids.contract.flows import source_header

_SMALL = 64
# What Arrow reads as a double: no hexadecimal, no underscores, no decimal comma, nan and inf not at all.
_NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")


@dataclass(frozen=True)
class Reject:
    """A line that is no row.

    Attributes
    ----------
    line : int
        Line in the file, counted from 1; the header is line 1.
    column : str or None
        The source's name of the offending column; None if the line as a whole is wrong.
    reason : str
        Why.
    raw : str
        The line as it was, bytes that are not UTF-8 as ``\\xNN``.
    """

    line: int
    column: str | None
    reason: str
    raw: str


@dataclass(frozen=True)
class Parsed:
    """What became of a block.

    Attributes
    ----------
    tables : list of Table
        Columns are the source's, all double, then ``source_line`` (int64).
    rejects : list of Reject
        The other lines.
    """

    tables: list[pa.Table]
    rejects: list[Reject]


def count_lines(data: bytes) -> int:
    """Lines in a block, the last one also if it does not end.

    Examples
    --------
    >>> count_lines(b"1,2\\n3,4\\n"), count_lines(b"1,2\\n3"), count_lines(b"")
    (2, 2, 0)
    """
    return data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)


def parse_block(data: bytes, first_line: int, release: str) -> Parsed:
    """Parse whole lines of one file.

    Parameters
    ----------
    data : bytes
        Lines without the header.
    first_line : int
        Number of the first of them in the file.
    release : str
        Gives the columns.

    Returns
    -------
    Parsed
        Rows and rejects together are `count_lines` of the data.
    """
    parsed = Parsed([], [])
    _parse(data, first_line, source_header(release), parsed)
    return parsed


def _parse(data: bytes, first_line: int, header: tuple[str, ...], parsed: Parsed) -> None:
    lines = count_lines(data)
    if lines == 0:
        return
    table = _fast(data, lines, header)
    if table is not None:
        parsed.tables.append(table.append_column("source_line", pa.array(np.arange(first_line, first_line + lines))))
    elif lines <= _SMALL:
        _slowly(data, first_line, header, parsed)
    else:
        middle = _middle(data)
        _parse(data[:middle], first_line, header, parsed)
        _parse(data[middle:], first_line + count_lines(data[:middle]), header, parsed)


def _middle(data: bytes) -> int:
    """Offset of a line start near the middle; more than one line is given, so there is one."""
    newline = data.find(b"\n", len(data) // 2)
    if newline < 0 or newline + 1 >= len(data):
        newline = data.rfind(b"\n", 0, len(data) - 1)
    return newline + 1


def _fast(data: bytes, lines: int, header: tuple[str, ...]) -> pa.Table | None:
    # A quote may hide a line end or a comma, a lone CR is a line end to Arrow, and a byte-order mark is nothing to it
    # at the start of a block but not a number within one: not for this path.
    if b'"' in data or data.startswith(b"\xef\xbb\xbf") or data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(column_names=list(header), use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_csv.ParseOptions(quote_char=False, newlines_in_values=False, ignore_empty_lines=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.float64()), null_values=[], strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowException):
        return None
    if table.num_rows != lines or any(c.null_count for c in table.columns):
        return None
    if not all(pc.all(pc.is_finite(c)).as_py() for c in table.columns):
        return None
    return table


def _slowly(data: bytes, first_line: int, header: tuple[str, ...], parsed: Parsed) -> None:
    rows: list[list[float]] = []
    numbers: list[int] = []
    pieces = data.split(b"\n")
    if data.endswith(b"\n"):
        pieces.pop()
    for offset, raw in enumerate(pieces):
        outcome = _row_or_reject(raw, first_line + offset, header)
        if isinstance(outcome, Reject):
            parsed.rejects.append(outcome)
        else:
            rows.append(outcome)
            numbers.append(first_line + offset)
    if rows:
        columns = [pa.array(column, pa.float64()) for column in zip(*rows, strict=True)]
        parsed.tables.append(pa.table([*columns, pa.array(numbers, pa.int64())], names=[*header, "source_line"]))


def _row_or_reject(raw: bytes, line: int, header: tuple[str, ...]) -> list[float] | Reject:
    shown = raw.decode("utf-8", errors="backslashreplace")
    text = raw.removesuffix(b"\r").decode("utf-8", errors="replace")
    if not text.strip():
        return Reject(line, None, "empty line", shown)
    if "\0" in text or "\ufffd" in text:
        return Reject(line, None, "not text: NUL or bytes that are not UTF-8", shown)
    try:
        fields = next(csv.reader([text], strict=True))
    except csv.Error as error:
        return Reject(line, None, f"not CSV: {error}", shown)
    if len(fields) != len(header):
        return Reject(line, None, f"{len(fields)} fields, wanted {len(header)}", shown)
    values = []
    for column, field in zip(header, fields, strict=True):
        problem = _problem_of(field)
        if problem:
            return Reject(line, column, f"{problem}: {field[:80]!r}", shown)
        values.append(float(field))
    return values


def _problem_of(field: str) -> str | None:
    if not field.strip():
        return "missing value"
    if field.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return "not finite"
    if not _NUMBER.fullmatch(field):
        return "not a number"
    return None if math.isfinite(float(field)) else "not finite"
