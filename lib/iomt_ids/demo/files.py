"""The demo's files: every official name with its text, made while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.flows import RELEASES, columns_of
from iomt_ids.demo.bluetooth import draw_bluetooth
from iomt_ids.demo.captures import MIN_ROWS, DemoCapture, plan_captures
from iomt_ids.demo.lines import blocks, format_rows, header_line
from iomt_ids.demo.recording import BLOCK_ROWS, Recording, seeded

NOTE = "SYNTHETIC.txt"


@dataclass(frozen=True)
class DemoFile:
    """One file of the demo.

    Attributes
    ----------
    path : str
        In the official layout, or `SYNTHETIC.txt`, which says what this is.
    rows : int
        Flow rows in the file.
    chunks : callable
        Each call gives the file's bytes from the beginning, a few megabytes at a time at most.
    """

    path: str
    rows: int
    chunks: Callable[[], Iterator[bytes]]


def demo_files(rows: int, seed: int, *, release: str = "v1") -> Iterator[DemoFile]:
    """Make the embedded demo data.

    Parameters
    ----------
    rows : int
        Flow rows of all files together, those of the profiling captures included.
    seed : int
        Same seed and rows, same bytes.
    release : str
        ``v1`` (45 columns) or ``v2`` (39).

    Yields
    ------
    DemoFile
        First the note that the data are synthetic, then every capture in official order. Nothing is
        drawn before `DemoFile.chunks` is read, and memory does not grow with ``rows``.

    Raises
    ------
    ConfigError
        If ``rows`` is below `MIN_ROWS`, the seed is negative or the release is unknown.
    """
    if release not in RELEASES:
        raise ConfigError(f"unknown release '{release}' for demo data; known: {', '.join(RELEASES)}")
    if seed < 0:
        raise ConfigError(f"the seed of demo data must not be negative, it is {seed}")
    return _files(plan_captures(rows), rows, seed, release)


def rows_for_bytes(size: int, *, release: str = "v1") -> int:
    """How many rows make demo data of about this size.

    Parameters
    ----------
    size : int
        Bytes of all files together.
    release : str
        ``v1`` or ``v2``; a row of v2 is shorter.

    Returns
    -------
    int
        At least `MIN_ROWS`; the files' size is within a few percent of what was asked.
    """
    low, high = MIN_ROWS, max(MIN_ROWS, size // 40)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _expected_bytes(middle, release) < size else (low, middle)
    return low


class _Desk:
    """Writes the captures of one demo; keeps the latest recording, because its parts follow each other."""

    def __init__(self, seed: int, release: str, rows_of_pool: dict[str, int]) -> None:
        self._seed = seed
        self._release = release
        self._rows_of_pool = rows_of_pool
        self._open: tuple[str, Recording] | None = None

    def chunks(self, capture: DemoCapture) -> Iterator[bytes]:
        """The bytes of one capture."""
        yield header_line(self._release).encode("ascii")
        rng = seeded(self._seed, capture.path)
        if capture.attack.startswith("Bluetooth-"):
            texts = self._bluetooth(capture, rng)
        else:
            texts = self._recording(capture).text(capture.rows, capture.offset, capture.of_class, rng)
        for text in texts:
            yield text.encode("ascii")

    def _recording(self, capture: DemoCapture) -> Recording:
        if self._open is None or self._open[0] != capture.pool:
            recording = Recording(
                capture.attack, self._rows_of_pool[capture.pool], capture.split == "test", capture.device,
                self._release, self._seed,
            )
            self._open = (capture.pool, recording)
        return self._open[1]

    def _bluetooth(self, capture: DemoCapture, rng: np.random.Generator) -> Iterator[str]:
        names = [column.name for column in columns_of(self._release)]
        scale = {"train": 1.0, "test": 1.04, "profile": float(rng.uniform(0.85, 1.2))}[capture.split]
        for first, count in blocks(capture.rows, BLOCK_ROWS):
            columns = draw_bluetooth(capture.attack, first, count, scale, self._release, rng)
            yield "\n".join(format_rows(columns, names, self._release)) + "\n"


def _files(captures: list[DemoCapture], rows: int, seed: int, release: str) -> Iterator[DemoFile]:
    rows_of_pool: dict[str, int] = {}
    for capture in captures:
        rows_of_pool[capture.pool] = rows_of_pool.get(capture.pool, 0) + capture.rows
    desk = _Desk(seed, release, rows_of_pool)
    note = (
        "These files are synthetic demo data of iomt_ids: no row of them was captured anywhere.\n"
        f"Release layout {release}, {rows} rows, seed {seed}. Scores on them say nothing about any network.\n"
    )
    yield DemoFile(NOTE, 0, lambda: iter([note.encode("ascii")]))
    for capture in captures:
        yield DemoFile(capture.path, capture.rows, partial(desk.chunks, capture))


def _expected_bytes(rows: int, release: str) -> float:
    lengths = _line_bytes(release)
    captures = plan_captures(rows)
    return sum(c.rows * lengths[c.attack] for c in captures) + len(captures) * len(header_line(release))


@cache
def _line_bytes(release: str) -> dict[str, float]:
    """Mean bytes of a line of each class, measured on a few hundred."""
    rows = 400
    lengths = {}
    for attack in sorted({capture.attack for capture in plan_captures(MIN_ROWS)}):
        sample = DemoCapture(attack, attack, "train", None, rows, 0, rows, attack)
        text = _Desk(0, release, {attack: rows}).chunks(sample)
        lengths[attack] = (sum(map(len, text)) - len(header_line(release))) / rows
    return lengths
