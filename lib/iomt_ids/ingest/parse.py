"""Lines to rows or rejects, inside a Spark task.

`scan` reads the plain lines of a block in one pass and says where the others are; only those are looked at in Python, which
reads what is merely unusual (quotes, blanks, more digits than a double holds) and says of the rest which column is wrong. A
record is one line of the file: every column is a number, so a line end inside quotes is never part of a value, and a file may
be cut at any line end. Both ways round decimal text to the nearest double.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass

import numpy as np

from iomt_ids.contract.flows import IN_ORDER, ROUNDING, columns_of, source_header
from iomt_ids.ingest.scan import scan_lines

# A decimal number and nothing else: no hexadecimal, no underscores, no decimal comma, nan and inf not at all.
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
    values : ndarray of float64, shape (columns, rows)
        In the order of the release's header; rows in the order of the file.
    lines : ndarray of int64, shape (rows,)
        The line of each row in the file, counted from 1.
    rejects : list of Reject
        The other lines, in the order of the file.
    """

    values: np.ndarray
    lines: np.ndarray
    rejects: list[Reject]


def count_lines(data: bytes) -> int:
    """Lines in a block, the last one also if it does not end.

    Examples
    --------
    >>> count_lines(b"1,2\\n3,4\\n"), count_lines(b"1,2\\n3"), count_lines(b"")
    (2, 2, 0)
    """
    return data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)


def parse_block(data: bytes, first_line: int, release: str, lines: int | None = None) -> Parsed:
    """Parse whole lines of one file.

    Parameters
    ----------
    data : bytes
        Lines without the header.
    first_line : int
        Number of the first of them in the file.
    release : str
        Gives the columns and what they may hold.
    lines : int, optional
        How many lines there are, if that is known.

    Returns
    -------
    Parsed
        Rows and rejects together are `count_lines` of the data.
    """
    count = count_lines(data) if lines is None else lines
    if data and not data.endswith(b"\n"):
        data += b"\n"
    columns = columns_of(release)
    values, places = np.empty((len(columns), count)), np.empty(count, np.int64)
    odd = np.empty((count, 3), np.int64)
    limits = np.array([c.limits for c in columns])
    names = [c.name for c in columns]
    ordered = np.array([names.index(name) for name in IN_ORDER])
    # The scanner looks up to eight bytes ahead, which behind the last lines must be there.
    rest = data[data.rfind(b"\n", 0, max(0, len(data) - 8)) + 1:] + bytes(8)
    text, last = (np.frombuffer(part, np.uint8) for part in (data, rest))
    rows, others = scan_lines(text, last, values, places, odd, limits, ordered, ROUNDING)
    values, places = values[:, :rows], places[:rows] + first_line
    read, rejects = _look_at(data, odd[:others], first_line, release)
    if read:
        late = np.array(sorted(read))
        values = np.concatenate([values, np.array([read[line] for line in late]).T], axis=1)
        places = np.concatenate([places, late])
        order = np.argsort(places, kind="stable")
        values, places = values[:, order], places[order]
    return Parsed(values, places, rejects)


def _look_at(data: bytes, odd: np.ndarray, first_line: int, release: str) -> tuple[dict[int, list[float]], list[Reject]]:
    read: dict[int, list[float]] = {}
    rejects = []
    for line, start, end in odd.tolist():
        outcome = read_line(data[start:end], first_line + line, release)
        if isinstance(outcome, Reject):
            rejects.append(outcome)
        else:
            read[first_line + line] = outcome
    return read, rejects


def read_line(raw: bytes, line: int, release: str) -> list[float] | Reject:
    """One line without its LF, read with patience.

    Returns
    -------
    list of float or Reject
        A value a column, or what is wrong.
    """
    header = source_header(release)
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
    wrong = _impossible(values, release)
    return Reject(line, wrong[0], wrong[1], shown) if wrong else values


def _problem_of(field: str) -> str | None:
    if not field.strip():
        return "missing value"
    if field.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return "not finite"
    if not _NUMBER.fullmatch(field):
        return "not a number"
    return None if math.isfinite(float(field)) else "not finite"


def _impossible(values: list[float], release: str) -> tuple[str, str] | None:
    columns = columns_of(release)
    for column, value in zip(columns, values, strict=True):
        least, most = column.limits
        if not least <= value <= most:
            allowed = f"{least:g} to {most:g}" if most < math.inf else f"{least:g} or more"
            return getattr(column, release), f"impossible value {value!r}, wanted {allowed}"
    by_name = {c.name: (getattr(c, release), value) for c, value in zip(columns, values, strict=True)}
    (low, least), (middle, mean), (high, most) = (by_name[name] for name in IN_ORDER)
    if not (least <= mean + ROUNDING * most and mean <= most + ROUNDING * most):
        return middle, f"impossible values: {low} {least!r}, {middle} {mean!r}, {high} {most!r} are not in this order"
    return None
