"""Every line becomes a row or a reject, whichever path reads it and wherever it is cut."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iomt_ids.contract.flows import columns_of, source_header
from iomt_ids.ingest import parse
from iomt_ids.ingest.parse import Parsed, Reject, count_lines, parse_block, read_line
from iomt_ids.ingest.scan import nearest_double

_HEADER = source_header("v2")
_N = len(_HEADER)


_FRACTIONS = {c.v2 for c in columns_of("v2") if c.limits[1] == 1}
_BOUND = {c.v2 for c in columns_of("v2") if c.limits[0] == 0} | {"AVG"}
_FREE = [name for name in _HEADER if name not in _BOUND]


def line(*, at: dict[str, str] | None = None) -> bytes:
    """A good line without its end; a test names only the fields it is about."""
    fields = {name: "0.25" if name in _FRACTIONS else f"{i}.5" for i, name in enumerate(_HEADER)}
    fields |= {"Min": "1.5", "AVG": "2.5", "Max": "3.5"} | (at or {})
    return ",".join(fields[name] for name in _HEADER).encode()


def rows_of(parsed: Parsed) -> dict[int, tuple[bytes, ...]]:
    """Rows by line number, every number as its eight bytes: -0.0 is not 0.0."""
    assert list(parsed.lines) == sorted(set(parsed.lines.tolist()))
    rows = parsed.values.T.tolist()
    return {n: tuple(struct.pack("<d", v) for v in row) for n, row in zip(parsed.lines.tolist(), rows, strict=True)}


def patiently(data: bytes, first_line: int = 2) -> tuple[dict[int, tuple[bytes, ...]], list[Reject]]:
    """The same block, read line by line in Python: the second parser."""
    pieces = data.split(b"\n")
    if data.endswith(b"\n"):
        pieces.pop()
    outcomes = {first_line + i: read_line(raw, first_line + i, "v2") for i, raw in enumerate(pieces)}
    rows = {n: tuple(struct.pack("<d", v) for v in o) for n, o in outcomes.items() if not isinstance(o, Reject)}
    return rows, [o for o in outcomes.values() if isinstance(o, Reject)]


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
    lambda cells: line(at=dict(zip(_FREE, cells, strict=False)))
)
_LINES = st.one_of(
    _GOOD, _GOOD, _GOOD.map(lambda text: text + b"\r"),
    st.tuples(st.sampled_from(_HEADER), _NOT_NUMBERS).map(lambda p: line(at={p[0]: p[1]})),
    st.sampled_from([
        line(at={"syn_flag_number": "1.5"}), line(at={"Tot sum": "-0.5"}), line(at={"AVG": "1e9"}), line(at={"Min": "-0.0"}),
        b"", b"\r", b"  ", b"\xff", b"\0", b"\xef\xbb\xbf" + line(), line() + b",1", line()[:-3], b",".join([b""] * _N),
    ]),
    st.binary(max_size=12).filter(lambda raw: b"\n" not in raw),
)
_BLOCKS = st.tuples(st.lists(_LINES, max_size=12), st.integers(0, 40), st.booleans()).map(
    # Good lines around the odd ones.
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


@settings(max_examples=300, deadline=None)
@given(_BLOCKS.filter(bool))
def test_a_second_parser_reads_the_same_bits_and_the_same_rejects(data: bytes) -> None:
    parsed = parse_block(data, 2, "v2")
    assert (rows_of(parsed), parsed.rejects) == patiently(data)


@settings(max_examples=100, deadline=None)
@given(_BLOCKS, st.data())
def test_a_block_cut_at_any_line_gives_the_same_rows(data: bytes, draw: st.DataObject) -> None:
    starts = [i + 1 for i, byte in enumerate(data[:-1]) if byte == ord("\n")]
    cut = draw.draw(st.sampled_from(starts)) if starts else 0
    whole = parse_block(data, 2, "v2")
    head, tail = parse_block(data[:cut], 2, "v2"), parse_block(data[cut:], 2 + count_lines(data[:cut]), "v2")
    assert rows_of(head) | rows_of(tail) == rows_of(whole)
    assert head.rejects + tail.rejects == whole.rejects


@settings(max_examples=200, deadline=None)
@given(st.lists(_NUMBERS, min_size=len(_FREE), max_size=len(_FREE)))
def test_a_number_is_the_double_nearest_to_its_text(cells: list[str]) -> None:
    (row,) = rows_of(parse_block(line(at=dict(zip(_FREE, cells, strict=True))), 2, "v2")).values()
    assert [row[_HEADER.index(name)] for name in _FREE] == [struct.pack("<d", float(cell)) for cell in cells]


def _decimal(digits: int, power: int) -> float | None:
    nearest = nearest_double(np.uint64(digits), power)
    return None if math.isnan(nearest) else nearest


@settings(max_examples=2000, deadline=None)
@given(st.integers(1, 2**64 - 1), st.integers(-70, 70))
def test_every_decided_decimal_is_the_nearest_double(digits: int, power: int) -> None:
    assert _decimal(digits, power) in (None, float(f"{digits}e{power}"))


@settings(max_examples=2000, deadline=None)
@given(st.integers(2**53, 2**54 - 1), st.integers(-14, 10), st.sampled_from([-1, 0, 0, 1]))
def test_decimals_halfway_between_two_doubles_go_to_the_even_one(middle: int, shift: int, beside: int) -> None:
    exact = Fraction(2 * middle + 1) * Fraction(2) ** shift
    power = 0
    while exact.denominator != 1:
        exact, power = exact * 10, power - 1
    digits = int(exact) + beside
    if digits < 2**64:
        assert _decimal(digits, power) in (None, float(f"{digits}e{power}"))


def test_most_decimals_are_decided() -> None:
    decided = [_decimal(10**18 + 7**k % 10**18, -17) is not None for k in range(200)]
    assert sum(decided) >= 198


def test_good_lines_are_never_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "read_line", lambda *_: pytest.fail("a good line was looked at"))
    good = line(at={"Rate": "12345.678901234567", "IAT": "-1.430511474609375e-05"})
    for end in (b"\n", b"\r\n"):
        parsed = parse_block((good + end) * 500 + good, 2, "v2")
        assert (parsed.values.shape, parsed.rejects) == ((_N, 501), [])


def test_a_bad_line_alone_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    real = parse.read_line
    monkeypatch.setattr(parse, "read_line", lambda raw, *more: (looked.append(raw), real(raw, *more))[1])
    good = line() + b"\n"
    parsed = parse_block(good * 4000 + b"bad\n" + good * 4000, 2, "v2")
    assert [r.line for r in parsed.rejects] == [4002]
    assert looked == [b"bad"]


@pytest.mark.parametrize(("at", "column", "reason"), [
    ({"syn_flag_number": "1.01"}, "syn_flag_number", "impossible value 1.01, wanted 0 to 1"),
    ({"UDP": "-0.1"}, "UDP", "impossible value -0.1, wanted 0 to 1"),
    ({"Tot sum": "-1"}, "Tot sum", "impossible value -1.0, wanted 0 or more"),
    ({"AVG": "1e6"}, "AVG", "impossible values: Min 1.5, AVG 1000000.0, Max 3.5 are not in this order"),
])
def test_what_physics_does_not_allow_is_rejected(at: dict[str, str], column: str, reason: str) -> None:
    (reject,) = parse_block(line(at=at), 2, "v2").rejects
    assert (reject.column, reject.reason) == (column, reason)


def test_a_mean_may_miss_its_place_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = ({"Min": "66.6", "AVG": mean, "Max": "66.6"} for mean in ("66.60000000000001", "66.59999999999997"))
    text = line(at=above) + b"\n" + line(at=below)
    assert not isinstance(read_line(line(at=above), 2, "v2"), Reject)
    assert not isinstance(read_line(line(at=below), 2, "v2"), Reject)
    monkeypatch.setattr(parse, "read_line", lambda *_: pytest.fail("the scanner left a good line aside"))
    assert parse_block(text, 2, "v2").lines.tolist() == [2, 3]


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
    parsed = parse_block(b"", 2, "v1")
    assert (parsed.values.shape, parsed.lines.size, parsed.rejects) == ((45, 0), 0, [])


def test_an_unfinished_last_line_is_a_line() -> None:
    assert (count_lines(b"1\n2"), count_lines(b"1\n2\n"), count_lines(b"\n"), count_lines(b"")) == (2, 2, 1, 0)


def test_a_tiny_number_becomes_zero_and_stays_a_row() -> None:
    (row,) = rows_of(parse_block(line(at={"Rate": "1e-400"}), 2, "v2")).values()
    assert math.copysign(1.0, struct.unpack("<d", row[_HEADER.index("Rate")])[0]) == 1.0
