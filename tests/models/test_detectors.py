"""One contract for every detector that is found; a new file in `models/` is tested by being there."""

from functools import cache

import numpy as np
import pytest
from pyspark.sql import functions as F
from sklearn.metrics import roc_auc_score

from iomt_ids.contract.attacks import class_names
from iomt_ids.contract.errors import ConfigError
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.models import assignments, detectors
from tests.builders import gold, problem

CLASSES = ["Benign", "ARP_Spoofing", "DoS-TCP"]
LABELS = {"attack": [0, 1, 11], "category": [0, 1, 4], "binary": [0, 1]}
TASKS_OF = [(name, task) for name, detector in detectors().items() for task in LABELS if task in detector.tasks]


def finest(name):
    """The task with most classes that a detector can learn."""
    return next(task for task in LABELS if task in detectors()[name].tasks)


@pytest.fixture(scope="module")
def fit(spark, tmp_path_factory):
    """Fit a detector with its own defaults on three classes far apart; the same fit is made once."""
    folder = tmp_path_factory.mktemp("gold")
    for split, seed in (("train", 1), ("validation", 2)):
        made = gold(spark, CLASSES, split=split, seed=seed, rows=120)
        made.write.partitionBy("split", "category").mode("append").parquet(str(folder))
    rows = spark.read.parquet(str(folder))

    @cache
    def fitted(name, task, repeat=0):
        detector = detectors()[name]
        return detector.fit(
            rows.filter("split = 'train'"), problem(task, LABELS[task]), detector.params(),
            validation=rows.filter("split = 'validation'"), seed=5, launcher=HorovodLauncher(spark),
        )

    return fitted


@pytest.fixture(scope="module")
def unseen(spark):
    return gold(spark, CLASSES, split="test", seed=3, rows=40).cache()


def answers(fitted, flows):
    rows = fitted.transform(flows).orderBy("flow_id").select("prediction", "probability").collect()
    return [r.prediction for r in rows], np.array([r.probability for r in rows])


@pytest.mark.parametrize(("name", "task"), TASKS_OF)
def test_it_learns_classes_that_are_far_apart(fit, unseen, name, task):
    scored = fit(name, task).transform(unseen)
    if detectors()[name].is_anomaly:
        # What no attack was shown to can rank them; where ordinary ends depends on columns that are noise here.
        told = scored.select("binary_id", F.col("probability")[1]).toArrow()
        assert roc_auc_score(*(column.to_numpy() for column in told.columns)) >= 0.9
        return
    wrong = scored.filter(F.col("prediction") != F.col(f"{task}_id")).count()
    assert wrong <= 4


@pytest.mark.parametrize("name", detectors())
def test_probabilities_are_of_every_class_of_the_task_and_sum_to_one(fit, unseen, name):
    task = finest(name)
    said, odds = answers(fit(name, task), unseen)
    assert odds.shape == (120, len(class_names(task)))
    assert np.allclose(odds.sum(axis=1), 1, atol=1e-5)
    assert (odds.argmax(axis=1) == said).all()
    assert set(np.flatnonzero(odds.sum(axis=0) > 0)) <= set(LABELS[task])


@pytest.mark.parametrize("name", detectors())
def test_the_same_seed_gives_the_same_predictions(fit, unseen, name):
    task = "category" if "category" in detectors()[name].tasks else finest(name)
    first, second = (answers(fit(name, task, repeat), unseen)[1] for repeat in (0, 1))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", detectors())
def test_it_survives_being_saved_and_loaded(fit, unseen, spark, tmp_path, name):
    fitted = fit(name, finest(name))
    fitted.save(tmp_path)
    again = detectors()[name].load(spark, tmp_path, fitted.problem)
    before, after = answers(fitted, unseen), answers(again, unseen)
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])


@pytest.mark.parametrize("name", detectors())
def test_importances_are_shares_of_its_features(fit, name):
    fitted = fit(name, finest(name))
    shares = fitted.importances
    if shares is not None:
        assert tuple(shares) == fitted.problem.features
        assert sum(shares.values()) == pytest.approx(1)
        told = shares["ttl_mean"] + shares["length_mean_bytes"] + shares["flow_rate_per_s"]
        assert told > 0.5


def test_a_detector_that_does_not_exist_is_refused_with_the_nearest_that_does():
    wanted = r"'randm_forest'; did you mean 'random_forest'(.|\n)*'densenet'; did you mean 'dense_net'"
    with pytest.raises(ConfigError, match=wanted):
        assignments({"randm_forest": ["attack"]}, "leak_free", {}, ["densenet"])


def test_an_assignment_is_made_once():
    wanted = {"random_forest": ["attack", "binary"]}
    once = [("random_forest", "attack", "all"), ("random_forest", "binary", "all")]
    assert assignments(wanted, "all", {"all": wanted}, []) == once
    assert len(assignments(wanted, "leak_free", {"all": wanted}, [])) == 4
