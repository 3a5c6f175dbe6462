"""The step decorator: what goes in, what comes out, checked on every call without a Spark job."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from iomt_ids.contract.errors import ContractError


def schema_problems(flows: DataFrame, wanted: T.StructType) -> list[str]:
    """Every difference between a DataFrame's columns and a schema, as sentences.

    Columns that the schema does not name are not a problem; nullability is not compared,
    because Spark loses it on the way through most plans.
    """
    have = {f.name: f.dataType for f in flows.schema.fields}
    problems = []
    for field in wanted.fields:
        if field.name not in have:
            problems.append(f"column '{field.name}' is missing")
        elif have[field.name] != field.dataType:
            problems.append(
                f"column '{field.name}' is {have[field.name].simpleString()}, wanted {field.dataType.simpleString()}"
            )
    return problems


def require_schema(flows: DataFrame, wanted: T.StructType, place: str) -> DataFrame:
    """Return `flows` unchanged, or say everything that is wrong with its columns.

    Raises
    ------
    ContractError
        Naming ``place`` and each missing or mistyped column.
    """
    problems = schema_problems(flows, wanted)
    if problems:
        raise ContractError(f"{place}: {'; '.join(problems)}")
    return flows


def step(*, takes: T.StructType, gives: T.StructType) -> Callable[..., Any]:
    """Declare the columns that a step needs and those it promises.

    Parameters
    ----------
    takes, gives : StructType
        Columns the first argument must have, columns the result must have; more are allowed.

    Returns
    -------
    decorator
        For a function ``verb_object(flows, *, keyword_only) -> DataFrame``.
    """

    def declare(function: Callable[..., DataFrame]) -> Callable[..., DataFrame]:
        @functools.wraps(function)
        def checked(flows: DataFrame, **options: Any) -> DataFrame:
            require_schema(flows, takes, f"into {function.__name__}")
            return require_schema(function(flows, **options), gives, f"out of {function.__name__}")

        return checked

    return declare
