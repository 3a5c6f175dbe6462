"""Packed files are read to their end or refused; no bomb, no way out of the archive."""

from __future__ import annotations

import gzip
import io
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from iomt_ids.ingest.unpack import Limits, UnpackError, open_content, packing_of

NAME = "Benign_train.pcap.csv"
TEXT = b"a,b\n" + b"1,2\n" * 5000
LIMITS = Limits(len(TEXT))


def archive(entries: dict[str, bytes], mode: int = 0) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            made.writestr(info, content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda text: gzip.compress(text, 1), "zst": lambda text: pa.Codec("zstd").compress(text, asbytes=True),
    "zip": lambda text: archive({NAME: text}),
}
PACKED = {packing: pack(TEXT) for packing, pack in PACKERS.items()}


def content_of(folder: Path, packing: str, packed: bytes, limits: Limits = LIMITS) -> bytes:
    path = folder / f"{NAME}.{packing}"
    path.write_bytes(packed)
    read = []
    with open_content(str(path), packing_of(path.name), limits) as content:
        while part := content.read(777):
            read.append(part)
    return b"".join(read)


@pytest.mark.parametrize("packing", PACKED)
def test_what_was_packed_comes_out(tmp_path: Path, packing: str) -> None:
    assert content_of(tmp_path, packing, PACKED[packing]) == TEXT


def test_gzip_members_after_each_other_are_one_content(tmp_path: Path) -> None:
    assert content_of(tmp_path, "gz", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])) == TEXT


@pytest.mark.parametrize("packing", PACKED)
def test_one_byte_too_much_is_refused(tmp_path: Path, packing: str) -> None:
    with pytest.raises(UnpackError, match=r"unpacks to more than ingest\.unpacked_bytes allows; not read further"):
        content_of(tmp_path, packing, PACKED[packing], Limits(len(TEXT) - 1))


@pytest.mark.parametrize("packing", PACKED)
def test_a_bomb_stops_at_the_limit_and_takes_no_memory(tmp_path: Path, packing: str) -> None:
    packed = PACKERS[packing](b"0" * (200 << 20))
    tracemalloc.start()
    with pytest.raises(UnpackError, match="unpacks to more"):
        content_of(tmp_path, packing, packed, Limits(1 << 20))
    assert tracemalloc.get_traced_memory()[1] < len(packed) + (8 << 20)
    tracemalloc.stop()


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"not packed", lambda b: b[:40] + b"\0" * 20 + b[60:]])
def test_a_damaged_file_is_refused(tmp_path: Path, packing: str, damage) -> None:
    with pytest.raises(UnpackError, match=r"cannot be unpacked|the archive"):
        content_of(tmp_path, packing, damage(PACKED[packing]), Limits(1 << 30))


@pytest.mark.parametrize(("entries", "mode", "problem"), [
    ({f"../{NAME}": TEXT}, 0, "leads out of it"),
    ({f"/{NAME}": TEXT}, 0, "leads out of it"),
    ({f"..\\{NAME}": TEXT}, 0, "leads out of it"),
    ({f"C:\\{NAME}": TEXT}, 0, "leads out of it"),
    ({NAME: b"/etc/passwd"}, stat.S_IFLNK | 0o777, "is a link"),
    ({NAME: TEXT, "readme.txt": b""}, 0, "the archive holds 2 files, wanted one"),
    ({"other.csv": TEXT}, 0, "the archive holds 1 files, wanted one"),
    ({}, 0, "cannot be unpacked"),
])
def test_an_archive_of_anything_else_is_refused(tmp_path: Path, entries: dict[str, bytes], mode: int, problem: str) -> None:
    with pytest.raises(UnpackError, match=problem):
        content_of(tmp_path, "zip", archive(entries, mode))
