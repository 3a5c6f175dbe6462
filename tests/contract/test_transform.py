"""Steps say what goes in and what comes out, without starting a Spark job."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.transform import require_schema, schema_problems, step

_IN = T.StructType([T.StructField("rate", T.DoubleType()), T.StructField("iat", T.DoubleType())])
_OUT = T.StructType([*_IN.fields, T.StructField("is_fast", T.BooleanType())])


@step(takes=_IN, gives=_OUT)
def flag_fast(flows: DataFrame, *, limit: float) -> DataFrame:
    """Flag rows above a limit."""
    return flows.withColumn("is_fast", F.col("rate") > limit)


@step(takes=_IN, gives=_OUT)
def forget_to_flag(flows: DataFrame) -> DataFrame:
    """Return what came in."""
    return flows


def _flows(spark: SparkSession, schema: str) -> DataFrame:
    return spark.createDataFrame([], schema)


def test_a_step_lets_rows_through_that_fit(spark: SparkSession) -> None:
    flows = spark.createDataFrame([(1.0, 0.0), (3.0, 0.0)], _IN)
    assert [r.is_fast for r in flows.transform(flag_fast, limit=2.0).collect()] == [False, True]


def test_a_step_names_every_wrong_column_at_once(spark: SparkSession) -> None:
    with pytest.raises(ContractError) as caught:
        flag_fast(_flows(spark, "rate string, other int"), limit=1.0)
    assert str(caught.value) == "into flag_fast: column 'rate' is string, wanted double; column 'iat' is missing"


def test_a_step_that_breaks_its_promise_is_named(spark: SparkSession) -> None:
    with pytest.raises(ContractError, match=r"^out of forget_to_flag: column 'is_fast' is missing$"):
        forget_to_flag(_flows(spark, "rate double, iat double"))


def test_more_columns_and_lost_nullability_are_no_problem(spark: SparkSession) -> None:
    strict = T.StructType([T.StructField("rate", T.DoubleType(), False)])
    flows = _flows(spark, "rate double, more string")
    assert schema_problems(flows, strict) == []
    assert require_schema(flows, strict, "here") is flows


def test_a_step_keeps_its_name_and_sentence() -> None:
    assert (flag_fast.__name__, flag_fast.__doc__) == ("flag_fast", "Flag rows above a limit.")
