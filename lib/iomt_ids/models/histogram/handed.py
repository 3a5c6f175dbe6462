"""Bins for all tasks: by a file in the run's folder, or, where there is none, by Spark's broadcast.

A broadcast goes through two processes a node and is packed and unpacked on its way; that takes longer than growing some trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pyspark import SparkContext

from iomt_ids.contract.errors import LaunchError
from iomt_ids.distributed.resume import passing_folder
from iomt_ids.models.histogram.forest import Binned


@contextmanager
def handed(context: SparkContext, sets: Sequence[Binned], folder: Path | None) -> Iterator[Any]:
    """Something whose ``value`` is the tuple of these sets of rows in every task, while the block lasts.

    Parameters
    ----------
    folder : Path or None
        See `blocks.fetch`.

    Raises
    ------
    LaunchError
        If the file cannot be written; in the task, if it cannot be read.
    """
    if folder is None:
        shared = context.broadcast(tuple(sets))
        try:
            yield shared
        finally:
            shared.unpersist()
        return
    with passing_folder(folder, "handed-") as held:
        path = Path(held, "bins")
        try:
            with path.open("wb") as file:
                for binned in sets:
                    _write(file, binned)
        except OSError as error:
            raise LaunchError(f"{path} cannot be written ({error})") from error
        yield _Filed(str(path), len(sets))


@dataclass(frozen=True)
class _Filed:
    path: str
    sets: int

    @property
    def value(self) -> tuple[Binned, ...]:
        return _read(self.path, self.sets)


@lru_cache(maxsize=1)
def _read(path: str, sets: int) -> tuple[Binned, ...]:
    """Once a process, which runs many of the tasks."""
    try:
        # Not mapped: a network's file system keeps the names of mapped files, and with them the folder.
        with Path(path).open("rb") as file:
            return tuple(_read_one(file) for _ in range(sets))
    except OSError as error:
        raise LaunchError(f"{path} cannot be read here ({error}); every node must see the run's folder") from error


def _write(file: BinaryIO, binned: Binned) -> None:
    sizes = np.array([binned.classes, binned.first, *(edges.size for edges in binned.edges)], np.int64)
    for array in (binned.columns, binned.labels, binned.weights, binned.numbers, sizes, np.concatenate(binned.edges)):
        np.save(file, array, allow_pickle=False)


def _read_one(file: BinaryIO) -> Binned:
    *rows, sizes, edges = (np.load(file, allow_pickle=False) for _ in range(6))
    classes, first, *of_edges = sizes.tolist()
    columns, labels, weights, numbers = rows
    return Binned(columns, labels, weights, numbers, np.split(edges, np.cumsum(of_edges)[:-1]), classes, first)
