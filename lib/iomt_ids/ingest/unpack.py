"""Packed files, read as a stream that stops at a limit: what unpacks to more is refused, whatever it claims to hold."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

# What `pyarrow` calls them; None is a format of its own.
PACKINGS: dict[str, str | None] = {"gz": "gzip", "zst": "zstd", "zip": None}
# What readers of damaged or encrypted content raise.
_DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException, RuntimeError, ValueError)


class UnpackError(Exception):
    """A packed file cannot be read; the message says why, without the file's name."""


@dataclass(frozen=True)
class Limits:
    """How much a packed file may hold.

    Attributes
    ----------
    unpacked_bytes : int
        Most bytes of content.
    """

    unpacked_bytes: int


class Content:
    """The bytes of a file, unpacked as they are read.

    Parameters
    ----------
    stream : file object
        Gives the content.
    limit : int or None
        Most bytes that it may give; None for a file that is not packed.
    """

    def __init__(self, stream: IO[bytes] | Any, limit: int | None) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end.

        Raises
        ------
        UnpackError
            If the content is damaged, or more than the limit.
        """
        pieces = []
        while size > 0:
            try:
                piece = bytes(self._stream.read(size))
            except _DAMAGE as error:
                raise UnpackError(f"cannot be unpacked: {error}") from error
            if not piece:
                break
            if self._left is not None:
                self._left -= len(piece)
                if self._left < 0:
                    raise UnpackError("unpacks to more than ingest.unpacked_bytes allows; not read further")
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)


def packing_of(name: str) -> str | None:
    """How a file is packed, by its name.

    Examples
    --------
    >>> packing_of("Benign_train.pcap.csv.zst"), packing_of("Benign_train.pcap.csv")
    ('zst', None)
    """
    suffix = PurePosixPath(name).suffix.lstrip(".")
    return suffix if suffix in PACKINGS else None


@contextmanager
def open_content(location: str, packing: str | None, limits: Limits) -> Iterator[Content]:
    """Open a file for one pass from its beginning.

    Raises
    ------
    UnpackError
        If an archive does not hold exactly the one file that its name promises.
    """
    with fs.LocalFileSystem().open_input_file(location) as file:
        if packing is None:
            yield Content(file, None)
        elif packing == "zip":
            with _open_member(file, location) as member:
                yield Content(member, limits.unpacked_bytes)
        else:
            try:
                stream = pa.CompressedInputStream(file, PACKINGS[packing])
            except _DAMAGE as error:
                raise UnpackError(f"cannot be unpacked: {error}") from error
            yield Content(stream, limits.unpacked_bytes)


@contextmanager
def _open_member(file: Any, location: str) -> Iterator[IO[bytes]]:
    wanted = PurePosixPath(location).name.removesuffix(".zip")
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise UnpackError(f"cannot be unpacked: {error}") from error
    with archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        for member in members:
            # The raw name: zipfile itself cleans names up, which would hide what they try.
            parts = PurePosixPath(member.orig_filename.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
                raise UnpackError(f"the archive's entry '{member.orig_filename}' leads out of it")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UnpackError(f"the archive's entry '{member.orig_filename}' is a link")
        if [PurePosixPath(m.filename).name for m in members] != [wanted]:
            raise UnpackError(f"the archive holds {len(members)} files, wanted one, named {wanted}")
        try:
            stream = archive.open(members[0])
        except _DAMAGE as error:
            raise UnpackError(f"cannot be unpacked: {error}") from error
        with stream:
            yield stream
