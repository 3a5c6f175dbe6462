"""What is refused before anything is read, and how files are cut."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from iomt_ids.contract.errors import SourceError
from iomt_ids.contract.flows import RELEASES, source_header
from iomt_ids.ingest.plan import find_files, read_header
from iomt_ids.ingest.sources import sources
from iomt_ids.ingest.unpack import Limits

_PLACE = "WiFI_and_MQTT/attacks/csv/train"
_BOM = b"\xef\xbb\xbf"
LIMITS = Limits(1 << 20)


def _line(header: tuple[str, ...] | list[str]) -> bytes:
    return ",".join(header).encode()


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / _PLACE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("bom", [b"", _BOM], ids=["", "bom"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["lf", "crlf", "no-end"])
def test_a_header_tells_the_release_and_where_rows_begin(tmp_path: Path, release: str, bom: bytes, end: bytes) -> None:
    start = bom + _line(source_header(release)) + end
    path = _written(tmp_path, "Benign_train.pcap.csv", start + (b"1,2\n" if end else b""))
    assert read_header(path, "x", LIMITS) == (release, len(start), [])


def _problems(tmp_path: Path, header: tuple[str, ...] | list[str]) -> list[str]:
    release, _, problems = read_header(_written(tmp_path, "x.csv", _line(header) + b"\n"), "x.csv", LIMITS)
    assert release is None
    return problems


def test_every_missing_unknown_and_misplaced_column_is_named(tmp_path: Path) -> None:
    header = [c for c in source_header("v1") if c not in ("Rate", "IGMP")]
    header[0], header[2] = header[2], header[0]
    compared = "(compared with release v1, 45 columns)"
    assert _problems(tmp_path, [*header, "Label", "day"]) == [
        f"x.csv, line 1: missing column 'Rate', 'IGMP' {compared}",
        f"x.csv, line 1: unknown column 'Label', 'day' {compared}",
        f"x.csv, line 1: misplaced column 'Duration', 'Header_Length' {compared}",
    ]


def test_a_misplaced_column_alone_is_named(tmp_path: Path) -> None:
    header = list(source_header("v2"))
    header[3], header[30] = header[30], header[3]
    assert _problems(tmp_path, header) == [
        "x.csv, line 1: misplaced column 'Tot sum', 'Rate' (compared with release v2, 39 columns)"
    ]


def test_a_column_given_twice_is_named(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, [*source_header("v1"), "Rate"])
    assert problem.startswith("x.csv, line 1: column given twice 'Rate'")


def test_case_and_blanks_of_a_column_matter(tmp_path: Path) -> None:
    header = [c.lower() if c == "Rate" else c for c in source_header("v1")]
    assert [p.split(" (")[0] for p in _problems(tmp_path, header)] == [
        "x.csv, line 1: missing column 'Rate'", "x.csv, line 1: unknown column 'rate'",
    ]


def test_a_header_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path, "x.csv", b"Rate,\xff\n")
    assert read_header(path, "x.csv", LIMITS)[2] == ["x.csv, line 1: the header is not UTF-8 text (byte 5)"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\r\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert read_header(_written(tmp_path, "x.csv", content), "x.csv", LIMITS)[2] == ["x.csv: the file is empty"]


def test_everything_wrong_with_a_folder_is_said_at_once(tmp_path: Path) -> None:
    good = _line(source_header("v1")) + b"\n"
    _written(tmp_path, "Benign_train.pcap.csv", good)
    _written(tmp_path, "DDoS-HTTP_train.pcap.csv", good)
    _written(tmp_path, "Recon-VulScan_train.pcap.csv", b"")
    _written(tmp_path, "ARP_Spoofing_train.pcap.csv", good.replace(b"Rate,", b"", 1))
    with pytest.raises(SourceError) as caught:
        find_files(tmp_path, sources()["ciciomt2024"], LIMITS)
    assert str(caught.value).splitlines() == [
        f"cannot ingest {tmp_path}: 3 problems",
        f"  {_PLACE}/ARP_Spoofing_train.pcap.csv, line 1: missing column 'Rate' (compared with release v1, 45 columns)",
        f"  {_PLACE}/DDoS-HTTP_train.pcap.csv: unknown attack 'DDoS-HTTP'",
        f"  {_PLACE}/Recon-VulScan_train.pcap.csv: the file is empty",
    ]


def test_a_folder_that_does_not_exist_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"^{tmp_path}/absent: there is no such folder$"):
        find_files(tmp_path / "absent", sources()["ciciomt2024"], LIMITS)
    with pytest.raises(SourceError, match=r"no file matches \*\*/\*\.csv"):
        find_files(tmp_path, sources()["ciciomt2024"], LIMITS)


@pytest.mark.parametrize(("content", "problem"), [
    (",".join(source_header("v1")).encode("utf-16"),
     "the header is not UTF-8 text (byte 0); it looks like UTF-16, wanted UTF-8"),
    (",".join(source_header("v1")).encode("utf-16-le"), "the header holds NUL; it looks like UTF-16, wanted UTF-8"),
    (_line(source_header("v1")) + b"\r1,2\r", "lines end in CR alone, wanted LF or CR LF"),
    (b"R\xe9seau,Rate\n", "the header is not UTF-8 text (byte 1)"),
])
def test_another_encoding_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    assert read_header(_written(tmp_path, "x.csv", content), "x.csv", LIMITS)[2] == [f"x.csv, line 1: {problem}"]


def test_the_same_capture_packed_and_plain_is_refused(tmp_path: Path) -> None:
    good = _line(source_header("v1")) + b"\n"
    _written(tmp_path, "Benign_train.pcap.csv", good)
    _written(tmp_path, "Benign_train.pcap.csv.gz", gzip.compress(good))
    with pytest.raises(SourceError, match=r"Benign_train.pcap.csv.gz: the same capture as .*Benign_train.pcap.csv; keep one"):
        find_files(tmp_path, sources()["ciciomt2024"], LIMITS)
