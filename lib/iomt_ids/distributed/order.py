"""Which rows are learnt from in which step: an order of the seed and the epoch, whatever the number of ranks.

Rows are dealt like cards: number ``j`` goes into deck ``j % decks``. Each deck is shuffled by itself, and the order of an
epoch takes one card of each deck in turn. A rank has every ``ranks``-th deck, so place ``p`` of the order and the row
that stands there belong to the same rank, ``p % ranks``, and every rank finds its own part of the order without knowing
anybody else's rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from iomt_ids.contract.errors import ContractError

# Each divides the next, and together they have 1 to 10 and 12 as divisors: numbers of ranks that see the same order.
_DECKS = (1, 2, 12, 120, 840, 5040)
_CARDS_AT_LEAST = 128


@dataclass(frozen=True)
class ShardPlan:
    """How many rows and steps each rank has, and in which order it learns from them.

    Attributes
    ----------
    rows : int
        Of all ranks together; a row that stands for several counts as often.
    ranks : int
        Rank ``r`` has rows ``r``, ``r + ranks``, ``r + 2 * ranks``, ...
    batch : int
        Rows a rank learns from in one step.
    """

    rows: int
    ranks: int
    batch: int

    def rows_of(self, rank: int) -> int:
        """Rows of one rank; two ranks differ by one at most."""
        return len(range(rank, self.rows, self.ranks))

    @property
    def batch_rows(self) -> int:
        """Rows of one step, on every rank; a small shard is one batch."""
        return min(self.batch, self.rows_of(0))

    @property
    def steps(self) -> int:
        """Steps of one epoch, on every rank: a rank that stopped earlier would leave the others waiting."""
        return -(-self.rows_of(0) // self.batch_rows)

    @property
    def decks(self) -> int:
        """Parts that are shuffled by themselves: as many as leave each enough rows to be shuffled, a multiple of the ranks."""
        most = max(n for n in _DECKS if n == 1 or self.rows >= n * _CARDS_AT_LEAST)
        return math.lcm(most, self.ranks)

    def require_rows(self) -> None:
        """Refuse to deal fewer rows than ranks.

        Raises
        ------
        ContractError
            Naming both numbers.
        """
        if self.rows < self.ranks:
            raise ContractError(f"{self.rows} rows cannot be dealt to {self.ranks} ranks; fewer ranks are needed")

    def order(self, rank: int, seed: int, epoch: int) -> np.ndarray:
        """This rank's part of the order of an epoch.

        Returns
        -------
        ndarray of int64, shape (rows_of(rank),)
            Numbers of rows within the rank's shard. Place ``q`` is place ``q * ranks + rank`` of the order of all ranks.
        """
        mine = self.decks // self.ranks
        order = np.empty(self.rows_of(rank), np.int64)
        for place in range(mine):
            deck = place * self.ranks + rank
            cards = len(range(deck, self.rows, self.decks))
            shuffled = np.random.default_rng([seed, epoch, deck]).permutation(cards)
            order[place::mine] = shuffled * mine + place
        return order

    def batches(self, rank: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
        """Row numbers within a rank's shard, `steps` times `batch_rows` of them.

        Together the ranks have, in one step, the next ``ranks * batch_rows`` rows of the order; rows from its start fill
        the last step up.
        """
        order = self.order(rank, seed, epoch)
        places = np.arange(self.steps * self.batch_rows)
        # Whole rounds through all decks: from there on the same decks come again.
        rounds = max(self.rows // self.decks, 1) * (self.decks // self.ranks)
        filled = order[np.where(places < len(order), places, places % min(rounds, len(order)))]
        for start in range(0, len(filled), self.batch_rows):
            yield filled[start:start + self.batch_rows]
