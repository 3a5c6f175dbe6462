"""The compiled forest against a slow one, and against scikit-learn's on the real rows."""

import dataclasses

import numpy as np
import pyarrow.csv as pacsv
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from iomt_ids.contract.errors import ConfigError
from iomt_ids.models.histogram.forest import Shape, features_wanted, grow, grow_threaded
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.score import ForestScorer
from tests.models.forest_reference import reference_tree

LEAKS = {"IAT", "Number", "Weight"}


def toy(rows=400, features=6, classes=4, seed=0, bins=16):
    dice = np.random.default_rng(seed)
    labels = dice.integers(classes, size=rows)
    columns = [dice.normal(size=rows) + labels * dice.choice([0.0, 0.5, 1.0]) for _ in range(features)]
    columns[1] = np.round(columns[1])
    columns[2] = np.zeros(rows)
    return bin_all(np.column_stack(columns), labels, classes, bins)


def as_dicts(tree):
    return [
        {"feature": int(f), "threshold": float(t), "right": int(r), "counts": c.tolist(), "gain": float(g)}
        for f, t, r, c, g in zip(tree.feature, tree.threshold, tree.right, tree.counts, tree.gain, strict=True)
    ]


@pytest.mark.parametrize("shape", [
    Shape(3, 6, 16, "sqrt", 1), Shape(3, 12, 16, "all", 1), Shape(3, 6, 16, "1", 7), Shape(3, 0, 16, "0.5", 1),
], ids=["some_features", "all_features", "one_feature_and_large_leaves", "a_root_alone"])
def test_trees_are_those_of_a_slow_reference(shape):
    binned = toy()
    for index, tree in enumerate(grow(binned, shape, 11, range(3))):
        assert as_dicts(tree) == reference_tree(binned, shape, 11, index)


def test_a_row_that_counts_twice_is_two_rows():
    binned = toy(rows=150)
    heavy = dataclasses.replace(binned, weights=np.arange(150) % 4)
    shape = Shape(2, 5, 16, "sqrt", 1)
    assert [as_dicts(t) for t in grow(heavy, shape, 4, range(2))] == [reference_tree(heavy, shape, 4, i) for i in range(2)]


def test_a_tree_does_not_depend_on_the_others_nor_on_threads():
    binned, shape = toy(), Shape(5, 8, 16, "sqrt", 1)
    alone = [as_dicts(grow(binned, shape, 2, [index])[0]) for index in (4, 3, 2, 1, 0)][::-1]
    assert [as_dicts(t) for t in grow_threaded(binned, shape, 2, threads=3).trees] == alone
    assert alone[0] != alone[1]


def test_scores_are_sums_of_shares_and_equal_leaves_are_held_once():
    forest = grow_threaded(toy(), Shape(5, 8, 16, "sqrt", 1), 2, threads=1)
    rows, scorer = np.random.default_rng(1).normal(size=(1100, 6)), ForestScorer(forest)
    sums = np.zeros((1100, 4))
    for tree in forest.trees:
        for row, into in zip(rows, sums, strict=True):
            node = 0
            while tree.feature[node] >= 0:
                node = node + 1 if row[tree.feature[node]] <= tree.threshold[node] else tree.right[node]
            into += tree.stats[node] / tree.stats[node].sum()
    assert np.array_equal(scorer.trees.sums(rows, 4), sums)
    leaves = np.concatenate([tree.stats[tree.feature < 0] for tree in forest.trees])
    assert len(scorer.trees.values) == len(np.unique(leaves / leaves.sum(axis=1, keepdims=True), axis=0)) < len(leaves) / 2


def test_another_seed_grows_other_trees():
    binned, shape = toy(), Shape(1, 8, 16, "sqrt", 1)
    assert as_dicts(grow(binned, shape, 2, [0])[0]) != as_dicts(grow(binned, shape, 3, [0])[0])


def test_importances_are_shares_and_a_constant_feature_has_none():
    shares = grow_threaded(toy(), Shape(5, 8, 16, "all", 1), 2, threads=1).importances()
    assert shares.sum() == pytest.approx(1)
    assert shares[2] == 0


@pytest.mark.parametrize(("strategy", "wanted"), [
    ("auto", 7), ("sqrt", 7), ("log2", 6), ("onethird", 14), ("all", 42), ("0.3", 13), ("1.0", 42), ("1", 1), ("99", 42),
])
def test_features_per_node_go_by_mllibs_names(strategy, wanted):
    assert features_wanted(strategy, 42) == wanted


@pytest.mark.parametrize("strategy", ["", "some", "0", "-1", "1.5"])
def test_other_names_are_refused(strategy):
    with pytest.raises(ConfigError, match="features_per_node"):
        features_wanted(strategy, 42)


def real_rows(folder, split):
    """Wi-Fi and MQTT rows of one split, leak-free columns, a class a capture name."""
    tables, names = [], []
    for file in sorted(folder.glob(f"WiFI_and_MQTT/attacks/csv/{split}/*.csv")):
        table = pacsv.read_csv(file)
        tables.append(np.column_stack([table[c].to_numpy() for c in table.column_names if c not in LEAKS]).astype(float))
        names += [file.name.split("_" + split)[0].rstrip("0123456789")] * table.num_rows
    return np.concatenate(tables), np.array(names)


def test_on_real_rows_it_is_as_good_as_scikit_learns(real_data):
    known, names = real_rows(real_data, "train")
    unseen, truth = real_rows(real_data, "test")
    classes, labels = np.unique(names, return_inverse=True)
    dice = np.random.default_rng(0)
    keep = np.sort(dice.permutation(len(labels))[:40_000])
    known, labels = known[keep], labels[keep]
    theirs = RandomForestClassifier(40, max_depth=14, random_state=0, n_jobs=2).fit(known, labels).predict(unseen)
    binned = bin_all(known, labels, len(classes), 128)
    ours = ForestScorer(grow_threaded(binned, Shape(40, 14, 128, "sqrt", 1), 0, threads=2)).probabilities(unseen)[1]
    marks = [f1_score(truth, classes[said], average="macro", zero_division=0) for said in (ours, theirs)]
    assert len(classes) >= 10
    assert marks[0] >= marks[1] - 0.01


SEEDS, DRAWN = 20, 10_000


def test_on_real_rows_it_is_as_good_as_scikit_learns_over_twenty_seeds(real_data):
    known, names = real_rows(real_data, "train")
    unseen, truth = real_rows(real_data, "test")
    classes, labels = np.unique(names, return_inverse=True)
    assert len(classes) >= 10
    better = []
    for seed in range(SEEDS):
        # Of other rows each, as a forest of another seed alone varies less than one of another day.
        keep = np.sort(np.random.default_rng(seed).permutation(len(labels))[:DRAWN])
        theirs = RandomForestClassifier(20, max_depth=14, random_state=seed, n_jobs=2).fit(known[keep], labels[keep])
        binned = bin_all(known[keep], labels[keep], len(classes), 128)
        ours = ForestScorer(grow_threaded(binned, Shape(20, 14, 128, "sqrt", 1), seed, threads=2))
        said = ours.probabilities(unseen)[1], theirs.predict(unseen)
        marks = [f1_score(truth, classes[one], average="macro", zero_division=0) for one in said]
        better.append(marks[0] - marks[1])
    assert np.mean(better) >= -0.003, better
