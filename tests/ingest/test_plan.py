"""What is refused before anything is read, and how files are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.contract.errors import SourceError
from iomt_ids.contract.flows import RELEASES, source_header
from iomt_ids.ingest.plan import Block, CapturedFile, cut_blocks, find_files, pack_blocks, read_header
from iomt_ids.ingest.source import Capture
from iomt_ids.ingest.sources import sources

_PLACE = "WiFI_and_MQTT/attacks/csv/train"
_BOM = b"\xef\xbb\xbf"


def _line(header: tuple[str, ...] | list[str]) -> bytes:
    return ",".join(header).encode()


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / _PLACE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _captured(location: Path, body: int, path: str = "a.csv") -> CapturedFile:
    capture = Capture(path, "train", "wifi_mqtt", "Benign", "Benign", None)
    return CapturedFile(capture, str(location), "v1", location.stat().st_size, body)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("bom", [b"", _BOM], ids=["", "bom"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["lf", "crlf", "no-end"])
def test_a_header_tells_the_release_and_where_rows_begin(tmp_path: Path, release: str, bom: bytes, end: bytes) -> None:
    start = bom + _line(source_header(release)) + end
    path = _written(tmp_path, "Benign_train.pcap.csv", start + (b"1,2\n" if end else b""))
    assert read_header(path, "x") == (release, len(start), [])


def _problems(tmp_path: Path, header: tuple[str, ...] | list[str]) -> list[str]:
    release, _, problems = read_header(_written(tmp_path, "x.csv", _line(header) + b"\n"), "x.csv")
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
    assert read_header(path, "x.csv")[2] == ["x.csv, line 1: the header is not UTF-8 text (byte 5)"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\r\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert read_header(_written(tmp_path, "x.csv", content), "x.csv")[2] == ["x.csv: the file is empty"]


def test_everything_wrong_with_a_folder_is_said_at_once(tmp_path: Path) -> None:
    good = _line(source_header("v1")) + b"\n"
    _written(tmp_path, "Benign_train.pcap.csv", good)
    _written(tmp_path, "DDoS-HTTP_train.pcap.csv", good)
    _written(tmp_path, "Recon-VulScan_train.pcap.csv", b"")
    _written(tmp_path, "ARP_Spoofing_train.pcap.csv", good.replace(b"Rate,", b"", 1))
    with pytest.raises(SourceError) as caught:
        find_files(tmp_path, sources()["ciciomt2024"])
    assert str(caught.value).splitlines() == [
        f"cannot ingest {tmp_path}: 3 problems",
        f"  {_PLACE}/ARP_Spoofing_train.pcap.csv, line 1: missing column 'Rate' (compared with release v1, 45 columns)",
        f"  {_PLACE}/DDoS-HTTP_train.pcap.csv: unknown attack 'DDoS-HTTP'",
        f"  {_PLACE}/Recon-VulScan_train.pcap.csv: the file is empty",
    ]


def test_a_folder_that_does_not_exist_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"^{tmp_path}/absent: there is no such folder$"):
        find_files(tmp_path / "absent", sources()["ciciomt2024"])
    with pytest.raises(SourceError, match=r"no file matches \*\*/\*\.csv"):
        find_files(tmp_path, sources()["ciciomt2024"])


@given(
    st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=60), st.booleans(), st.integers(1, 400)
)
def test_blocks_cover_the_body_without_gap_and_start_at_line_starts(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, block_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.csv"
    head = b"a,b\n"
    data = head + b"\n".join(lines) + (b"\n" if ends else b"")
    path.write_bytes(data)
    blocks = cut_blocks([_captured(path, len(head))], block_bytes)
    assert b"".join(data[b.start:b.end] for b in blocks) == data[len(head):]
    assert all(data[b.start - 1:b.start] == b"\n" and b.size > 0 for b in blocks)
    longest = max((len(line) + 1 for line in lines), default=1)
    assert all(b.size < block_bytes + longest for b in blocks)


def test_a_line_longer_than_any_probe_stays_whole(tmp_path: Path) -> None:
    data = b"h\n" + b"x" * 200_000 + b"\n1\n"
    (tmp_path / "long.csv").write_bytes(data)
    blocks = cut_blocks([_captured(tmp_path / "long.csv", 2)], 4096)
    assert [data[b.start:b.end] for b in blocks] == [b"x" * 200_000 + b"\n", b"1\n"]


def test_a_file_of_a_header_alone_has_no_block(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"h")
    assert cut_blocks([_captured(tmp_path / "a.csv", 1)], 4096) == []


@given(st.lists(st.integers(1, 1000), max_size=40), st.integers(1, 9))
def test_packing_gives_every_block_to_one_task_and_no_task_far_too_much(sizes: list[int], bins: int) -> None:
    capture = Capture("a.csv", "train", "wifi_mqtt", "Benign", "Benign", None)
    file = CapturedFile(capture, "/a.csv", "v1", sum(sizes), 0)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    blocks = [Block(file, start, start + size) for start, size in zip(starts, sizes, strict=True)]
    packed = pack_blocks(blocks, bins)
    assert sorted(b.start for group in packed for b in group) == starts
    assert len(packed) == max(1, min(bins, len(blocks)))
    assert pack_blocks(blocks[::-1], bins) == packed
    if blocks:
        loads = [sum(b.size for b in group) for group in packed]
        assert max(loads) - min(loads) <= max(sizes)
