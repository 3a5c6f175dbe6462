"""Rows scored again with one feature shuffled: against plain numpy, and the same however they are spread."""

import numpy as np
import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.models.histogram import permute
from iomt_ids.models.histogram.forest import Forest, Tree
from iomt_ids.models.histogram.permute import count_permuted
from iomt_ids.models.histogram.score import ForestScorer
from tests.builders import gold, problem

PROBLEM = problem("attack", [0, 1])
USED = PROBLEM.features.index("ttl_mean")
# Benign rows lie around -1, the others around 1.
STUMP = Tree(
    np.array([USED, -1, -1], np.int32), np.zeros(3), np.array([2, -1, -1], np.int32), np.array([[9, 9], [9, 0], [0, 9]]),
    np.zeros(3),
)
SCORER = ForestScorer(Forest((STUMP,), len(PROBLEM.features), 2))
SEED, REPEATS = 11, 2


@pytest.fixture(scope="module")
def flows(spark):
    rows = gold(spark, ["Benign", "ARP_Spoofing"], rows=100, split="validation", gap=2.0)
    # Every third row stands for three, itself and two that stand for nothing.
    return rows.withColumn("copies_leak_free", (F.pmod("source_line", F.lit(3)) == 0).cast("int") * 2 + 1).cache()


def counted(flows, seed=SEED):
    return count_permuted(flows, PROBLEM, SCORER, repeats=REPEATS, seed=seed)


def confusion(values, labels, copies):
    matrix = np.zeros((21, 21), int)
    for value, label, n in zip(values, labels, copies, strict=True):
        matrix[label, int(value > 0)] += n
    return matrix


def test_the_only_feature_that_is_used_is_counted_as_by_hand_and_all_others_change_nothing(flows, monkeypatch):
    monkeypatch.setattr(permute, "ROWS_PER_TASK", 50)
    found = counted(flows)
    tasks = flows.repartition(4, "flow_id").withColumn("task", F.spark_partition_id()).orderBy("task", "flow_id").toPandas()
    assert tasks["task"].nunique() == 4
    plain = confusion(tasks["ttl_mean"], tasks["attack_id"], tasks["copies_leak_free"])
    assert plain.sum() > len(tasks) and np.trace(plain) / plain.sum() > 0.8
    for repeat in range(REPEATS):
        shuffled = np.zeros_like(plain)
        for task, own in tasks.groupby("task"):
            order = np.random.default_rng((SEED, task, repeat, USED)).permutation(len(own))
            shuffled += confusion(own["ttl_mean"].to_numpy()[order], own["attack_id"], own["copies_leak_free"])
        assert np.array_equal(found[repeat, USED], shuffled)
        assert np.trace(shuffled) / shuffled.sum() < 0.65, "a coin would do as well"
        for place in range(len(PROBLEM.features) + 1):
            assert place == USED or np.array_equal(found[repeat, place], plain)
    assert not np.array_equal(found[0, USED], found[1, USED])


def test_counts_do_not_depend_on_how_rows_are_spread_but_on_the_seed(flows, monkeypatch):
    monkeypatch.setattr(permute, "ROWS_PER_TASK", 50)
    one = counted(flows.coalesce(1).orderBy("ttl_mean"))
    assert np.array_equal(one, counted(flows.repartition(7)))
    assert not np.array_equal(one, counted(flows, seed=SEED + 1))


def test_rows_that_others_stand_for_are_not_there(flows):
    gone = flows.withColumn("copies_leak_free", F.when(F.col("attack_id") == 1, 0).otherwise(F.col("copies_leak_free")))
    found = counted(gone)
    assert np.array_equal(found, counted(flows.filter("attack_id = 0"))), "nor are their values"
    assert not found[:, :, 1].any() and found.sum() == REPEATS * 43 * gone.agg(F.sum("copies_leak_free")).first()[0]


def test_without_rows_there_is_nothing_to_shuffle(flows):
    with pytest.raises(ContractError, match="no validation rows"):
        counted(flows.limit(0))
