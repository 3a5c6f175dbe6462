"""What is handed to tasks arrives whole, by a file or by Spark, and leaves nothing behind."""

import dataclasses
import shutil

import numpy as np
import pytest
from pyspark.errors import PySparkException

from iomt_ids.contract.errors import LaunchError
from iomt_ids.models.histogram import handed as handed_module
from iomt_ids.models.histogram.handed import handed
from tests.models.test_histogram_forest import toy


@pytest.fixture(scope="module")
def sets():
    return [dataclasses.replace(toy(), first=3), toy(seed=1, bins=200)]


@pytest.mark.parametrize("has_folder", [True, False], ids=["by a file", "through Spark"])
def test_every_task_has_the_same_rows(spark, sets, tmp_path, has_folder):
    with handed(spark.sparkContext, sets, tmp_path if has_folder else None) as shared:
        assert bool(list(tmp_path.iterdir())) == has_folder
        told = spark.sparkContext.parallelize(range(4), 4).map(
            lambda _: [(b.content(), b.classes, b.first, b.weights.dtype.name) for b in shared.value]
        ).collect()
    assert told == [[(b.content(), b.classes, b.first, "int64") for b in sets]] * 4
    assert not list(tmp_path.iterdir())


def test_features_without_any_threshold_are_handed_too(spark, sets, tmp_path):
    flat = dataclasses.replace(sets[0], edges=[np.empty(0)] * 6)
    with handed(spark.sparkContext, [flat], tmp_path) as shared:
        assert [e.size for e in shared.value[0].edges] == [0] * 6


def test_a_folder_that_a_task_does_not_see_is_named(spark, sets, tmp_path):
    with handed(spark.sparkContext, sets, tmp_path) as shared:
        shutil.rmtree(next(tmp_path.iterdir()))
        with pytest.raises(LaunchError, match="every node must see the run's folder"):
            _ = shared.value
        with pytest.raises(PySparkException, match="every node must see the run's folder"):
            spark.sparkContext.parallelize([0], 1).map(lambda _: shared.value).collect()


def test_a_full_disk_is_told_and_leaves_nothing(spark, sets, tmp_path, monkeypatch):
    def save(file, array, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handed_module.np, "save", save)
    with pytest.raises(LaunchError, match=r"bins cannot be written .*No space left"), handed(spark.sparkContext, sets, tmp_path):
        pass
    assert not list(tmp_path.iterdir())
