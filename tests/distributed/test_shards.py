"""Rows dealt to ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError, LaunchError
from iomt_ids.distributed.shards import ShardPlan, _file_order, count_rows, parquet_files, read_shard, scale

_PLANS = st.builds(
    ShardPlan, rows=st.integers(1, 5000), ranks=st.integers(1, 9), batch=st.integers(1, 700)
).filter(lambda plan: plan.rows >= plan.ranks)


@given(_PLANS)
def test_every_rank_takes_equal_steps_of_equal_size_and_sees_all_its_rows(plan: ShardPlan) -> None:
    assert sum(plan.rows_of(rank) for rank in range(plan.ranks)) == plan.rows
    for rank in range(plan.ranks):
        batches = list(plan.batches(rank, np.arange(plan.rows_of(rank))))
        assert len(batches) == plan.steps
        assert {len(b) for b in batches} == {plan.batch_rows}
        assert set(np.concatenate(batches).tolist()) == set(range(plan.rows_of(rank)))


def test_fewer_rows_than_ranks_are_refused() -> None:
    with pytest.raises(ContractError, match="1 rows cannot be dealt to 2 ranks"):
        ShardPlan(1, 2, 10).require_rows()


@pytest.fixture
def numbered(tmp_path: Path) -> list[str]:
    """Three files, the second of several row groups, one empty; rows are numbered through."""
    files, first = [], 0
    for part, rows in enumerate((5, 70_000, 0, 11)):
        table = pa.table({"n": pa.array(np.arange(first, first + rows), pa.int32()), "x": np.arange(rows) * 0.5})
        files.append(str(tmp_path / f"part-{part:05d}.parquet"))
        pq.write_table(table, files[-1], row_group_size=30_000)
        first += rows
    return files


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_shards_are_disjoint_and_complete_and_take_turns(numbered: list[str], ranks: int) -> None:
    for rank in range(ranks):
        shard = read_shard(numbered, ["n"], rank, ranks)
        np.testing.assert_array_equal(shard[:, 0], np.arange(rank, 70_016, ranks))
        assert len(shard) == ShardPlan(count_rows(numbered), ranks, 64).rows_of(rank)


def test_a_missing_value_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [1.0, None]}), tmp_path / "part-0.parquet")
    with pytest.raises(ContractError, match="not finite in: b"):
        read_shard([str(tmp_path / "part-0.parquet")], ["a", "b"], 0, 1)


def test_a_file_that_a_node_cannot_see_is_a_launch_error(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="every node must see"):
        read_shard([str(tmp_path / "part-0.parquet")], ["a"], 0, 1)


def test_scaling_is_the_one_the_contract_states() -> None:
    scaled = scale(np.array([[-np.expm1(2.0)], [0.0], [np.expm1(5.0)]]), [(1.0, 2.0)])
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[:, 0], [-1.5, -0.5, 2.0], rtol=1e-6)


def test_files_are_ordered_by_partition_and_number_not_by_their_random_part() -> None:
    files = ["/t/c=B/part-00000-aaa.c000.snappy.parquet", "/t/c=A/part-00001-bbb.c000.snappy.parquet",
             "/t/c=A/part-00000-zzz.c001.snappy.parquet", "/t/c=A/part-00000-yyy.c000.snappy.parquet"]
    assert sorted(files, key=_file_order) == [files[3], files[2], files[1], files[0]]


@pytest.fixture(scope="module", params=["delta", "parquet"])
def table(request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("table") / "my table")
    rows = spark.range(100).select(
        F.col("id").cast("double").alias("x"), (F.col("id") % 3).cast("int").alias("y"),
        F.when(F.col("id") < 60, "train").otherwise("test").alias("split"),
        F.when(F.col("id") % 2 == 0, "a b").otherwise("c:d").alias("category"),
    )
    for _ in range(2):  # the second write leaves the first one's files behind in Delta
        rows.write.format(request.param).mode("overwrite").partitionBy("split", "category").save(path)
    return f"{request.param} {path}"


def test_a_partition_of_a_table_is_read_where_it_is(spark: SparkSession, table: str) -> None:
    kind, path = table.split(" ", 1)
    flows = spark.read.format(kind).load(path).where(F.col("split") == "train")
    with parquet_files(flows, ["y", "x"]) as files:
        assert all(f.startswith(path) for f in files)
        assert sorted(read_shard(files, ["x"], 0, 1)[:, 0]) == list(range(60))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda flows: flows.where("y = 1"), [x for x in range(60) if x % 3 == 1]),
        (lambda flows: flows.withColumn("x", F.col("x") + 1000), [x + 1000 for x in range(60)]),
        (lambda flows: flows.limit(7).withColumn("split", F.lit("train")), None),
    ],
    ids=["filtered", "computed", "limited"],
)
def test_rows_that_no_file_holds_are_written_out_and_removed(
    spark: SparkSession, table: str, change: object, expected: list | None
) -> None:
    kind, path = table.split(" ", 1)
    flows = change(spark.read.format(kind).load(path).where(F.col("split") == "train"))  # type: ignore[operator]
    with parquet_files(flows, ["y", "x"]) as files:
        assert not any(f.startswith(path) for f in files)
        found = sorted(read_shard(files, ["x"], 0, 1)[:, 0])
        assert found == expected if expected is not None else len(found) == 7
    assert not any(Path(f).exists() for f in files)
