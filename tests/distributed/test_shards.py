"""Rows dealt to ranks."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError, LaunchError
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.shards import _file_order, count_rows, parquet_files, read_rows, scale


def _job(files: list[str], features: list[str], label: str, **more: Any) -> dict[str, Any]:
    return {"train": files, "features": features, "scaling": [[0.0, 1.0]] * len(features), "label": label, **more}


def _values(files: list[str], name: str) -> list[float]:
    rows = read_rows(_job(files, [name], "y"), "train", 0, 1)
    return sorted(np.round(np.sign(rows.features[:, 0]) * np.expm1(np.abs(rows.features[:, 0]))).tolist())


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
        shard = read_rows(_job(numbered, ["x"], "n"), "train", rank, ranks)
        np.testing.assert_array_equal(shard.labels[shard.shard], np.arange(rank, 70_016, ranks))
        assert len(shard.shard) == ShardPlan(count_rows(numbered), ranks, 64).rows_of(rank)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 4))
def test_a_row_that_stands_for_several_is_dealt_as_often(copies: list[int], ranks: int) -> None:
    with TemporaryDirectory() as folder:
        file = f"{folder}/part-0.parquet"
        pq.write_table(pa.table({"n": range(len(copies)), "c": pa.array(copies, pa.int32()), "x": [0.5] * len(copies)}), file)
        every = np.repeat(np.arange(len(copies)), copies)
        assert count_rows([file], "c") == len(every)
        for rank in range(ranks):
            shard = read_rows(_job([file], ["x"], "n", copies="c"), "train", rank, ranks)
            np.testing.assert_array_equal(shard.labels[shard.shard], every[rank::ranks])
            assert set(shard.labels.tolist()) == set(every[rank::ranks].tolist()), "a row is held that is never asked for"
            np.testing.assert_array_equal(shard.weights, [every[rank::ranks].tolist().count(n) for n in shard.labels])


def test_a_column_of_arrays_is_read_as_it_stands(tmp_path: Path) -> None:
    told = np.arange(24, dtype=np.float32).reshape(6, 4)
    pq.write_table(pa.table({"y": range(6), "h": pa.array(told.tolist(), pa.list_(pa.float32()))}), tmp_path / "part-0.parquet")
    shard = read_rows(_job([str(tmp_path / "part-0.parquet")], ["a"], "y", sequence="h"), "train", 1, 2)
    np.testing.assert_array_equal(shard.features, told[1::2])
    assert shard.features.dtype == np.float32


@pytest.mark.parametrize("missing", [None, float("inf")])
def test_a_missing_value_is_refused_by_name(tmp_path: Path, missing: float | None) -> None:
    pq.write_table(pa.table({"y": [0, 1], "a": [1.0, 2.0], "b": [1.0, missing]}), tmp_path / "part-0.parquet")
    with pytest.raises(ContractError, match=r"not finite in: b$"):
        read_rows(_job([str(tmp_path / "part-0.parquet")], ["a", "b"], "y"), "train", 0, 1)


def test_a_file_that_a_node_cannot_see_is_a_launch_error(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="every node must see"):
        read_rows(_job([str(tmp_path / "part-0.parquet")], ["a"], "y"), "train", 0, 1)


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
        assert _values(files, "x") == list(range(60))


def test_rows_that_a_deletion_vector_has_removed_are_not_read(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "deleted")
    rows = spark.range(20).select(F.col("id").cast("double").alias("x"), F.lit(0).alias("y"), F.lit("train").alias("split"))
    rows.coalesce(1).write.format("delta").partitionBy("split").option("delta.enableDeletionVectors", "true").save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE x = 3")
    assert list(Path(path).glob("deletion_vector*"))
    with parquet_files(spark.read.format("delta").load(path), ["y", "x"]) as files:
        assert not any(f.startswith(path) for f in files)
        assert _values(files, "x") == [x for x in range(20) if x != 3]


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
        found = _values(files, "x")
        assert found == expected if expected is not None else len(found) == 7
    assert not any(Path(f).exists() for f in files)
