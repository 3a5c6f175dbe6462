"""One contract for every detector that is found; a new file in `models/` is tested by being there."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pyspark.sql import functions as F
from sklearn.metrics import roc_auc_score

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.problem import HISTORY
from iomt_ids.distributed.launch import HorovodLauncher, InProcessLauncher
from iomt_ids.models import assignments, detectors
from iomt_ids.prepare.features import as_sequence
from iomt_ids.prepare.past import with_past
from tests.builders import gold, problem

CLASSES = ["Benign", "ARP_Spoofing", "DoS-TCP"]
LABELS = {"attack": [0, 1, 11], "category": [0, 1, 4], "binary": [0, 1]}
# On Horovod's ranks; other networks, which are trained by the same lines, on one rank in this process.
ON_RANKS = "dense_net"
NETWORKS = [name for name, kind in detectors().items() if kind.is_network]
MAIN = {name: "attack" if "attack" in kind.tasks else kind.tasks[0] for name, kind in detectors().items()}
# Networks differ from task to task in the number of their answers only.
LEARNT = [
    (name, task) for name, kind in detectors().items() for task in LABELS
    if task == MAIN[name] or (task in kind.tasks and (name not in NETWORKS or name == ON_RANKS))
]


def asked(name, task):
    """What a detector is to learn."""
    stated = problem(task, LABELS[task])
    return as_sequence(stated, 3) if detectors()[name].is_sequential else stated


@pytest.fixture(scope="module")
def fit(spark, tmp_path_factory):
    """Fit a detector with its own defaults on three classes far apart; the same fit is made once."""
    folder = tmp_path_factory.mktemp("gold")
    for split, seed, many in (("train", 1, 240), ("validation", 2, 120)):
        made = gold(spark, CLASSES, split=split, seed=seed, rows=many).withColumn("source_file", F.concat("split", "attack"))
        made.write.partitionBy("split", "category").mode("append").parquet(str(folder))
    rows = spark.read.parquet(str(folder))

    @cache
    def fitted(name, task, repeat=0):
        detector, launcher, params = detectors()[name], HorovodLauncher(spark), detectors()[name].params()
        if name in NETWORKS and name != ON_RANKS:
            launcher, params = InProcessLauncher(), replace(params, ranks=1, batch_rows=32, epochs_at_most=14, dropout=0.3)
        told = with_past(rows, asked(name, task))
        return detector.fit(
            told.filter("split = 'train'"), asked(name, task), params,
            validation=told.filter("split = 'validation'"), seed=5, launcher=launcher,
        )

    return fitted


@pytest.fixture(scope="module")
def unseen(spark):
    return gold(spark, CLASSES, split="test", seed=3, rows=40).withColumn("source_file", F.col("attack")).cache()


def answers(fitted, flows):
    told = with_past(flows, fitted.problem)
    rows = fitted.transform(told).orderBy("flow_id").select("prediction", "probability").collect()
    return [r.prediction for r in rows], np.array([r.probability for r in rows])


@pytest.mark.parametrize(("name", "task"), LEARNT)
def test_it_learns_classes_that_are_far_apart(fit, unseen, name, task):
    said, odds = answers(fit(name, task), unseen)
    truth = [row[0] for row in unseen.orderBy("flow_id").select(f"{task}_id").collect()]
    if detectors()[name].is_anomaly:
        # What no attack was shown to can rank them; where ordinary ends depends on columns that are noise here.
        assert roc_auc_score(truth, odds[:, 1]) >= 0.9
        return
    assert sum(a != b for a, b in zip(said, truth, strict=True)) <= 4


@pytest.mark.parametrize("name", detectors())
def test_probabilities_are_of_every_class_of_the_task_and_sum_to_one(fit, unseen, name):
    fitted = fit(name, MAIN[name])
    said, odds = answers(fitted, unseen)
    assert odds.shape == (120, fitted.problem.n_classes)
    assert np.allclose(odds.sum(axis=1), 1, atol=1e-5)
    assert (odds.argmax(axis=1) == said).all()
    assert set(np.flatnonzero(odds.sum(axis=0) > 0)) <= set(LABELS[MAIN[name]])


@pytest.mark.parametrize("name", detectors())
def test_features_come_back_unless_they_are_not_wanted(fit, unseen, name):
    fitted = fit(name, MAIN[name])
    told = with_past(unseen, fitted.problem)
    lean = fitted.transform(told, with_features=False)
    features = set(fitted.problem.features)
    assert features <= set(fitted.transform(told).columns)
    assert set(lean.columns) == {*told.columns, "prediction", "probability"} - features
    said, odds = answers(fitted, unseen)
    rows = lean.orderBy("flow_id").select("prediction", "probability").collect()
    assert [r.prediction for r in rows] == said
    assert np.array_equal([r.probability for r in rows], odds)


@pytest.mark.parametrize("name", [name for name in detectors() if name not in NETWORKS or name == ON_RANKS])
def test_the_same_seed_gives_the_same_predictions(fit, unseen, name):
    task = "category" if (name, "category") in LEARNT else MAIN[name]
    first, second = (answers(fit(name, task, repeat), unseen)[1] for repeat in (0, 1))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", detectors())
def test_it_survives_being_saved_and_loaded(fit, unseen, spark, tmp_path, name):
    fitted = fit(name, MAIN[name])
    fitted.save(tmp_path)
    again = detectors()[name].load(spark, tmp_path, fitted.problem)
    before, after = answers(fitted, unseen), answers(again, unseen)
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])


@pytest.mark.parametrize("name", detectors())
def test_importances_are_shares_of_its_features(fit, name):
    shares = fit(name, MAIN[name]).importances
    if shares is not None:
        assert tuple(shares) == fit(name, MAIN[name]).problem.features
        assert sum(shares.values()) == pytest.approx(1)
        told = shares["ttl_mean"] + shares["length_mean_bytes"] + shares["flow_rate_per_s"]
        assert told > 0.5


def raw(fitted, flows):
    """Rows as an exported network wants them, by flow_id."""
    table = with_past(flows, fitted.problem).orderBy("flow_id").toPandas()
    rows = table[list(fitted.problem.features)].to_numpy()
    if not fitted.problem.is_sequence:
        return rows
    # The tables' own doubles again, put together by another hand.
    windows = np.full((len(rows), fitted.problem.past_windows + 1, rows.shape[1]), np.nan)
    for i, row in table.iterrows():
        of = table[(table["source_file"] == row["source_file"]) & (table["source_line"] <= row["source_line"])]
        past = of.sort_values("source_line")[list(fitted.problem.features)].to_numpy()[-windows.shape[1]:]
        windows[i, -len(past):] = past
    return windows


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_answers_as_in_spark(fit, unseen, tmp_path, name):
    import tensorflow as tf

    fitted = fit(name, MAIN[name])
    fitted.export(tmp_path)
    score = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    told = score(flows=tf.constant(raw(fitted, unseen)))["probability"].numpy()
    np.testing.assert_allclose(told, answers(fitted, unseen)[1], atol=1e-5)


def test_an_exported_network_needs_nothing_of_ours(fit, unseen, tmp_path):
    fitted = fit(ON_RANKS, "attack")
    fitted.export(tmp_path / "out")
    np.save(tmp_path / "rows.npy", raw(fitted, unseen))
    code = (
        "import sys, numpy as np, tensorflow as tf; folder = sys.argv[1]; "
        "score = tf.saved_model.load(folder + '/out').signatures['serving_default']; "
        "np.save(folder + '/told.npy', score(flows=tf.constant(np.load(folder + '/rows.npy')))['probability'].numpy()); "
        "sys.exit(', '.join(m for m in ('iomt_ids', 'pyspark', 'horovod') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "told.npy"), answers(fitted, unseen)[1], atol=1e-5)


def test_a_row_says_the_same_whatever_comes_after_it_in_its_capture(fit, unseen):
    fitted = fit("sequence_net", "attack")
    early = unseen.filter("source_line <= 20")
    whole = with_past(unseen, fitted.problem).filter("source_line <= 20").select("flow_id", HISTORY).orderBy("flow_id").collect()
    assert whole == with_past(early, fitted.problem).select("flow_id", HISTORY).orderBy("flow_id").collect()


def test_an_autoencoder_never_sees_an_attack(fit, spark):
    fitted = fit("autoencoder", "binary")
    assert fitted.facts["rows"] == [240]  # a third of the train rows
    assert fitted.network["threshold"] == fitted.facts["threshold"] > 0


def test_a_task_that_a_detector_cannot_learn_is_refused():
    with pytest.raises(ConfigError, match="'autoencoder' cannot learn task 'attack', only binary"):
        assignments({"autoencoder": ["attack", "binary"]}, "leak_free", {}, [])


def test_a_sequence_is_of_the_past_whichever_set_is_asked_for():
    wanted = {"sequence_net": ["attack"]}
    assert assignments(wanted, "leak_free", {"all": wanted, "past": wanted}, []) == [("sequence_net", "attack", "past")]


def test_a_detector_that_does_not_exist_is_refused_with_the_nearest_that_does():
    wanted = r"'randm_forest'; did you mean 'random_forest'(.|\n)*'densenet'; did you mean 'dense_net'"
    with pytest.raises(ConfigError, match=wanted):
        assignments({"randm_forest": ["attack"]}, "leak_free", {}, ["densenet"])


def test_an_assignment_is_made_once():
    wanted = {"random_forest": ["attack", "binary"]}
    once = [("random_forest", "attack", "all"), ("random_forest", "binary", "all")]
    assert assignments(wanted, "all", {"all": wanted}, []) == once
    assert len(assignments(wanted, "leak_free", {"all": wanted}, [])) == 4
