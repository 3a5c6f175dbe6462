"""Trees that were interrupted while they grew end as if they had not been."""

import dataclasses

import numpy as np
import pytest

from iomt_ids.distributed.chunks import Chunks
from iomt_ids.distributed.launch import InProcessLauncher
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.models.histogram import boost as boosting_module
from iomt_ids.models.histogram import share
from iomt_ids.models.histogram.boost import BoostShape, RegressionTree, boost
from iomt_ids.models.histogram.forest import Shape, Tree, cuts_of, grow, thresholds_of
from iomt_ids.models.histogram.keep import trees_from_bytes, trees_to_bytes
from tests.builders import gold, problem
from tests.models.test_histogram_boost import as_bytes
from tests.models.test_histogram_forest import toy

SHAPE = BoostShape(40, 2, 16, 0.3, sampling_threshold=0.3)


def same(one, other):
    names = [field.name for field in dataclasses.fields(one[0])]
    return [[getattr(t, n).tobytes() for n in names] for t in one] == [[getattr(t, n).tobytes() for n in names] for t in other]


def test_trees_come_back_from_bytes_to_the_last_bit():
    trees = grow(toy(), Shape(3, 6, 16, "sqrt", 1), 1, range(3))
    found, more = trees_from_bytes(Tree, trees_to_bytes(trees, losses=np.array([0.1, 0.2])))
    assert same(found, trees) and more["losses"].tolist() == [0.1, 0.2]
    boosted = boost(toy(), dataclasses.replace(SHAPE, rounds=2), 1, threads=1)[0].trees[0]
    assert same(trees_from_bytes(RegressionTree, trees_to_bytes(boosted))[0], boosted)


def test_cuts_are_found_again_from_thresholds():
    binned = toy()
    feature = np.array([0, -1, 3, 1, -1, 0])
    cut = np.array([2, -1, 0, binned.edges[1].size - 1, -1, binned.edges[0].size - 1])
    assert cuts_of(binned.edges, feature, thresholds_of(binned.edges, feature, cut)).tolist() == cut.tolist()


def interrupted(monkeypatch, after, *asked, **more):
    """Boost, and die in the round after so many."""
    original, learnt = boosting_module._Course._learn, []

    def learn(self, index):
        if len(learnt) == after:
            raise KeyboardInterrupt
        learnt.append(index)
        original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(boosting_module._Course, "_learn", learn)
        try:
            return boost(*asked, **more), learnt
        except KeyboardInterrupt:
            return None, learnt


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("patience", [0, 3], ids=["all_rounds", "ends_early"])
def test_interrupted_boosting_ends_with_the_very_same_bytes(monkeypatch, tmp_path, classes, patience):
    binned, unseen = toy(classes=classes), dataclasses.replace(toy(seed=1, classes=classes), edges=toy(classes=classes).edges)
    asked, kept = (binned, dataclasses.replace(SHAPE, patience=patience), 5), Chunks(tmp_path, "a" * 64)
    whole = boost(*asked, threads=2, unseen=unseen)
    # Three rounds a chunk: within the first, within the third, and at the end of one.
    for after, (first, last) in ((2, (0, 1)), (7, (0, 6)), (3, (6, 8))):
        _, learnt = interrupted(monkeypatch, after, *asked, threads=2, unseen=unseen, kept=kept)
        assert learnt[:1] + learnt[-1:] == [first, last]
    (found, curves), learnt = interrupted(monkeypatch, 99, *asked, threads=1, unseen=unseen, kept=kept)
    assert learnt[0] == 9
    assert as_bytes(found) == as_bytes(whole[0]) and curves == whole[1]
    assert (len(curves) < SHAPE.rounds) == (patience > 0)
    (again, curves), learnt = interrupted(monkeypatch, 0, *asked, threads=2, unseen=unseen, kept=kept)
    assert as_bytes(again) == as_bytes(whole[0]) and curves == whole[1] and not learnt


@pytest.fixture(scope="module")
def flows(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=100, gap=0.6).cache()


def fit(flows, launcher, seed=3):
    return share.fit_forest(flows, problem("attack", [0, 1, 11]), Shape(32, 5, 16, "0.3", 1), seed, launcher).trees


def test_a_forest_takes_what_is_kept_of_it_and_grows_the_rest(flows, tmp_path, monkeypatch):
    launcher = ResumingLauncher(InProcessLauncher(), tmp_path, Endurance(1, 1, 1.0), lambda _: None)
    told, original = [], share.chunks_of
    monkeypatch.setattr(share, "chunks_of", lambda *asked: told.append(original(*asked)) or told[-1])
    whole = fit(flows, None)
    assert same(fit(flows.repartition(3), launcher), whole)
    one, gone, damaged, *others = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert len(others) == 13
    # In place of two trees two others: they are taken as they are. One part is gone, one damaged: they are grown again.
    told[-1].save(one.name, trees_to_bytes(whole[4:6]))
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert same(fit(flows, launcher), [*whole[4:6], *whole[2:]])
    assert gone.exists() and told[-1].load(damaged.name)
    # Other rows, and another seed, are other trainings.
    assert same(fit(flows, launcher, seed=4), fit(flows, None, seed=4))
    fit(flows.limit(290), launcher)
    assert len(list(tmp_path.iterdir())) == 3
