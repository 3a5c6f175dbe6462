"""A forest grown by Spark is the same however its rows are spread."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import RDD
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError, ContractError, LaunchError
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.models.histogram import blocks, share
from iomt_ids.models.histogram.forest import Shape, grow
from iomt_ids.models.histogram.keep import all_trees
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.random_forest import DETECTOR, Params
from tests.builders import gold, problem

PROBLEM = problem("attack", [0, 1, 11])
SHAPE = Shape(6, 7, 16, "0.3", 1)


@pytest.fixture(scope="module")
def flows(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=200, gap=0.6).cache()


@pytest.fixture(scope="module")
def forest(flows):
    return share.fit_forest(flows.coalesce(1), PROBLEM, SHAPE, 3)


def arrays(trees):
    return [[getattr(t, n).tolist() for n in ("feature", "threshold", "right", "counts", "gain")] for t in trees]


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_the_same_seed_gives_the_same_trees_on_any_number_of_partitions_fetched_or_not(flows, forest, partitions, monkeypatch):
    rows = share._source_of(flows, PROBLEM)
    assert isinstance(share._fetch_few(rows, PROBLEM), tuple)
    monkeypatch.setattr(share, "_FEW_BYTES", 8 * len(PROBLEM.features) * flows.count() - 1)
    assert share._fetch_few(rows, PROBLEM) is rows
    spread = flows.repartition(partitions, F.rand(partitions))
    assert arrays(share.fit_forest(spread, PROBLEM, SHAPE, 3).trees) == arrays(forest.trees)


@pytest.mark.parametrize("is_kept", [True, False], ids=["left in files", "through Spark"])
def test_tasks_grow_the_trees_that_the_drivers_process_grows(spark, flows, forest, tmp_path, is_kept, monkeypatch):
    assert share._is_one_process(spark.sparkContext)
    monkeypatch.setattr(share, "_is_one_process", lambda context: False)
    launcher = ResumingLauncher(HorovodLauncher(spark), tmp_path, Endurance(1, 0, 1.0), lambda _: None) if is_kept else None
    kept, carried, collect = [], [], RDD.collect
    monkeypatch.setattr(RDD, "collect", lambda rdd: carried.append(collect(rdd)) or carried[-1])
    monkeypatch.setattr(share, "all_trees", lambda chunks, where: kept.append(where) or all_trees(chunks, where))
    assert arrays(share.fit_forest(flows, PROBLEM, SHAPE, 3, launcher).trees) == arrays(forest.trees)
    assert len(kept) == is_kept and len(carried[-1]) == (0 if is_kept else SHAPE.trees)
    if is_kept:
        shutil.rmtree(tmp_path)
        with pytest.raises(LaunchError, match="every node must see the run's folder"):
            all_trees([range(6)], kept[0])


@given(st.integers(0, 300), st.integers(1, 40))
def test_tasks_have_all_chunks_in_order_and_end_with_one_each(chunks, cores):
    wanted = [range(i, i + 1) for i in range(chunks)]
    tasks = share.guided(wanted, cores)
    assert [chunk for task in tasks for chunk in task] == wanted
    sizes = [len(task) for task in tasks]
    assert sizes == sorted(sizes, reverse=True) and sizes[-2 * cores :] == [1] * min(len(sizes), 2 * cores)
    assert not sizes or sizes[0] <= max(1, chunks / (2 * cores))


@pytest.fixture(scope="module")
def stored(spark, flows, tmp_path_factory):
    """A table: one of its rows has a class that is not to be learnt, one stands for none; neither has all values."""
    strange = {"attack_id": 17, PROBLEM.copies_column: 0}
    worthless = flows.limit(2).withColumn("ttl_mean", F.lit(None).cast("double"))
    others = [worthless.withColumn(name, F.lit(value).cast("int")) for name, value in strange.items()]
    table = flows.unionByName(others[0]).unionByName(others[1]).withColumn("split", F.lit("train"))
    place = str(tmp_path_factory.mktemp("stored"))
    table.repartition(3, F.rand(1)).write.format("delta").partitionBy("split").mode("overwrite").save(place)
    return spark.read.format("delta").load(place).filter(F.col("split") == "train")


@pytest.mark.parametrize("few", [0, share._FEW_BYTES], ids=["by tasks", "fetched"])
@pytest.mark.parametrize("seen", [True, False], ids=["read where they are", "left to Spark"])
def test_a_tables_files_give_the_same_trees(stored, forest, seen, few, monkeypatch):
    monkeypatch.setattr(share, "_FEW_BYTES", few)
    if not seen:
        monkeypatch.setattr(share.Path, "is_file", lambda path: False)
    assert isinstance(share._source_of(stored, PROBLEM), blocks.TableRows) == seen
    assert arrays(share.fit_forest(stored, PROBLEM, SHAPE, 3).trees) == arrays(forest.trees)


@pytest.mark.parametrize("few", [0, share._FEW_BYTES], ids=["by tasks", "fetched"])
def test_on_one_machine_tasks_and_driver_hand_each_other_files_that_are_gone_afterwards(stored, forest, tmp_path, few, monkeypatch):
    monkeypatch.setattr(share, "_FEW_BYTES", few)
    monkeypatch.setattr(share.tempfile, "tempdir", str(tmp_path))
    handed, read = [], share.Dealt.read
    monkeypatch.setattr(share.Dealt, "read", lambda dealt: handed.append([held for held, _ in dealt.pieces]) or read(dealt))
    assert arrays(share.fit_forest(stored, PROBLEM, SHAPE, 3).trees) == arrays(forest.trees)
    assert handed and all(held.startswith(str(tmp_path)) for pieces in handed for held in pieces)
    assert not list(tmp_path.iterdir())


def test_pieces_of_a_tables_files_have_its_rows_block_by_block(stored, monkeypatch):
    monkeypatch.setattr(blocks, "_ROWS", 70)
    files = share._source_of(stored, PROBLEM).files
    found = list(files.blocks(files.pieces()))
    assert len(found) > 6 and max(ids.size for ids, *_ in found) <= 70
    whole = files.whole()
    assert whole[0].size == 600
    for parts, wanted in zip(zip(*found, strict=True), whole, strict=True):
        assert np.array_equal(np.concatenate(parts), wanted)


@pytest.mark.parametrize("few", [0, share._FEW_BYTES])
def test_a_missing_value_in_a_tables_file_stops_the_fit(spark, stored, tmp_path, few, monkeypatch):
    monkeypatch.setattr(share, "_FEW_BYTES", few)
    holed = stored.withColumn("ttl_mean", F.when(F.col("source_line") != 2, F.col("ttl_mean")))
    holed.write.format("delta").partitionBy("split").save(str(tmp_path / "holed"))
    kind, said = (ContractError, "") if few else (Exception, f"{ContractError.__name__}: ")
    with pytest.raises(kind, match=rf"{said}features are missing: ttl_mean \(\d+ rows\)"):
        share.fit_forest(spark.read.format("delta").load(str(tmp_path / "holed")), PROBLEM, SHAPE, 3)


def test_they_are_the_trees_that_one_process_grows_from_the_rows_in_order(flows, forest):
    rows = flows.orderBy("flow_id").toPandas()
    labels = np.searchsorted([0, 1, 11], rows["attack_id"])
    binned = bin_all(rows[list(PROBLEM.features)].to_numpy(), labels, 3, 16, ids=rows["flow_id"].to_numpy())
    assert arrays(grow(binned, SHAPE, 3, range(6))) == arrays(forest.trees)


def test_what_a_row_weighs_counts_fetched_or_not(flows, forest, monkeypatch):
    heavy = flows.withColumn(PROBLEM.copies_column, (F.col("source_line") % 5).cast("int"))
    fetched = share.fit_forest(heavy, PROBLEM, SHAPE, 3)
    monkeypatch.setattr(share, "_FEW_BYTES", 0)
    assert arrays(fetched.trees) == arrays(share.fit_forest(heavy, PROBLEM, SHAPE, 3).trees) != arrays(forest.trees)


@pytest.mark.parametrize("few", [0, share._FEW_BYTES])
def test_a_missing_value_stops_the_fit(flows, few, monkeypatch):
    monkeypatch.setattr(share, "_FEW_BYTES", few)
    holed = flows.withColumn("ttl_mean", F.when(F.col("source_line") != 2, F.col("ttl_mean")))
    kind, said = (ContractError, "") if few else (Exception, f"{ContractError.__name__}: ")
    with pytest.raises(kind, match=rf"{said}features are missing: ttl_mean \(\d+ rows\)"):
        share.fit_forest(holed, PROBLEM, SHAPE, 3)


@pytest.mark.parametrize(("params", "wanted"), [
    (Params(engine="mlib"), "histogram or mllib"), (Params(bins=257), "bins 2 to 256"), (Params(trees=0), "trees >= 1"),
])
def test_impossible_parameters_are_refused(flows, params, wanted):
    with pytest.raises(ConfigError, match=wanted):
        DETECTOR.fit(flows, PROBLEM, params, validation=flows, seed=0, launcher=None)
