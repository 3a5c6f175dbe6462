"""Every line becomes a row or a reject, whichever path reads it and wherever it is cut."""

from __future__ import annotations

import math
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iomt_ids.contract.flows import source_header
from iomt_ids.ingest import parse
from iomt_ids.ingest.parse import Parsed, Reject, count_lines, parse_block

_HEADER = source_header("v2")
_N = len(_HEADER)


def line(*, at: dict[str, str] | None = None) -> bytes:
    """A good line without its end; a test names only the fields it is about."""
    fields = {name: f"{i}.5" for i, name in enumerate(_HEADER)} | (at or {})
    return ",".join(fields[name] for name in _HEADER).encode()


def rows_of(parsed: Parsed) -> dict[int, tuple[bytes, ...]]:
    """Rows by line number, every number as its eight bytes: -0.0 is not 0.0."""
    found: dict[int, tuple[bytes, ...]] = {}
    for table in parsed.tables:
        numbers = table.column("source_line").to_pylist()
        columns = [table.column(name).to_pylist() for name in _HEADER]
        for number, *values in zip(numbers, *columns, strict=True):
            assert number not in found
            found[number] = tuple(struct.pack("<d", value) for value in values)
    return found


def slowly(data: bytes, first_line: int = 2) -> Parsed:
    """The same block, read by the slow path alone."""
    parsed = Parsed([], [])
    parse._slowly(data, first_line, _HEADER, parsed)
    return parsed


# What people, programs and broken disks write where a number should be.
_NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.30e}"),
    st.integers().map(str),
    st.tuples(st.integers(0, 10**25), st.integers(-340, 340)).map(lambda p: f"{p[0]}e{p[1]}"),
    st.sampled_from(["1.", ".5", "+1", "-0", "-0.0", " 1.5\t", "1E5", "5e-324", "1e-400", "00012", "0.1" + "0" * 400]),
).filter(lambda text: math.isfinite(float(text)))
_NOT_NUMBERS = st.one_of(
    st.sampled_from(["", " ", "nan", "-NaN", "inf", "-Infinity", "1e999", "0x10", "1_0", "1,5", "None", "NULL", "1d5",
                     "e5", ".", "1e", "--1", "١", "\ufeff1", "\0", "1\x0b", '"1"', '"1', "1 2", "\r", "1\r"]),
    st.text(max_size=6).filter(lambda text: "\n" not in text),
)
_GOOD = st.lists(st.one_of(_NUMBERS, st.just("1.5")), min_size=3, max_size=3).map(
    lambda cells: line(at=dict(zip(_HEADER, cells, strict=False)))
)
_LINES = st.one_of(
    _GOOD, _GOOD, _GOOD.map(lambda text: text + b"\r"),
    st.tuples(st.sampled_from(_HEADER), _NOT_NUMBERS).map(lambda p: line(at={p[0]: p[1]})),
    st.sampled_from([
        b"", b"\r", b"  ", b"\xff", b"\0", b"\xef\xbb\xbf" + line(), line() + b",1", line()[:-3], b",".join([b""] * _N),
    ]),
    st.binary(max_size=12).filter(lambda raw: b"\n" not in raw),
)
_BLOCKS = st.tuples(st.lists(_LINES, max_size=12), st.integers(0, 40), st.booleans()).map(
    # Good lines around the odd ones, so that blocks are halved.
    lambda p: b"\n".join([line()] * p[1] + p[0] + [line()] * p[1]) + (b"\n" if p[2] else b"")
)


@settings(max_examples=150, deadline=None)
@given(_BLOCKS, st.integers(1, 10**12))
def test_rows_and_rejects_are_all_lines_each_with_its_number(data: bytes, first_line: int) -> None:
    parsed = parse_block(data, first_line, "v2")
    numbers = [*rows_of(parsed), *(reject.line for reject in parsed.rejects)]
    assert sorted(numbers) == list(range(first_line, first_line + count_lines(data)))
    lines = data.split(b"\n")
    for reject in parsed.rejects:
        assert reject.reason
        assert reject.raw == lines[reject.line - first_line].decode("utf-8", errors="backslashreplace")


@settings(max_examples=150, deadline=None)
@given(_BLOCKS.filter(bool))
def test_both_paths_give_the_same_bits_and_the_same_rejects(data: bytes) -> None:
    fast, slow = parse_block(data, 2, "v2"), slowly(data)
    assert rows_of(fast) == rows_of(slow)
    assert sorted(fast.rejects, key=lambda r: r.line) == slow.rejects


@settings(max_examples=100, deadline=None)
@given(_BLOCKS, st.data())
def test_a_block_cut_at_any_line_gives_the_same_rows(data: bytes, draw: st.DataObject) -> None:
    starts = [i + 1 for i, byte in enumerate(data[:-1]) if byte == ord("\n")]
    cut = draw.draw(st.sampled_from(starts)) if starts else 0
    whole = parse_block(data, 2, "v2")
    head, tail = parse_block(data[:cut], 2, "v2"), parse_block(data[cut:], 2 + count_lines(data[:cut]), "v2")
    assert rows_of(head) | rows_of(tail) == rows_of(whole)
    assert sorted(head.rejects + tail.rejects, key=lambda r: r.line) == sorted(whole.rejects, key=lambda r: r.line)


@settings(max_examples=80, deadline=None)
@given(st.lists(_NUMBERS, min_size=_N, max_size=_N))
def test_a_number_is_the_double_nearest_to_its_text(cells: list[str]) -> None:
    (row,) = rows_of(parse_block(",".join(cells).encode(), 2, "v2")).values()
    assert row == tuple(struct.pack("<d", float(cell)) for cell in cells)


def test_good_lines_take_the_fast_path_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "_slowly", lambda *_: pytest.fail("the slow path read good lines"))
    for end in (b"\n", b"\r\n"):
        parsed = parse_block((line() + end) * 500 + line(), 2, "v2")
        (table,) = parsed.tables
        assert (table.num_rows, parsed.rejects) == (501, [])
        assert {table.schema.field(name).type for name in _HEADER} == {pa.float64()}


def test_only_the_neighbours_of_a_bad_line_take_the_slow_path(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_bytes = []
    real = parse._slowly
    monkeypatch.setattr(parse, "_slowly", lambda data, *more: (slow_bytes.append(len(data)), real(data, *more)))
    good = line() + b"\n"
    parsed = parse_block(good * 4000 + b"bad\n" + good * 4000, 2, "v2")
    assert [r.line for r in parsed.rejects] == [4002]
    assert sum(slow_bytes) <= 64 * len(good)


@pytest.mark.parametrize(("raw", "column", "reason"), [
    (b"", None, "empty line"),
    (b" \t", None, "empty line"),
    (b"\r", None, "empty line"),
    (b"1,2,3", None, f"3 fields, wanted {_N}"),
    (line() + b",", None, f"{_N + 1} fields, wanted {_N}"),
    (line(at={"Rate": "nan"}), "Rate", "not finite: 'nan'"),
    (line(at={"Rate": "-Inf"}), "Rate", "not finite: '-Inf'"),
    (line(at={"Rate": "1e999"}), "Rate", "not finite: '1e999'"),
    (line(at={"IAT": "0x1F"}), "IAT", "not a number: '0x1F'"),
    (line(at={"IAT": "1_000"}), "IAT", "not a number: '1_000'"),
    (line(at={"IAT": "benign"}), "IAT", "not a number: 'benign'"),
    (line(at={"Std": ""}), "Std", "missing value: ''"),
    (line(at={"Std": "\0"}), None, "not text: NUL or bytes that are not UTF-8"),
    (line() + b"\xff", None, "not text: NUL or bytes that are not UTF-8"),
    (line(at={"Variance": '"1'}), None, "not CSV: unexpected end of data"),
    (b"\xef\xbb\xbf" + line(at={"Header_Length": "1"}), "Header_Length", "not a number: '\\ufeff1'"),
])
def test_a_reject_says_which_column_is_wrong_and_why(raw: bytes, column: str | None, reason: str) -> None:
    parsed = parse_block(line() + b"\n" + raw + b"\n" + line(), 7, "v2")
    shown = raw.decode("utf-8", errors="backslashreplace")
    assert parsed.rejects == [Reject(8, column, reason, shown)]
    assert sorted(rows_of(parsed)) == [7, 9]


def test_a_quoted_number_is_a_number() -> None:
    (row,) = rows_of(parse_block(line(at={"Rate": '"2.25"'}) + b"\n", 2, "v2")).values()
    assert row[_HEADER.index("Rate")] == struct.pack("<d", 2.25)


def test_a_byte_order_mark_within_a_file_is_refused_also_at_the_start_of_a_block() -> None:
    parsed = parse_block(b"\xef\xbb\xbf" + line() + b"\n", 2, "v2")
    assert [r.line for r in parsed.rejects] == [2]


def test_a_block_without_lines_has_no_rows() -> None:
    assert parse_block(b"", 2, "v1") == Parsed([], [])


def test_an_unfinished_last_line_is_a_line() -> None:
    assert (count_lines(b"1\n2"), count_lines(b"1\n2\n"), count_lines(b"\n"), count_lines(b"")) == (2, 2, 1, 0)


def test_a_tiny_number_becomes_zero_and_stays_a_row() -> None:
    (row,) = rows_of(parse_block(line(at={"Rate": "1e-400"}), 2, "v2")).values()
    assert math.copysign(1.0, struct.unpack("<d", row[_HEADER.index("Rate")])[0]) == 1.0
