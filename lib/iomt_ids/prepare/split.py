"""The scheme that cuts rows into train and test, and the validation split: taken from train only, identical vectors on one side.

The official test split is the end of each capture. Validation rows are chosen by a hash of their
feature vector, so they look like train rows more than test rows do: a validation score is for choosing,
not for reporting.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.identity import columns_of_set
from iomt_ids.contract.splits import OFFICIAL, Scheme, list_files, not_splittable, side_of
from iomt_ids.contract.tables import BRONZE, CUT
from iomt_ids.contract.transform import step

_GRAIN = 1_000_000


def vector_hash(*, salt: str) -> Column:
    """64-bit hash of a row's leak-free features; equal vectors, equal hashes."""
    # Without the clock and the window size: they make rows differ that are the same to every detector.
    # A zero has a sign in binary but not in a comparison of features.
    return F.xxhash64(F.lit(salt), *[F.col(name) + F.lit(0.0) for name in columns_of_set("leak_free")])


@step(takes=BRONZE, gives=CUT)
def cut_flows(flows: DataFrame, *, scheme: Scheme) -> DataFrame:
    """Cut labelled rows into train and test by a scheme; profiling captures stay what they are.

    - `source_split` (string) -- the split as the source says
    - `split_scheme` (string) -- what tells this cut from others

    Raises
    ------
    ContractError
        If a group split is asked for and no class has several captures: it would be the official one under another name.
    """
    named = flows.withColumns({"source_split": F.col("split"), "split_scheme": F.lit(scheme.text)})
    files = [] if scheme.name in (OFFICIAL, "random") else list_files(named, "source_split")
    if scheme.name == "group" and files and len(not_splittable(files)) == len({f.attack for f in files}):
        raise ContractError("no class has more than one capture, so there is no group split; use split.scheme=time or official")
    return side_of(named, scheme, files, split="source_split", into="split")


@step(takes=BRONZE, gives=BRONZE)
def split_flows(flows: DataFrame, *, salt: str, validation_fraction: float) -> DataFrame:
    """Move a share of the distinct train rows to split `validation`."""
    held_out = F.pmod(vector_hash(salt=salt), F.lit(_GRAIN)) < F.lit(int(validation_fraction * _GRAIN))
    return flows.withColumn(
        "split", F.when((F.col("split") == "train") & held_out, F.lit("validation")).otherwise(F.col("split"))
    )
