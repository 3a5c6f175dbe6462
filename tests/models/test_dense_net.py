"""The dense net as a detector: two real ranks on Spark, scored inside Spark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ConfigError, LaunchError
from iomt_ids.contract.problem import Problem, Scaling
from iomt_ids.distributed.launch import HorovodLauncher, InProcessLauncher
from iomt_ids.distributed.work import RankResult, Work
from iomt_ids.models.dense_net import DETECTOR, Params
from iomt_ids.models.network import FittedNetwork, load

fit = DETECTOR.fit
_PARAMS = Params(layers=(16, 8), batch_rows=32, steps=150, learning_rate=0.01)
_PROBLEM = Problem(
    "category", ("a", "b"), "leak_free", (0, 3, 5), (Scaling("a", 0.8, 0.6), Scaling("b", 0.0, 0.6))
)


@pytest.fixture(scope="module")
def flows(spark: SparkSession) -> DataFrame:
    dice = np.random.default_rng(5)
    label = dice.choice([0, 3, 5], 600, p=[0.5, 0.3, 0.2])
    told, noise = label + dice.normal(0, 0.2, 600), dice.normal(0, 1, 600)
    rows = zip(label.tolist(), told.tolist(), noise.tolist(), strict=True)
    flows = spark.createDataFrame(list(rows), "category_id int, a double, b double")
    flows = flows.withColumn("copies_leak_free", F.lit(1))
    return flows.repartition(3).persist()


def test_a_precision_that_there_is_not_is_refused(flows: DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"models\.dense_net\.precision is 'float16': float32 or bfloat16"):
        fit(flows, _PROBLEM, Params(precision="float16"), validation=flows, seed=0, launcher=InProcessLauncher())


@pytest.fixture(scope="module")
def two_ranks(spark: SparkSession, flows: DataFrame) -> FittedNetwork:
    return fit(flows, _PROBLEM, _PARAMS, validation=flows.limit(99), seed=3, launcher=HorovodLauncher(spark))


@pytest.fixture(scope="module")
def one_rank(flows: DataFrame) -> FittedNetwork:
    params = Params(**{**vars(_PARAMS), "ranks": 1})
    return fit(flows, _PROBLEM, params, validation=flows.limit(99), seed=3, launcher=InProcessLauncher())


def _answers(net: FittedNetwork, flows: DataFrame) -> list:
    return net.transform(flows).select("a", "b", "category_id", "prediction", "probability").orderBy("a", "b").collect()


def test_all_ranks_end_with_the_same_bytes(two_ranks: FittedNetwork) -> None:
    hashes = two_ranks.facts["weights_sha256"]
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
    assert two_ranks.facts["rows"] == [300, 300]


def test_both_ranks_have_their_share_in_the_weights(two_ranks: FittedNetwork, one_rank: FittedNetwork) -> None:
    # Ranks start from the same weights and see different rows: unreduced gradients would leave different weights
    # on each, and rank 1 without any say would leave rank 0's own.
    assert two_ranks.facts["weights_sha256"][0] != one_rank.facts["weights_sha256"][0]


def test_the_same_seed_gives_the_same_weights_on_two_ranks(
    spark: SparkSession, flows: DataFrame, two_ranks: FittedNetwork
) -> None:
    again = fit(flows, _PROBLEM, _PARAMS, validation=flows.limit(99), seed=3, launcher=HorovodLauncher(spark))
    assert again.facts["weights_sha256"] == two_ranks.facts["weights_sha256"]
    assert again.weights == two_ranks.weights


def test_a_separable_toy_is_answered_in_the_tasks_labels(two_ranks: FittedNetwork, flows: DataFrame) -> None:
    answers = _answers(two_ranks, flows)
    assert np.mean([r.prediction == r.category_id for r in answers]) > 0.97
    assert {r.prediction for r in answers} == {0, 3, 5}


def test_probabilities_sum_to_one_and_unseen_classes_have_none(two_ranks: FittedNetwork, flows: DataFrame) -> None:
    spread = np.array([r.probability for r in _answers(two_ranks, flows)])
    assert spread.shape == (600, _PROBLEM.n_classes)
    np.testing.assert_allclose(spread.sum(axis=1), 1.0, rtol=1e-12)
    assert not spread[:, [1, 2, 4]].any()


def test_the_added_columns_have_the_contracts_types(two_ranks: FittedNetwork, flows: DataFrame) -> None:
    types = dict(two_ranks.transform(flows).dtypes)
    assert types["prediction"] == "int"
    assert types["probability"] == "array<double>"


def test_a_saved_net_answers_as_before(
    spark: SparkSession, flows: DataFrame, two_ranks: FittedNetwork, tmp_path: Path
) -> None:
    two_ranks.save(tmp_path)
    assert _answers(load(spark, tmp_path, _PROBLEM), flows) == _answers(two_ranks, flows)


def test_one_feature_is_enough(spark: SparkSession, flows: DataFrame) -> None:
    problem = Problem("category", ("a",), "leak_free", (0, 3, 5), _PROBLEM.scaling[:1])
    params = Params(layers=(8,), ranks=1, batch_rows=32, steps=150, learning_rate=0.02)
    net = fit(flows, problem, params, validation=flows.limit(0), seed=0, launcher=InProcessLauncher())
    assert np.mean([r.prediction == r.category_id for r in net.transform(flows).collect()]) > 0.97


def test_ranks_that_differ_at_the_end_are_refused(flows: DataFrame) -> None:
    class Liar:
        def run(self, work: Work, ranks: int) -> list[RankResult]:
            return [RankResult(r, "h", "e", 1.0, {"weights_sha256": str(r)}) for r in range(ranks)]

    with pytest.raises(LaunchError, match="gradients were not reduced"):
        fit(flows, _PROBLEM, _PARAMS, validation=flows, seed=0, launcher=Liar())


def test_importing_the_detector_imports_neither_tensorflow_nor_horovod() -> None:
    code = ("import sys, iomt_ids.models.dense_net; "
            "sys.exit(', '.join(m for m in ('tensorflow', 'keras', 'horovod') if m in sys.modules) or 0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_it_is_found_by_its_file_name() -> None:
    from iomt_ids.models import detectors

    assert detectors()["dense_net"] is DETECTOR
