"""What is asked of every rank, and what a rank answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

# Names of `train.launcher`; `launch` has what they mean.
LAUNCHERS = ("horovod", "barrier_tf", "sockets", "in_process")


@dataclass(frozen=True)
class Work:
    """One function that every rank runs.

    Attributes
    ----------
    function : str
        ``package.module:name``, called as ``name(job, ranks) -> (facts, payload)`` with a `Communicator`.
    job : dict
        What JSON can say; the same for every rank.
    has_tensors : bool
        Whether ranks need more than sums of arrays. Those that do not are joined by `ring`, whatever joins the others, and
        start without TensorFlow.
    load : str
        A function by its name, or none: ``name()`` has loaded what takes long to load, in a process whose forks are to have it.
    """

    function: str
    job: dict[str, Any]
    has_tensors: bool = True
    load: str = ""


def name_of(function: Callable[..., Any]) -> str:
    """The inverse of `named`."""
    return f"{function.__module__}:{function.__name__}"


def named(function: str) -> Callable[..., Any]:
    """What is called ``package.module:name``."""
    module, name = function.split(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(module), name))


@dataclass(frozen=True)
class RankResult:
    """What became of one rank.

    Attributes
    ----------
    rank : int
        ``0 <= rank < size``.
    host : str
        Where it ran.
    executor : str
        Address of the executor it ran beside.
    seconds : float
        Wall clock from start to end of its process.
    facts : dict
        What the function returned; plain values.
    payload : bytes
        What the function returned; usually empty except for rank 0.
    error : str
        Why it has no result, in one line; empty if it has one.
    last_lines : str
        The end of what it wrote to stderr, if it failed.
    is_final : bool
        Whether the same work would fail again.
    """

    rank: int
    host: str
    executor: str
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    error: str = ""
    last_lines: str = ""
    is_final: bool = False


class Summing(Protocol):
    """How a rank reaches the others. Every rank calls the same methods in the same order."""

    rank: int
    size: int

    def sum(self, values: Any) -> Any:
        """The sum over ranks of an array of double, or of whole numbers (int64, exactly), on every rank."""


class Gathering(Summing, Protocol):
    """The same, for what trees tell each other beside sums."""

    def gather(self, own: np.ndarray) -> list[np.ndarray]:
        """A flat array of every rank, by rank, on every rank; all of one kind, each of any length."""

    def swap(self, sizes: Sequence[int], fill: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
        """Bytes that every rank has for this one, by rank; to be read until this is called again.

        Parameters
        ----------
        sizes : sequence of int
            How many this rank has for each.
        fill : callable
            Called with a rank and with as many bytes, to write into them what it has for that rank.
        """


class Communicator(Summing, Protocol):
    """The same, with tensors."""

    def mean_gradient(self, flat: Any) -> Any:
        """The mean over ranks of one flat tensor; may be called inside a `tf.function`."""

    def broadcast(self, variables: list[Any]) -> None:
        """Give every rank the variables of rank 0."""


class Alone:
    """The only rank there is: nothing to reduce."""

    rank = 0
    size = 1

    def mean_gradient(self, flat: Any) -> Any:
        """The tensor itself."""
        return flat

    def sum(self, values: Any) -> Any:
        """The values themselves."""
        return values

    def gather(self, own: np.ndarray) -> list[np.ndarray]:
        """The array itself."""
        return [own.reshape(-1)]

    def swap(self, sizes: Sequence[int], fill: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
        """What it has for itself."""
        return filled(sizes, fill)

    def broadcast(self, variables: list[Any]) -> None:
        """Nothing to do."""


def filled(sizes: Sequence[int], fill: Callable[[int, np.ndarray], None]) -> list[np.ndarray]:
    """What a rank has for each, in memory of its own; see `Gathering.swap`."""
    found = [np.empty(size, np.uint8) for size in sizes]
    for rank, into in enumerate(found):
        fill(rank, into)
    return found


def as_summed(values: Any) -> np.ndarray:
    """The array that is added up: whole numbers as they are, all else as doubles."""
    array = np.asarray(values)
    return array if array.dtype == np.int64 else array.astype(np.float64)


def broadcast_by_sums(ranks: Summing, variables: list[Any]) -> None:
    """Give every rank the variables of rank 0."""
    for variable in variables:
        mine = variable.numpy().astype(np.float64) * (ranks.rank == 0)
        # What all others add is zero, and a float survives as a double: the sum is rank 0's to the last bit.
        variable.assign(ranks.sum(mine).astype(variable.numpy().dtype))


def gather_bytes(ranks: Gathering, content: bytes) -> list[bytes]:
    """Bytes of every rank, by rank, on every rank."""
    return [told.tobytes() for told in ranks.gather(np.frombuffer(content, np.uint8))]
