"""Memory that one tree leaves to the next: to get it anew from the system costs a tenth of what is done with it."""

from __future__ import annotations

from typing import Any

import numpy as np

# A tree's rows, in one word each how often they count and their class, and as much room for both; see `grow.grow_tree`.
Room = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# More than is asked for, since the next tree may want a little more.
_SPARE = 8


class Memory:
    """Arrays by name; whoever asks for one again gets the same memory, whatever is in it."""

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def array(self, name: str, size: int, kind: Any) -> np.ndarray:
        """Of one dimension and any content; the one that had this name before is not to be used any more."""
        held = self._held.pop(name, None)
        if held is None or held.size < size:
            held = None  # not both at once
            held = np.empty(size + size // _SPARE, kind)
        self._held[name] = held
        return held[:size]

    def room(self, rows: int, place: int = 0) -> Room:
        """For the rows of a tree; those of other places, divided one tree after the other, have the same to spare."""
        own, codes = (self.array(f"{what} {place}", rows, np.uint32) for what in ("rows", "codes"))
        return own, codes, self.array("spare rows", rows, np.uint32), self.array("spare codes", rows, np.uint32)


def first_of(room: Room, rows: int) -> Room:
    """As much of it as so many rows need."""
    return room[0][:rows], room[1][:rows], room[2][:rows], room[3][:rows]
