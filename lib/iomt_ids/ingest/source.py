"""What a data source says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Capture:
    """What a file's place and name say of its rows.

    Attributes
    ----------
    path : str
        Path below the data folder, with forward slashes.
    split : str
        ``train``, ``test`` or ``profile``.
    protocol : str
        One of `contract.attacks.PROTOCOLS`.
    attack : str
        Name of the class.
    category : str
        Category of the class.
    device : str or None
        The profiled device; None where the capture holds many.
    """

    path: str
    split: str
    protocol: str
    attack: str
    category: str
    device: str | None


@dataclass(frozen=True)
class Source:
    """One way in which captured traffic is laid out in files.

    Attributes
    ----------
    glob : str
        Pattern of the files below the data folder.
    describe : callable
        ``describe(path) -> Capture``, or a sentence that says what is wrong with the name.
    sentence : str
        What the source is.
    """

    glob: str
    describe: Callable[[str], Capture | str]
    sentence: str
