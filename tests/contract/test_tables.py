"""The schemas that follow from the columns."""

from __future__ import annotations

import pytest
from pyspark.sql import types as T

from iomt_ids.contract.flows import FLOW_COLUMNS
from iomt_ids.contract.tables import BRONZE, FEATURES, SILVER, TABLES, Table


@pytest.mark.parametrize("schema", [BRONZE, SILVER, FEATURES], ids=["bronze", "silver", "features"])
def test_every_flow_column_is_double_and_may_be_null(schema: T.StructType) -> None:
    for column in FLOW_COLUMNS:
        field = schema[column.name]
        assert (field.dataType, field.nullable) == (T.DoubleType(), True)


def test_silver_keeps_every_column_of_bronze() -> None:
    assert set(BRONZE.fieldNames()) < set(SILVER.fieldNames())


@pytest.mark.parametrize("table", TABLES, ids=[t.name for t in TABLES])
def test_a_table_is_one_that_delta_can_write(table: Table) -> None:
    names = table.schema.fieldNames()
    assert len({n.lower() for n in names}) == len(names), "Delta tells no case apart"
    assert not any(set(n) & set(" ,;{}()\n\t=") for n in names), "Delta refuses these"
    assert set(table.partitions) < set(names)
    assert all(not table.schema[p].nullable for p in table.partitions), "an empty partition value comes back as null"


def test_table_names_are_layer_and_noun_and_never_given_twice() -> None:
    names = [t.name for t in TABLES]
    assert len(set(names)) == len(names)
    assert {n.split(".")[0] for n in names} == {"bronze", "silver", "gold"}


def test_flows_are_partitioned_by_split_and_category() -> None:
    of_flows = [t for t in TABLES if {"source_line", "category"} <= set(t.schema.fieldNames())]
    assert {t.partitions for t in of_flows} == {("split", "category")}
