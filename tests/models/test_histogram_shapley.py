"""Contributions of features: by definition, by the shap package on another forest, and as sums that are the model's own answer."""

import itertools
import math

import numpy as np
import pytest
from pyspark.sql import functions as F
from shap import TreeExplainer
from sklearn.ensemble import RandomForestClassifier

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.models import detectors, require_explainable
from iomt_ids.models.gradient_boosted import FittedBoosting
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.forest import Forest, Shape, Splits, Tree, grow_threaded
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.shapley import TreeShap, add_contributions, output_tree, require_additive
from iomt_ids.models.random_forest import FittedForest
from tests.builders import gold, problem

LABELS = {2: [0, 1], 3: [0, 1, 11]}
ASKED = {"maxIter": 5, "maxDepth": 4, "maxBins": 16, "stepSize": 0.3, "seed": 8}


def toy(classes, features=4, rows=300, seed=3):
    dice = np.random.default_rng(seed)
    labels = dice.integers(classes, size=rows)
    return np.round(dice.normal(size=(rows, features)) + labels[:, None] * np.linspace(1, 0, features), 1), labels


def stated(labels, features):
    full = problem("attack", labels)
    return full.__class__(full.task, full.features[:features], full.feature_set, full.labels, full.scaling[:features])


def forest_of(classes, features=4, depth=4, trees=3, **more):
    rows, labels = toy(classes, features, **more)
    shape = Shape(trees, depth, 16, "sqrt", 1)
    grown = grow_threaded(bin_all(rows, labels, classes, 16), shape, 8, threads=1)
    return rows, FittedForest(grown, stated(LABELS[classes], features), shape, 8, spark_version="4.2.0")


def boosting_of(classes, features=4, depth=4, rounds=5, **more):
    rows, labels = toy(classes, features, **more)
    grown, _ = boost(bin_all(rows, labels, classes, 16), BoostShape(rounds, depth, 16, 0.3), 8, threads=1)
    return rows, FittedBoosting(grown, stated(LABELS[classes], features), ASKED, [], spark_version="4.2.0")


MODELS = {"forest": forest_of, "boosting": boosting_of}


def with_rows_on_thresholds(rows, model):
    """As many rows more, each value of which is one that some tree compares with."""
    dice = np.random.default_rng(4)
    cuts = [cut if cut.size else np.zeros(1) for cut in model.scorer.trees.cuts]
    return np.vstack([rows, np.column_stack([dice.choice(cut, len(rows)) for cut in cuts])])


def all_trees(model, position):
    """Trees as they are, with the value of each leaf for one class and the rows of each leaf."""
    if isinstance(model, FittedForest):
        return [(t, t.counts[:, position] / t.counts.sum(axis=1) / len(model.forest.trees), t.rows) for t in model.forest.trees]
    of, sign = (position, 1) if len(model.boosting.trees) > 1 else (0, 1 if position else -1)
    pairs = zip(model.boosting.trees[of], model.boosting.weights[of], strict=True)
    return [(tree, sign * weight * tree.prediction, tree.stats[:, 0]) for tree, weight in pairs]


def expected(tree, value, weight, row, known, node=0):
    """What a tree says of a row of which some features are known, and the rows behind it."""
    if tree.right[node] < 0:
        return value[node], weight[node]
    left, right = (expected(tree, value, weight, row, known, child) for child in (node + 1, tree.right[node]))
    rows = left[1] + right[1]
    if tree.feature[node] in known:
        return (left if row[tree.feature[node]] <= tree.threshold[node] else right)[0], rows
    return (left[0] * left[1] + right[0] * right[1]) / rows, rows


def by_definition(trees, row):
    """Shapley's formula over all subsets of features."""
    n, found = len(row), np.zeros(len(row))
    said = {known: sum(expected(*tree, row, known)[0] for tree in trees)
            for size in range(n + 1) for known in itertools.combinations(range(n), size)}
    for feature in range(n):
        for known in (k for k in said if feature not in k):
            share = math.factorial(len(known)) * math.factorial(n - len(known) - 1) / math.factorial(n)
            found[feature] += share * (said[tuple(sorted((*known, feature)))] - said[known])
    return found, said[()]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_are_shapley_values_by_definition(kind, classes):
    rows, model = MODELS[kind](classes)
    rows = with_rows_on_thresholds(rows[:6], model)
    for position in range(classes):
        trees, explainer = all_trees(model, position), TreeShap(model.trees_of(position))
        found = explainer.contributions(rows)
        for row, own in zip(rows, found, strict=True):
            wanted, base = by_definition(trees, row)
            np.testing.assert_allclose(own, wanted, atol=1e-12)
            assert explainer.base == pytest.approx(base, abs=1e-12)
        assert np.abs(found).max() > 0.05


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("is_loaded", [False, True], ids=["fitted", "loaded"])
def test_contributions_add_up_to_what_the_scorer_says(kind, classes, is_loaded, spark, tmp_path):
    rows, model = MODELS[kind](classes, features=9, depth=12, rows=3000, seed=5)
    if is_loaded:
        model.save(tmp_path)
        model = detectors()[{"forest": "random_forest", "boosting": "gradient_boosted"}[kind]].load(spark, tmp_path, model.problem)
    rows = with_rows_on_thresholds(rows, model)
    outputs = model.scorer.outputs(rows)
    for position in range(classes):
        explainer = TreeShap(model.trees_of(position))
        sums = explainer.contributions(rows).sum(axis=1) + explainer.base
        assert np.abs(sums - outputs[:, position]).max() <= 1e-9


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_explained_decides_the_verdict(kind):
    for classes in (2, 3):
        rows, model = MODELS[kind](classes)
        probabilities, likeliest = model.scorer.probabilities(rows)
        outputs = model.scorer.outputs(rows)
        assert np.array_equal(outputs.argmax(axis=1), likeliest)
        if kind == "boosting":
            odds = np.exp(2 * outputs) if classes == 3 else np.exp(outputs)
            np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, atol=1e-12)


def test_the_shap_package_says_the_same_of_the_same_forest_of_scikit_learn():
    rows, labels = toy(3, features=5, rows=400)
    rows = rows.astype(np.float32).astype(np.float64)  # scikit-learn compares in single precision
    theirs = RandomForestClassifier(6, max_depth=6, random_state=1).fit(rows, labels)
    trees = []
    for grown in (e.tree_ for e in theirs.estimators_):
        assert np.array_equal(grown.children_left[grown.feature >= 0], np.flatnonzero(grown.feature >= 0) + 1), "not in pre-order"
        counts = np.rint(grown.value[:, 0] * grown.weighted_n_node_samples[:, None]).astype(np.int64)
        feature = np.maximum(grown.feature, -1).astype(np.int32)
        trees.append(Tree(feature, grown.threshold, grown.children_right.astype(np.int32), counts, np.zeros(feature.size)))
    forest = FittedForest(Forest(tuple(trees), 5, 3), stated([0, 1, 11], 5), Shape(6, 6, 32, "sqrt", 1), 1, spark_version="4.2.0")
    np.testing.assert_allclose(forest.scorer.outputs(rows), theirs.predict_proba(rows), atol=1e-12)
    explainer = TreeExplainer(theirs, feature_perturbation="tree_path_dependent")
    wanted = explainer.shap_values(rows)
    for position in range(3):
        ours = TreeShap(forest.trees_of(position))
        np.testing.assert_allclose(ours.contributions(rows), wanted[:, :, position], atol=1e-12)
        assert ours.base == pytest.approx(explainer.expected_value[position], abs=1e-12)


def test_splits_that_make_no_difference_to_a_class_are_left_out():
    #      0: a <= 1 ? (1: b <= 2 ? 2 : 3) : (4: c <= 3 ? 5 : 6)
    tree = Splits(*(np.array(v) for v in ([0, 1, -1, -1, 2, -1, -1], [1.0, 2, 0, 0, 3, 0, 0], [4, 3, -1, -1, 6, -1, -1])))
    small = output_tree(tree, np.array([9, 9, 0.0, 0.0, 9, 0.0, 1.0]), np.array([0, 0, 4, 2, 0, 0, 3]))
    assert small.feature.tolist() == [0, -1, 2, -1, -1] and small.right.tolist() == [2, -1, 4, -1, -1]
    # A leaf without rows counts as one: without any, nothing could be said of a row that goes there.
    assert small.weight.tolist() == [10, 6, 4, 1, 3] and small.value.tolist() == [0, 0, 0, 0, 1]
    assert output_tree(tree, np.full(7, 0.5), np.ones(7)).feature.tolist() == [-1]


def test_a_class_that_all_trees_say_the_same_of_is_explained_by_its_base_alone():
    tree = output_tree(Splits(np.array([-1]), np.zeros(1), np.array([-1])), np.array([0.25]), np.array([7]))
    explainer = TreeShap([tree, tree])
    assert explainer.base == 0.5 and not explainer.contributions(np.ones((3, 2))).any()


@pytest.fixture(scope="module")
def flows(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=120, gap=0.7).cache()


@pytest.fixture(scope="module", params=[name for name, kind in detectors().items() if kind.is_explainable])
def loaded(request, spark, flows, tmp_path_factory):
    """Every detector that says that it can be explained."""
    kind, less = detectors()[request.param], {"random_forest": {"trees": 7}, "gradient_boosted": {"rounds": 6}}
    folder, asked = tmp_path_factory.mktemp(request.param), problem("attack", [0, 1, 11])
    kind.fit(flows, asked, kind.params(**less.get(request.param, {})), validation=flows, seed=1, launcher=None).save(folder)
    return kind.load(spark, folder, asked)


def test_tasks_explain_the_predicted_class_however_rows_are_spread(flows, loaded):
    def explained(spread):
        told = add_contributions(loaded.transform(spread), loaded, [0, 1, 11])
        names = ("prediction", "probability", "output", "base", "contributions", *loaded.problem.features)
        return told.select("flow_id", *names).orderBy("flow_id").toPandas()

    one, other = explained(flows.coalesce(1)), explained(flows.repartition(5))
    assert len(one) == 360
    parts = np.stack(one["contributions"])
    assert np.array_equal(parts, np.stack(other["contributions"]))
    scored = loaded.scorer.outputs(one[list(loaded.problem.features)].to_numpy())
    place = np.searchsorted([0, 1, 11], one["prediction"])
    assert np.array_equal(one["output"], scored[np.arange(360), place])
    assert np.abs(parts.sum(axis=1) + one["base"] - one["output"]).max() <= 1e-9
    if loaded.explains == "probability":
        assert [p[c] for p, c in zip(one["probability"], one["prediction"], strict=True)] == one["output"].tolist()


def test_a_missing_value_is_refused_and_never_explained(flows, loaded):
    told = loaded.transform(flows).withColumn("ttl_mean", F.lit(None).cast("double"))
    with pytest.raises(Exception, match=r"ContractError: features are missing: ttl_mean \(\d+ rows\)"):
        add_contributions(told, loaded, [0, 1, 11]).collect()


def test_an_explanation_of_something_else_is_refused():
    parts = np.array([[0.25, 0.5], [0.5, -0.5]])
    require_additive(parts, np.array([0.25, 0.25]), np.array([1.0, 0.25 + 1e-10]))
    with pytest.raises(ContractError, match="something else than the model says, by up to 2e-09"):
        require_additive(parts, np.array([0.25, 0.25]), np.array([1.0, 0.25 + 2e-9]))


def test_who_cannot_be_explained_is_told_who_can():
    assert require_explainable("random_forest") is detectors()["random_forest"]
    with pytest.raises(ConfigError, match="of dense_net cannot be explained, only those of gradient_boosted, random_forest;"):
        require_explainable("dense_net")
