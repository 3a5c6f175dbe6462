"""Levels that agree, answers as deep as they are sure, and promises that hold where rows are exchangeable."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, class_names
from iomt_ids.contract.hierarchy import labels_above
from iomt_ids.evaluate.conformal import p_values, set_edge
from iomt_ids.evaluate.hierarchy import answer_cells, choose_places, hierarchical_scores
from iomt_ids.evaluate.hierarchy_counts import ANY, OWN, TRUE, HierarchyCounts, count_hierarchy, deepest_sure, sum_up
from iomt_ids.evaluate.intervals import chance_of_so_few
from iomt_ids.evaluate.score_counts import BINS, EDGES, UNSEEN, bins_of
from tests.builders import problem
from tests.evaluate.simulated import as_frame, levels_counted, simulated, told_by_level

# The path of each attack from the root, as names; the tree once more, written from the names in the taxonomy.
PATHS = [(("Benign" if a.category == "Benign" else "Attack"), a.category, a.name) for a in ATTACKS]
TEST = UNSEEN.index("test")


def plain_answers(probability: np.ndarray, least: list[float]) -> list[tuple[str, ...]]:
    """For each row the path of its answer, by a program that knows no arrays."""
    told = []
    for row in probability.T.tolist():
        found: tuple[str, ...] = ()
        for depth, odds in enumerate(least):
            sums: dict[tuple[str, ...], float] = {}
            for path, p in zip(PATHS, row, strict=True):
                sums[path[: depth + 1]] = sums.get(path[: depth + 1], 0.0) + p
            best = max(sums, key=lambda path: sums[path])
            rest = max(sum(row) - sums[best], 0.0)
            if rest == 0 or math.log(sums[best] / rest) >= odds:
                found = best
        told.append(found)
    return told


@pytest.mark.parametrize("task", ["category", "attack"])
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_levels_agree_whatever_a_model_says(task: str, seed: int, rows: int) -> None:
    dice = np.random.default_rng(seed)
    probability = dice.dirichlet(np.full(len(class_names(task)), 0.05), rows).T
    levels = sum_up(np.ascontiguousarray(probability), task)
    for coarse, fine, names in zip(levels, levels[1:], ("binary", "category"), strict=False):
        above = labels_above("attack" if fine is levels[-1] and task == "attack" else "category", names)
        for label, own in enumerate(coarse.probability):
            below = fine.probability[[c for c, up in enumerate(above) if up == label]].sum(axis=0)
            assert np.abs(own - below).max() <= 1e-9
        assert (fine.sure <= coarse.sure).all()
    assert np.abs(levels[0].probability.sum(axis=0) - 1).max() <= 1e-9


def test_answers_and_their_scores_are_those_of_a_plain_program() -> None:
    rows = simulated("attack", 1500, seed=3, sharpness=0.6)
    counts = levels_counted("attack", rows)
    least = [0.5, 1.0, 2.5]
    answered = plain_answers(rows["probability"], least)
    assert {len(path) for path in answered} == {0, 1, 2, 3}
    depth = deepest_sure(sum_up(rows["probability"], "attack"), least)
    assert depth.tolist() == [len(path) for path in answered]

    places = [int(np.flatnonzero(odds == EDGES)[0]) for odds in least]
    cells = answer_cells(counts.answers[TEST], places)
    wanted = np.zeros_like(cells)
    said = right = there = 0
    for path, attack in ((answered[i], rows["attack"][i]) for i in np.flatnonzero(rows["split"] == TEST)):
        common = set(enumerate(path)) & set(enumerate(PATHS[attack]))
        wanted[attack, len(path), len(common)] += 1
        said, right, there = said + len(path), right + len(common), there + 3
    assert np.array_equal(cells, wanted)
    found = hierarchical_scores(cells.sum(axis=0), 500, 1)
    precision, recall = right / said, right / there
    assert found["precision"] == pytest.approx(precision, abs=1e-12)
    assert found["recall"] == pytest.approx(recall, abs=1e-12)
    assert found["f1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)
    assert found["f1_low"] < found["f1"] < found["f1_high"]


def test_where_nothing_is_answered_or_nothing_occurs_there_is_no_precision() -> None:
    cells = np.zeros((4, 4), np.int64)
    assert set(hierarchical_scores(cells, 10, 0).values()) == {None}
    cells[0, 0] = 5
    assert (hierarchical_scores(cells, 10, 0)["precision"], hierarchical_scores(cells, 10, 0)["recall"]) == (None, 0.0)


def test_the_abstention_curve_is_that_of_the_rows() -> None:
    rows = simulated("attack", 2000, seed=5)
    entry = told_by_level("attack", rows, error=0.1)
    tested = {name: values[..., rows["split"] == TEST] for name, values in rows.items()}
    for depth, (name, curve) in enumerate(entry["curves"].items()):
        level = sum_up(tested["probability"], "attack")[depth]
        wrong = level.answer != np.array(labels_above("attack", name))[tested["attack"]]
        place = np.floor(level.sure * 64)  # rows of a bin are answered together
        coverage = np.array([(place >= at).mean() for at in np.unique(place)])
        risk = np.array([wrong[place >= at].mean() for at in np.unique(place)])
        area = sum((b - a) * r for a, b, r in zip([*coverage[1:], 0.0], coverage, risk, strict=True))
        assert curve["area"] == pytest.approx(area, abs=1e-12)
        assert curve["coverage"][-1] == 1 and curve["error"][-1] == pytest.approx(wrong.mean(), rel=1e-5)
        near = np.abs(np.subtract.outer(curve["coverage"], coverage)).argmin(axis=1)
        assert np.allclose(curve["error"], risk[near], rtol=1e-5)


def test_of_the_answers_that_name_a_level_no_more_are_wrong_than_promised() -> None:
    error, trials, broken, answered = 0.1, 120, 0, []
    truth = simulated("attack", 60_000, seed=99, sharpness=1.3)
    at_large = levels_counted("attack", truth | {"split": np.full(60_000, TEST)})
    for seed in range(trials):
        rows = simulated("attack", 500, seed=seed, sharpness=1.3)
        places = choose_places(levels_counted("attack", rows | {"split": np.zeros(500, np.int64)}), error)
        assert places == sorted(places)
        cells = answer_cells(at_large.answers[TEST], places).sum(axis=0)
        # Wrong at a level: fewer levels right than it takes, of all answers that go that deep.
        shares = [cells[d:, :d].sum() / max(cells[d:].sum(), 1) for d in (1, 2, 3)]
        broken += any(share > error for share in shares)
        answered.append(cells[3].sum() / cells.sum())
    # 5 % of 120 trials are 6; more than 12 would come by chance once in a hundred.
    assert broken <= 12
    assert np.mean(answered) > 0.3, "a promise that nothing is answered under is kept by anybody"


def test_thresholds_see_validation_rows_only() -> None:
    rows = simulated("attack", 3000, seed=8)
    before = told_by_level("attack", rows, error=0.1)
    others = rows["split"] != UNSEEN.index("validation")
    turned = {**rows, "attack": np.where(others, rows["attack"][::-1], rows["attack"])}
    after = told_by_level("attack", turned, error=0.1)
    assert [level["threshold"] for level in before["levels"]] == [level["threshold"] for level in after["levels"]]
    assert [s["threshold"] for s in before["sets"]] == [s["threshold"] for s in after["sets"]]
    assert before["answers"] != after["answers"]


def test_too_few_rows_allow_no_answer_and_the_entry_says_so() -> None:
    entry = told_by_level("attack", simulated("attack", 60, seed=1), error=0.01)
    assert [level["threshold"] for level in entry["levels"]] == [None] * 3
    assert entry["answers"]["precision"] is None and entry["answers"]["depths"][0]["rows"] == entry["answers"]["rows"] > 0
    assert any(note.startswith("No threshold keeps") for note in entry["notes"])


@pytest.mark.parametrize("error", [0.01, 0.05, 0.1, 0.2])
def test_sets_hold_the_true_class_as_often_as_promised(error: float) -> None:
    """On 300 simulated sets of exchangeable rows, coverage is within one point of the promise."""
    pool = simulated("attack", 60_000, seed=4, sharpness=1.7)
    counts = pool["probability"][pool["attack"], np.arange(60_000)]
    place = bins_of(counts, 1 - counts)
    dice, held = np.random.default_rng(2), []
    for _ in range(300):
        drawn = dice.choice(place, 1000)
        edge = set_edge(np.bincount(drawn[:500], minlength=BINS), error)
        held.append((drawn[500:] >= edge).mean())
    assert np.mean(held) == pytest.approx(1 - error, abs=0.01)


def test_p_values_are_as_small_as_they_say_and_no_smaller() -> None:
    dice, small = np.random.default_rng(6), []
    for _ in range(300):
        places = (dice.exponential(100, 1200)).astype(int).clip(0, BINS - 1)
        found = p_values(np.bincount(places[:600], minlength=BINS))
        assert np.allclose(found[places[0]], (1 + (places[:600] >= places[0]).sum()) / 601)
        small.append([(found[places[600:]] <= a).mean() for a in (0.01, 0.05, 0.1)])
    assert np.abs(np.mean(small, axis=0) - (0.01, 0.05, 0.1)).max() <= 0.01


@pytest.mark.parametrize("is_right", [False, True])
def test_sets_are_counted_as_they_are(is_right: bool) -> None:
    rows = simulated("attack", 2000, seed=2, sharpness=0.5)
    if is_right:  # a model that is better than promised leaves out rows that it is not sure of
        kept = rows["prediction"] == rows["attack"]
        rows = {name: values[..., kept] for name, values in rows.items()}
    entry = told_by_level("attack", rows, error=0.1)
    tested = rows["probability"][:, rows["split"] == TEST]
    own = rows["attack"][rows["split"] == TEST]
    for s in entry["sets"]:
        inside = tested >= s["threshold"] - 1e-12
        assert s["coverage"] == pytest.approx(inside[own, np.arange(len(own))].mean())
        assert s["classes"] == pytest.approx(inside.sum(axis=0).mean())
        assert s["empty"] == pytest.approx((~inside.any(axis=0)).mean())
    assert (entry["sets"][0]["empty"] > 0.05) == is_right


def test_order_and_partitions_change_no_count(spark: SparkSession) -> None:
    rows = simulated("attack", 500)
    wanted = levels_counted("attack", rows)
    scored = as_frame(spark, "attack", rows).orderBy(F.hash("probability")).repartition(5)
    train = scored.limit(9).withColumn("split", F.lit("train"))
    found = count_hierarchy(scored.union(train), problem("attack", [0, 1]))
    assert np.array_equal(found.answers, wanted.answers) and np.array_equal(found.sets, wanted.sets)
    assert found.sure.sum() == 500 * 3 and found.sets[:, :, TRUE].sum() == 500
    assert found.sets[:, :, ANY].sum() == 500 * len(ATTACKS)


def test_two_counts_add_up() -> None:
    one, other = simulated("category", 100, seed=1), simulated("category", 80, seed=2)
    both = {n: np.concatenate([one[n], other[n]], axis=-1) for n in one}
    total = levels_counted("category", one) + levels_counted("category", other)
    assert np.array_equal(total.answers, levels_counted("category", both).answers)
    assert HierarchyCounts.empty("category").answers.shape[2:4] == (2, 2)
    assert total.answers[:, :, 1, OWN].sum() == 180
    assert len(CATEGORIES) * 180 == total.sets[:, :, ANY].sum()


@given(st.integers(1, 300), st.floats(0.001, 0.5), st.data())
def test_the_chance_of_so_few_is_the_binomial_one(rows: int, share: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, rows))
    exact = sum(math.comb(rows, k) * share**k * (1 - share) ** (rows - k) for k in range(hits + 1))
    if hits < share * rows:
        assert chance_of_so_few(hits, rows, share) == pytest.approx(exact, rel=1e-9)
    else:
        assert chance_of_so_few(hits, rows, share) == 1
