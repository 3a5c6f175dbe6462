"""Whole files as people, programs and broken disks leave them: refused by name, or every line a row or a reject, never misread.

    make fuzz-ingest        # 10,000 files instead of the suite's few
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from iomt_ids.contract.flows import RELEASES, columns_of, source_header
from iomt_ids.ingest.blocks import Surveyed, read_block
from iomt_ids.ingest.parse import parse_block
from iomt_ids.ingest.plan import CapturedFile, read_header
from iomt_ids.ingest.source import Capture
from iomt_ids.ingest.unpack import Limits, packing_of
from tests.ingest.test_blocks import surveyed
from tests.ingest.test_unpack import NAME, PACKERS

LIMITS = Limits(1 << 24)
_ODD = st.one_of(
    st.sampled_from([
        "", " ", "nan", "NaN", "inf", "-Infinity", "1e400", "-1e400", "0x1F", "1,5", "1_000", "1.5.2", "--1", "+1", "1e", ".5",
        "5.", "١٢", "NULL", "None", '"0.5"', '"0.5', '0.5"', '"0.\n5"', '"0,5"', "\0", "0.5\0", "\ufeff0.5", "é", "0.5 ", "\t0.5",
        "1e-400", "0.1" + "0" * 500, "123456789012345678901234567890", "0.30000000000000004", "9007199254740993", "1" * 5000,
        "\r", "0.5\r", "-0.0",
    ]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr), st.text(max_size=5),
)


@st.composite
def _lines(draw: st.DrawFn, release: str) -> list[str]:
    """Rows that are allowed, with some fields and lines that are not."""
    columns = columns_of(release)
    made = []
    for _ in range(draw(st.integers(0, 8))):
        least, most = sorted(draw(st.tuples(st.floats(0, 1500), st.floats(0, 1500))))
        fixed = {"length_min_bytes": least, "length_mean_bytes": (least + most) / 2, "length_max_bytes": most}
        thirds = {c.name: -1 / 3 if c.limits[0] < 0 else 1 / 3 for c in columns}
        fields = [repr(fixed.get(c.name, draw(st.sampled_from([0.0, 0.25, 1.0, thirds[c.name]])))) for c in columns]
        if draw(st.integers(0, 2)) == 0:
            fields[draw(st.integers(0, len(fields) - 1))] = draw(_ODD)
        if draw(st.integers(0, 9)) == 0:
            fields = fields[: draw(st.integers(0, len(fields)))] if draw(st.booleans()) else [*fields, "0.5"]
        made.append(",".join(fields))
    return made


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """A release, a file's bytes, a suffix."""
    release = draw(st.sampled_from(RELEASES))
    header = list(source_header(release))
    match draw(st.integers(0, 11)):
        case 0:
            del header[draw(st.integers(0, len(header) - 1))]
        case 1:
            header.insert(draw(st.integers(0, len(header))), draw(st.sampled_from(["Label", "Rate", "", '"'])))
        case 2:
            header = draw(st.permutations(header))
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    lines = [",".join(header), *draw(_lines(release))]
    ends = [draw(st.sampled_from([end, end, end, end, "\n", "\r\n", "\n\n"])) for _ in lines]
    if draw(st.integers(0, 3)) == 0:
        ends[-1] = ""
    text = "".join(line + e for line, e in zip(lines, ends, strict=True))
    encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"]))
    data = text.encode(encoding, errors="replace" if encoding == "latin-1" else "surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    if draw(st.integers(0, 9)) == 0 and data:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at + 1:]
    return release, data, draw(st.sampled_from(["", "", "", ".gz", ".zst", ".zip"]))


def oracle(raw: bytes, header: tuple[str, ...]) -> list[bytes] | None:
    """Arrow's reading of one line, every number as its eight bytes; None if it refuses."""
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(raw + b"\n"), read_options=arrow_csv.ReadOptions(column_names=list(header), use_threads=False),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.float64()), null_values=[""]),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != 1 or any(c.null_count for c in table.columns):
        return None
    return [struct.pack("<d", column[0].as_py()) for column in table.columns]


@given(files(), st.integers(1, 400), st.integers(1, 800))
@example(("v1", b"", ""), 10, 10)
@example(("v1", ",".join(source_header("v1")).encode(), ".gz"), 10, 10)
@example(("v2", b"\xef\xbb\xbf" + ",".join(source_header("v2")).encode() + b"\r\n", ""), 10, 10)
def test_no_file_is_misread(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[str, bytes, str], piece_bytes: int, block_bytes: int
) -> None:
    _, data, suffix = made
    path = Path(tmp_path_factory.getbasetemp()) / f"{NAME}{suffix}"
    path.write_bytes(PACKERS[suffix.removeprefix(".")](data) if suffix else data)
    found, body, problems = read_header(path, path.name, LIMITS)
    if found is None:
        assert problems and all(p.startswith(path.name) and "\n" not in p for p in problems)
        return
    header = source_header(found)
    assert tuple(data.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].decode().removesuffix("\r").split(",")) == header
    facts = path.stat()
    capture = Capture("a.csv", "train", "wifi_mqtt", "Benign", "Benign", None)
    file = CapturedFile(capture, str(path), found, facts.st_size, facts.st_mtime_ns, body, packing_of(path.name))
    survey = surveyed(file, piece_bytes, block_bytes)
    assert isinstance(survey, Surveyed)
    raw = data[body:].split(b"\n")
    raw = raw[:-1] if raw[-1] == b"" else raw
    assert survey.lines == len(raw)
    seen: list[int] = []
    for block in survey.blocks:
        for first, lines, part in read_block(block, LIMITS, block_bytes):
            parsed = parse_block(part, first, found, lines)
            seen += [*parsed.lines.tolist(), *(r.line for r in parsed.rejects)]
            for line, values in zip(parsed.lines.tolist(), parsed.values.T.tolist(), strict=True):
                assert all(map(math.isfinite, values))
                ours = [struct.pack("<d", value) for value in values]
                theirs = oracle(raw[line - 2], header)
                # Arrow refuses some texts that are numbers to anyone, such as +1 and numbers in quotes with blanks.
                assert theirs in (ours, None)
                assert ours == [struct.pack("<d", float(f.strip('"'))) for f in raw[line - 2].decode().split(",")]
            for reject in parsed.rejects:
                assert reject.raw == raw[reject.line - 2].decode("utf-8", errors="backslashreplace")
    assert sorted(seen) == list(range(2, len(raw) + 2))
