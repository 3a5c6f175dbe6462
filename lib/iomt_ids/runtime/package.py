"""``dist/iomt_ids.zip`` for ``spark-submit --py-files``: the library and the jobs; the same files, the same bytes."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

# The earliest date a zip can hold: two archives of the same files are the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_package(root: Path, target: Path) -> bool:
    """Write the archive if its content has changed.

    Parameters
    ----------
    root : Path
        The project's folder, with ``lib/iomt_ids`` and ``jobs``.
    target : Path
        The archive; replaced at once, so that a job starting meanwhile reads the old or the new one.

    Returns
    -------
    bool
        Whether it was written.
    """
    content = package_bytes(root)
    if target.is_file() and target.read_bytes() == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(target)
    return True


def package_bytes(root: Path) -> bytes:
    """The archive's bytes; the same files give the same bytes."""
    # Both: without jobs/ in it, retrain.py cannot import its fellow jobs under spark-submit.
    folders = (root / "lib", "iomt_ids"), (root, "jobs")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, name in folders:
            for path in sorted((parent / name).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                    entry = zipfile.ZipInfo(path.relative_to(parent).as_posix(), _DATE)
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
