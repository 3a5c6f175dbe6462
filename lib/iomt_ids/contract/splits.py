"""Ways to cut the same rows into train and test, as one mechanism: a rule a file, and the side it puts a line on.

The source's own split is one of them. What a score is worth depends on the cut, so a cut is part of every score: see
`evaluate.split_audit` for what each puts on both sides.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

SCHEMES = ("official", "group", "time", "random")
OFFICIAL = SCHEMES[0]
# Rows that a scheme neither learns from nor scores; no split of any table that detectors see.
ASIDE = "aside"
_GRAIN = 1_000_000
_NEVER = 2**62
_SIDES = ("train", "test")
_SUFFIX = re.compile(r"(?:_(?:train|test))?(?:\.[A-Za-z]+)*$", re.IGNORECASE)


@dataclass(frozen=True)
class Scheme:
    """How rows are cut into train and test.

    Attributes
    ----------
    name : str
        ``official``: as the source has it. ``group``: captures whole, where a class has several; the other classes stay
        as they are. ``time``: each train capture in two, the end for testing, and the source's test rows aside.
        ``random``: rows by chance, which puts neighbours on both sides: for comparison only.
    test_fraction : float
        Share of captures or rows for testing; of no meaning for ``official``.
    gap_rows : int
        Rows of a capture that ``time`` leaves out between train and test, so that no test row's past is learnt.
    salt : str
        Another salt, other captures and rows for testing.
    """

    name: str
    test_fraction: float = 0.2
    gap_rows: int = 0
    salt: str = ""

    @property
    def text(self) -> str:
        """What tells this cut from others, for tables and models.

        Examples
        --------
        >>> Scheme("official").text, Scheme("time", 0.2, gap_rows=19).text, Scheme("random", 0.25, salt="s").text
        ('official', 'time, test 0.2, gap 19', 'random, test 0.25, salt s')
        """
        if self.name == OFFICIAL:
            return OFFICIAL
        detail = f"gap {self.gap_rows}" if self.name == "time" else f"salt {self.salt}"
        return f"{self.name}, test {self.test_fraction:g}, {detail}"


def scheme_name(text: str) -> str:
    """The name in a scheme's text."""
    return text.partition(",")[0]


@dataclass(frozen=True)
class CaptureFile:
    """A file of labelled rows.

    Attributes
    ----------
    file : str
        As in ``source_file``.
    attack : str
        Its class.
    split : str
        ``train`` or ``test``, as the source says.
    first_line, last_line : int
        Of its rows.
    """

    file: str
    attack: str
    split: str
    first_line: int
    last_line: int

    @property
    def capture(self) -> str:
        """The recording that the file is a part of; the source cuts some into a train and a test file.

        Examples
        --------
        >>> CaptureFile("WiFI_and_MQTT/attacks/csv/test/ARP_Spoofing_test.pcap.csv", "ARP_Spoofing", "test", 2, 9).capture
        'ARP_Spoofing'
        >>> CaptureFile("ward/TCP_IP-DDoS-UDP8_train.pcap.csv.gz", "DDoS-UDP", "train", 2, 9).capture
        'TCP_IP-DDoS-UDP8'
        """
        return _SUFFIX.sub("", self.file.rpartition("/")[2])


def list_files(flows: DataFrame, split: str) -> list[CaptureFile]:
    """The files of labelled rows, by name; one pass over three columns.

    Parameters
    ----------
    flows : DataFrame
        With ``source_file``, ``source_line``, ``attack`` and the source's own split.
    split : str
        The column of the source's own split.
    """
    found = flows.filter(F.col(split).isin(*_SIDES)).groupBy("source_file").agg(
        F.first("attack").alias("attack"), F.first(split).alias("side"),
        F.min("source_line").alias("first"), F.max("source_line").alias("last"),
    )
    return sorted(
        (CaptureFile(r["source_file"], r["attack"], r["side"], r["first"], r["last"]) for r in found.collect()),
        key=lambda f: f.file,
    )


def captures_of(files: Iterable[CaptureFile]) -> dict[str, list[str]]:
    """The captures of each class."""
    found: dict[str, set[str]] = {}
    for file in files:
        found.setdefault(file.attack, set()).add(file.capture)
    return {attack: sorted(captures) for attack, captures in found.items()}


def not_splittable(files: Sequence[CaptureFile]) -> list[str]:
    """Classes of a single capture, which no group split can put on both sides."""
    return [attack for attack, captures in captures_of(files).items() if len(captures) < 2]


def side_of(flows: DataFrame, scheme: Scheme, files: Sequence[CaptureFile], *, split: str, into: str) -> DataFrame:
    """Add the side that a scheme puts each row on.

    Parameters
    ----------
    flows : DataFrame
        With ``source_file``, ``source_line`` and the source's own split.
    files : sequence of CaptureFile
        Of `list_files`; not needed for schemes that look at single rows.
    split, into : str
        The column of the source's own split, and the one to write: ``train``, ``test`` or `ASIDE`; other splits stay.
    """
    own = F.col(split)
    if scheme.name == OFFICIAL:
        return flows.withColumn(into, own)
    if scheme.name == "random":
        drawn = F.pmod(F.xxhash64(F.lit(f"{scheme.salt} test"), "source_file", "source_line"), F.lit(_GRAIN))
        side = F.when(drawn < int(scheme.test_fraction * _GRAIN), "test").otherwise("train")
        return flows.withColumn(into, F.when(own.isin(*_SIDES), side).otherwise(own))
    rules = group_rules(files, scheme) if scheme.name == "group" else time_rules(files, scheme)
    rows = [(file, until, since) for file, (until, since) in rules.items()]
    table = flows.sparkSession.createDataFrame(rows, "source_file string, _until long, _since long").coalesce(1)
    line = F.col("source_line")
    side = F.when(line <= F.col("_until"), "train").when(line >= F.col("_since"), "test").otherwise(ASIDE)
    placed = flows.join(F.broadcast(table), "source_file", "left")
    return placed.withColumn(into, F.when(own.isin(*_SIDES), side).otherwise(own)).drop("_until", "_since")


def group_rules(files: Sequence[CaptureFile], scheme: Scheme) -> dict[str, tuple[int, int]]:
    """Last line of train and first line of test of each file, whole captures on one side.

    Of the captures of a class the share for testing is drawn by a hash of their names, one at least, never all.
    """
    tested: dict[str, set[str]] = {}
    for attack, captures in captures_of(files).items():
        wanted = min(max(1, round(scheme.test_fraction * len(captures))), len(captures) - 1)
        order = sorted(captures, key=lambda c: hashlib.sha256(f"{scheme.salt} {c}".encode()).digest())
        tested[attack] = set(order[:wanted])
    alone = set(not_splittable(files))
    return {
        f.file: _whole("test" if (f.split == "test" if f.attack in alone else f.capture in tested[f.attack]) else "train")
        for f in files
    }


def time_rules(files: Sequence[CaptureFile], scheme: Scheme) -> dict[str, tuple[int, int]]:
    """Last line of train and first line of test of each file, train captures in two, with a gap.

    A capture that is too short for the gap has no test rows.
    """
    rules: dict[str, tuple[int, int]] = {}
    for f in files:
        rows = f.last_line - f.first_line + 1
        until = f.last_line - math.floor(scheme.test_fraction * rows)
        rules[f.file] = (until, until + 1 + scheme.gap_rows) if f.split == "train" else (-1, _NEVER)
    return rules


def _whole(side: str) -> tuple[int, int]:
    return (_NEVER, _NEVER) if side == "train" else (-1, -1)


def cut_captures(files: Sequence[CaptureFile], scheme: Scheme) -> Mapping[str, int]:
    """Classes with a capture on both sides, and the rows that are left out between them.

    Test rows of these go on where their train rows end: they show the same minutes of the same devices.
    """
    if scheme.name == "random":
        return {f.attack: 0 for f in files}
    if scheme.name == "time":
        return {f.attack: scheme.gap_rows for f in files if f.split == "train"}
    alone = set(not_splittable(files))
    sides: dict[tuple[str, str], set[str]] = {}
    for f in files:
        if scheme.name == OFFICIAL or f.attack in alone:
            sides.setdefault((f.attack, f.capture), set()).add(f.split)
    return {attack: 0 for (attack, _), found in sides.items() if len(found) > 1}
