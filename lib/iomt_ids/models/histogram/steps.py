"""Trees that grow in step: what each of them wants added up over ranks at the same time travels in one piece.

A tree grows as a generator, which yields an array of int64 and is sent its sum over ranks. A sum costs a wait for the slowest
rank, whatever its size: some trees that wait together wait once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from iomt_ids.distributed.work import Summing

Steps = Generator[np.ndarray, np.ndarray, Any]


def in_step(ranks: Summing, growing: Sequence[Steps]) -> list[Any]:
    """The outcome of each; every rank calls it with as many, which want the same numbers of sums."""
    outcomes: list[Any] = [None] * len(growing)
    asked: dict[int, np.ndarray] = {}

    def go_on(place: int, answer: np.ndarray | None) -> None:
        asked.pop(place, None)
        try:
            asked[place] = growing[place].send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            outcomes[place] = end.value

    for place in range(len(growing)):
        go_on(place, None)
    while asked:
        for place, answer in zip(list(asked), _summed(ranks, list(asked.values())), strict=True):
            go_on(place, answer)
    return outcomes


def _summed(ranks: Summing, arrays: list[np.ndarray]) -> list[np.ndarray]:
    if len(arrays) == 1:
        return [ranks.sum(arrays[0])]  # one need not be put together with others
    ends = list(accumulate(array.size for array in arrays))
    whole = np.split(ranks.sum(np.concatenate([array.reshape(-1) for array in arrays])), ends[:-1])
    return [part.reshape(array.shape) for part, array in zip(whole, arrays, strict=True)]
