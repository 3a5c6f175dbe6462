"""What is handed to tasks arrives whole, by files or by Spark, and leaves nothing behind."""

import shutil

import numpy as np
import pytest
from pyspark.errors import PySparkException

from iomt_ids.contract.errors import LaunchError
from iomt_ids.models.histogram import handed as handed_module
from iomt_ids.models.histogram.handed import deal_here, handed

EDGES = [np.array([0.5, 1.5]), np.empty(0), np.arange(9.0)]


def block(seed=0, rows=50):
    dice = np.random.default_rng(seed)
    labels, weights = dice.integers(3, size=rows).astype(np.uint8), dice.integers(1, 4, size=rows)
    return np.arange(rows), labels, weights, dice.normal(3, 2, size=(rows, 3))


def dealt(folder):
    return [deal_here(block(seed), EDGES, 3, folder, threads=2) for seed in (0, 1)]


def told_of(shared):
    return [
        (b.columns.tolist(), b.labels.tolist(), b.weights.tolist(), b.marks.tolist(), b.classes, [e.tolist() for e in b.edges],
         b.weights.dtype.name)
        for b in shared.value
    ]


@pytest.mark.parametrize("has_folder", [True, False], ids=["by files", "through Spark"])
def test_every_task_has_the_same_rows(spark, tmp_path, has_folder):
    sets = dealt(tmp_path if has_folder else None)
    assert len(list(tmp_path.iterdir())) == 2 * has_folder
    with handed(spark.sparkContext, sets) as shared:
        told = spark.sparkContext.parallelize(range(4), 4).map(lambda _: told_of(shared)).collect()

    class Here:
        value = tuple(one.read() for one in dealt(None))

    assert told == [told_of(Here)] * 4
    assert [one.content for one in sets] == [one.content for one in dealt(None)] and [one.rows for one in sets] == [50, 50]


def test_a_folder_that_a_task_does_not_see_is_named(spark, tmp_path):
    sets = dealt(tmp_path)
    shutil.rmtree(tmp_path)
    with handed(spark.sparkContext, sets) as shared:
        with pytest.raises(LaunchError, match="every node must see the run's folder"):
            _ = shared.value
        with pytest.raises(PySparkException, match="every node must see the run's folder"):
            spark.sparkContext.parallelize([0], 1).map(lambda _: shared.value).collect()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(LaunchError, match=r"cannot be written .*every node must see the run's folder"):
        dealt(tmp_path / "gone")


def test_many_rows_of_a_task_come_in_several_pieces(monkeypatch, tmp_path):
    monkeypatch.setattr(handed_module, "_ROWS", 100)
    answer = handed_module._dealing(EDGES, 3, tmp_path, 2)
    told = [batch.to_pylist()[0] for batch in answer(iter([block(seed) for seed in range(5)]))]
    assert [one["starts"][-1] for one in told] == [100, 100, 50] and all(len(one["starts"]) == 3 for one in told)
    assert len(list(tmp_path.iterdir())) == 3
