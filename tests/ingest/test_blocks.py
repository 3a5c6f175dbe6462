"""Files are cut at line ends, every line knows its number, and a digest names the content."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.ingest import blocks
from iomt_ids.ingest.blocks import Block, Surveyed, pack_blocks, read_block
from iomt_ids.ingest.parse import count_lines
from iomt_ids.ingest.plan import CapturedFile
from iomt_ids.ingest.source import Capture
from iomt_ids.ingest.unpack import Limits

LIMITS = Limits(1 << 20)
_LINES = st.tuples(st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=60), st.booleans()).map(
    lambda p: b"\n".join(p[0]) + (b"\n" if p[1] else b"")
)


def captured(location: Path, body: int, path: str = "a.csv", packing: str | None = None) -> CapturedFile:
    facts = location.stat()
    capture = Capture(path, "train", "wifi_mqtt", "Benign", "Benign", None)
    return CapturedFile(capture, str(location), "v1", facts.st_size, facts.st_mtime_ns, body, packing)


def surveyed(file: CapturedFile, piece_bytes: int, block_bytes: int) -> Surveyed | str:
    """As `survey_files`, without Spark."""
    if file.packing:
        return blocks._look_at_packed(file, LIMITS, piece_bytes)
    pieces = [blocks._look_at_piece((file.location, at, piece_bytes, file.body)) for at in range(0, file.size, piece_bytes)]
    return blocks._cut(file, pieces, piece_bytes, block_bytes)


@given(_LINES, st.integers(1, 90), st.integers(1, 400))
def test_blocks_cover_the_body_without_gap_and_know_their_lines(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, piece_bytes: int, block_bytes: int
) -> None:
    path, head = tmp_path_factory.getbasetemp() / "cut.csv", b"a,b\n"
    data = head + body
    path.write_bytes(data)
    found = surveyed(captured(path, len(head)), piece_bytes, block_bytes)
    assert isinstance(found, Surveyed)
    assert b"".join(data[b.start:b.end] for b in found.blocks) == body
    assert found.lines == count_lines(body)
    line = 2
    for block in found.blocks:
        assert data[block.start - 1:block.start] == b"\n" and block.size > 0
        assert (block.first_line, block.lines) == (line, count_lines(data[block.start:block.end]))
        line += block.lines
    longest = max((len(text) + 1 for text in body.split(b"\n")), default=1)
    assert all(b.size < block_bytes + 2 * (piece_bytes + longest) for b in found.blocks)
    assert found.ends is (body.endswith(b"\n") or not body)


@given(_LINES, st.integers(1, 90))
def test_packed_lines_are_the_same_lines(tmp_path_factory: pytest.TempPathFactory, body: bytes, piece_bytes: int) -> None:
    path, head = tmp_path_factory.getbasetemp() / "cut.csv.gz", b"a,b\n"
    path.write_bytes(gzip.compress(head + body))
    found = surveyed(captured(path, len(head), packing="gz"), piece_bytes, 100)
    assert isinstance(found, Surveyed)
    parts = [part for block in found.blocks for part in read_block(block, LIMITS, piece_bytes)]
    assert b"".join(data for _, _, data in parts) == body
    assert found.lines == count_lines(body)
    assert [lines for _, lines, _ in parts] == [count_lines(data) for _, _, data in parts]
    assert [first for first, _, _ in parts] == [2 + sum(lines for _, lines, _ in parts[:i]) for i in range(len(parts))]


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    digests = []
    for name, content in (("a", b"h\n1\n2\n"), ("b", b"h\n1\n2\n"), ("c", b"h\n1\n3\n"), ("d", b"h\n1\n2\n\n")):
        (tmp_path / name).write_bytes(content)
        found = surveyed(captured(tmp_path / name, 2), 4, 100)
        assert isinstance(found, Surveyed)
        digests.append(found.digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("packing", [None, "zst"])
def test_a_file_without_line_ends_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str | None
) -> None:
    monkeypatch.setattr(blocks, "MOST_LINE_BYTES", 1000)
    path, content = tmp_path / "a.csv", b"h\n" + b"x" * 5000
    path.write_bytes(pa.Codec("zstd").compress(content, asbytes=True) if packing else content)
    said = surveyed(captured(path, 2, packing=packing), 100, 400)
    assert isinstance(said, str) and said.startswith("a line is longer than")


def test_a_file_of_a_header_alone_has_no_block(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"h")
    found = surveyed(captured(tmp_path / "a.csv", 1), 10, 4096)
    assert isinstance(found, Surveyed)
    assert (found.blocks, found.lines, found.ends) == ((), 0, True)


@given(st.lists(st.tuples(st.integers(1, 1000), st.sampled_from("ab")), max_size=40), st.integers(1, 9))
def test_packing_gives_every_block_to_one_task_and_no_task_far_too_much(sizes: list[tuple[int, str]], tasks: int) -> None:
    made = []
    for place, (size, category) in enumerate(sizes):
        capture = Capture(f"{place:03}.csv", "train", "wifi_mqtt", "Benign", category, None)
        made.append(Block(CapturedFile(capture, "/a.csv", "v1", size, 0, 0), 0, size, 2, 1))
    packed = pack_blocks(made, tasks)
    assert sorted(b.file.capture.path for group in packed for b in group) == [f"{i:03}.csv" for i in range(len(sizes))]
    assert len(packed) <= tasks
    assert pack_blocks(made[::-1], tasks) == packed
    total, largest = sum(s for s, _ in sizes), max((s for s, _ in sizes), default=0)
    assert all(sum(b.size for b in group) <= total / tasks + largest for group in packed)
    # Partitions stay together, or every task would write a small file of each.
    assert [b.file.capture.category for group in packed for b in group] == sorted(c for _, c in sizes)
