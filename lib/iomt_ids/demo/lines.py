"""Numbers to CSV text, fast: format a pool once, then join its fragments.

Formatting a row costs far more than copying its text. So each class formats a pool of windows and
flows once, cut at the columns that vary on their own, and a row is a few fragments of the pool and
one freshly written clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from iomt_ids.contract.flows import columns_of, source_header

# Columns of a flow, which are drawn apart from the packets of a window.
_OF_FLOW = frozenset({
    "flow_header_bytes", "flow_rate_per_s", "source_rate_per_s", "destination_rate_per_s", "window_rate_per_s", "iat_s",
})
CLOCK = "iat_epoch_s"
_SAMPLE = 64
# Release v2 writes these without a decimal point.
_WHOLE = frozenset({
    "ip_protocol_mode", "window_ack_packets", "window_syn_packets", "window_fin_packets", "window_rst_packets",
    "length_sum_bytes", "length_min_bytes", "length_max_bytes", "window_packets",
})


def header_line(release: str) -> str:
    """The first line of every file of a release."""
    return ",".join(source_header(release)) + "\n"


def format_rows(columns: dict[str, np.ndarray], names: list[str], release: str) -> list[str]:
    """Join columns to lines, without a line end.

    Parameters
    ----------
    columns : dict of str to ndarray of float64, shape (rows,)
        Values by our name.
    names : list of str
        Columns to write, in order.
    release : str
        Tells which columns are whole numbers.
    """
    texts = [_texts(columns[name], whole=release == "v2" and name in _WHOLE) for name in names]
    return list(map(",".join, zip(*texts, strict=True)))


def _texts(values: np.ndarray, *, whole: bool) -> list[str]:
    numbers = values.astype(np.int64) if whole else values + 0.0  # no negative zero
    if len(numbers) > 1 and (numbers == numbers[0]).all():
        return [repr(numbers[0].item())] * len(numbers)
    # Sorting pays only where few values occur often.
    if len(np.unique(numbers[:_SAMPLE])) * 2 < min(len(numbers), _SAMPLE):
        distinct, index = np.unique(numbers, return_inverse=True)
        spelt = list(map(repr, distinct.tolist()))
        return list(map(spelt.__getitem__, index.tolist()))
    return list(map(repr, numbers.tolist()))


class FragmentPool:
    """Windows and flows of one recording as text fragments."""

    def __init__(self, columns: dict[str, np.ndarray], release: str) -> None:
        self._parts: list[tuple[str, list[str]]] = []
        names = [column.name for column in columns_of(release)]
        for part, group in groupby(names, key=_part):
            members = list(group)
            end = "\n" if members[-1] == names[-1] else ","
            rows = [] if part == CLOCK else [text + end for text in format_rows(columns, members, release)]
            self._parts.append((part, rows))

    def lines(self, windows: np.ndarray, flows: np.ndarray, clock: np.ndarray) -> str:
        """The text of rows.

        Parameters
        ----------
        windows, flows : ndarray of int, shape (rows,)
            Which window and which flow of the pool each row is made of.
        clock : ndarray of float64, shape (rows,)
            The disguised clock; not written in releases that have none.
        """
        choice = {"window": windows.tolist(), "flow": flows.tolist()}
        pieces = [""] * (len(windows) * len(self._parts))
        for place, (part, rows) in enumerate(self._parts):
            if part == CLOCK:
                pieces[place :: len(self._parts)] = [f"{value!r}," for value in clock.tolist()]
            else:
                pieces[place :: len(self._parts)] = map(rows.__getitem__, choice[part])
        return "".join(pieces)


def _part(name: str) -> str:
    if name == CLOCK:
        return CLOCK
    return "flow" if name in _OF_FLOW else "window"


def blocks(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a number of rows into (first, count) of at most `size`."""
    for first in range(0, rows, size):
        yield first, min(size, rows - first)
