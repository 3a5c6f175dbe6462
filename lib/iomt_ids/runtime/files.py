"""Folders of files that are there completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from iomt_ids.contract.errors import IomtIdsError, raise_all
from iomt_ids.runtime.log import log


def write_tree(folder: Path, files: Iterable[tuple[str, Iterable[bytes]]]) -> int:
    """Write files into a new folder, which appears when the last of them is complete.

    Parameters
    ----------
    folder : Path
        Must not exist, or be an empty folder.
    files : iterable of (str, iterable of bytes)
        Path below the folder, with forward slashes, and the content in pieces; read one at a time.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    IomtIdsError
        If the folder holds something, a path leads out of it or occurs twice, or the disk refuses.
    """
    _require_room(folder)
    folder = folder.absolute()
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    written = 0
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for path, pieces in files:
            written += _write_file(fresh, path, pieces)
        if folder.exists():
            folder.rmdir()
        fresh.rename(folder)
    except OSError as error:
        raise IomtIdsError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    log().info("wrote %s: %d bytes", folder, written)
    return written


def _require_room(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise IomtIdsError(f"cannot write {folder}: the folder exists and is not empty; name another or remove it")
    if folder.exists() and not folder.is_dir():
        raise IomtIdsError(f"cannot write {folder}: it is a file, not a folder")


def _write_file(fresh: Path, path: str, pieces: Iterable[bytes]) -> int:
    parts = PurePosixPath(path)
    target = fresh / parts
    problems = []
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        problems.append(f"'{path}' does not lie inside the folder")
    elif target.exists():
        problems.append(f"'{path}' occurs twice")
    raise_all(problems, IomtIdsError, "cannot write files")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as handle:
        return sum(handle.write(piece) for piece in pieces)
