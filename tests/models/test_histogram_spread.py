"""Trees of rows that lie on several ranks are those of all rows in one place, to the last bit."""

import dataclasses
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from iomt_ids.contract.errors import ConfigError, LaunchError
from iomt_ids.distributed.chunks import Chunks, SharedChunks
from iomt_ids.distributed.launch import HorovodLauncher
from iomt_ids.distributed.resume import Endurance, ResumingLauncher
from iomt_ids.distributed.work import Alone, filled, gather_bytes
from iomt_ids.models.gradient_boosted import DETECTOR as BOOSTED
from iomt_ids.models.histogram import blocks, levels, ranks, share, spread
from iomt_ids.models.histogram import boost as boost_module
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.forest import Shape, grow
from iomt_ids.models.histogram.levels import grow_together
from iomt_ids.models.random_forest import DETECTOR, Params
from tests.builders import gold, problem
from tests.models.test_histogram_boost import as_bytes
from tests.models.test_histogram_forest import toy
from tests.models.test_histogram_keep import same
from tests.models.test_histogram_pieces import as_rows

NEVER, ALWAYS = 1, 1 << 30


class Meeting:
    """Ranks as threads of this process."""

    def __init__(self, size):
        self.size, self.barrier, self.told = size, threading.Barrier(size, timeout=60), [None] * size

    def run(self, work):
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(work, [Place(self, rank) for rank in range(self.size)]))


class Place(Alone):
    """One of them; see `distributed.work.Communicator`."""

    def __init__(self, meeting, rank):
        self.meeting, self.rank, self.size, self.lent = meeting, rank, meeting.size, []

    def sum(self, values):
        self.meeting.told[self.rank] = np.asarray(values)
        self.meeting.barrier.wait()
        assert len({(told.dtype, told.shape) for told in self.meeting.told}) == 1
        total = sum(self.meeting.told[1:], self.meeting.told[0].copy())
        self.meeting.barrier.wait()
        return total

    def gather(self, own):
        self.meeting.told[self.rank] = own.reshape(-1)
        self.meeting.barrier.wait()
        told = list(self.meeting.told)
        self.meeting.barrier.wait()
        return told

    def swap(self, sizes, fill):
        self.meeting.barrier.wait()  # all have called again: what came last is read no more
        for told in self.lent:
            told[:] = 255
        self.lent = self.meeting.told[self.rank] = filled(sizes, fill)
        self.meeting.barrier.wait()
        told = [of_rank[self.rank] for of_rank in self.meeting.told]
        self.meeting.barrier.wait()
        return told


def dealt(binned, ends):
    """Parts of rows, one after the other."""

    def part(a, b):
        return dataclasses.replace(
            binned, columns=np.ascontiguousarray(binned.columns[:, a:b]), labels=binned.labels[a:b],
            weights=binned.weights[a:b], marks=binned.marks[a:b],
        )

    return [part(a, b) for a, b in zip([0, *ends], [*ends, binned.labels.size], strict=True)]


@pytest.mark.parametrize("shape", [
    Shape(3, 7, 16, "sqrt", 1), Shape(2, 12, 16, "all", 3), Shape(4, 9, 16, "1", 2), Shape(2, 0, 16, "0.5", 1),
], ids=["some_features", "all_features", "one_feature_which_may_not_split", "a_root_alone"])
@pytest.mark.parametrize(("ends", "small"), [
    ((150,), NEVER), ((10, 10, 390), 60), ((200,), ALWAYS), ((), 60),
], ids=["level_by_level", "uneven_and_an_empty_share", "below_the_root", "alone"])
@pytest.mark.parametrize("at_once", [1, 2], ids=["a_tree_alone", "trees_in_step"])
def test_a_forest_on_ranks_is_the_forest_of_all_rows(monkeypatch, shape, ends, small, at_once):
    monkeypatch.setattr(levels, "_MOST_BYTES", 40_000)  # so that nodes come in several groups
    monkeypatch.setattr(levels, "_MOST_BYTES_OF_ROWS", 500)  # and rows of small nodes in several journeys
    binned = dataclasses.replace(toy(), weights=1 + np.arange(400) % 3)
    wanted = grow(binned, shape, 11, range(shape.trees))
    parts = dealt(binned, ends)
    found = Meeting(len(parts)).run(
        lambda ranks: [
            tree for first in range(0, shape.trees, at_once)
            for tree in grow_together(parts[ranks.rank], shape, 11, range(shape.trees)[first : first + at_once], ranks, small=small)
        ]
    )
    for trees in found:
        assert same(trees, wanted)


def test_counts_that_travel_in_pairs_do_not_run_over_and_may_be_odd():
    heavy = toy(rows=1600, classes=3, bins=15)
    heavy = dataclasses.replace(heavy, weights=np.full(1600, 1_250_000))
    assert max(e.size + 1 for e in heavy.edges) == 15 and heavy.weights.sum() > 1.99e9
    shape = Shape(3, 6, 15, "all", 1)
    parts = dealt(heavy, (700,))
    grown = Meeting(2).run(
        lambda ranks: grow_together(parts[ranks.rank], shape, 5, range(shape.trees), ranks, small=NEVER)
    )
    for trees in grown:
        assert same(trees, grow(heavy, shape, 5, range(shape.trees)))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("shape", "ends"), [
    (BoostShape(5, 6, 16, 0.5, sampling_threshold=0.4, patience=2), (150,)),
    (BoostShape(3, 4, 16, 0.3, curvature_per_leaf=4.0), (10, 10, 390)), (BoostShape(2, 0, 16, 0.3), (200,)),
], ids=["drawn_rows", "uneven_and_an_empty_share", "roots_alone"])
@pytest.mark.parametrize("most", [0, 1000], ids=["one_tree_at_a_time", "trees_in_step"])
def test_boosting_on_ranks_is_boosting_of_all_rows(monkeypatch, classes, shape, ends, most):
    monkeypatch.setattr(levels, "_MOST_BYTES", 3 * 6 * 16 * 8)
    monkeypatch.setattr(boost_module, "_MOST_BYTES_A_ROW", most)
    binned = dataclasses.replace(toy(classes=classes), weights=1 + np.arange(400) % 3)
    unseen = dataclasses.replace(toy(rows=300, seed=1, classes=classes), edges=binned.edges)
    wanted, curves = boost(binned, shape, 11, threads=2, unseen=unseen)
    parts, others = dealt(binned, ends), dealt(unseen, [e // 2 for e in ends])
    found = Meeting(len(parts)).run(
        lambda ranks: boost(parts[ranks.rank], shape, 11, threads=1, unseen=others[ranks.rank], ranks=ranks)
    )
    for boosting, told in found:
        assert as_bytes(boosting) == as_bytes(wanted) and told == curves
    again, told = ranks.boosting_from_bytes(ranks.boosting_to_bytes(wanted, curves), 6)
    assert as_bytes(again) == as_bytes(wanted) and told == curves
    assert [w.tolist() for w in again.weights] == [w.tolist() for w in wanted.weights]


def test_bytes_of_every_rank_reach_every_rank():
    content = [b"", b"1234567", b"x" * 17]
    assert Meeting(3).run(lambda ranks: gather_bytes(ranks, content[ranks.rank])) == [content] * 3
    assert gather_bytes(Alone(), b"abc") == [b"abc"]


def test_ranks_start_without_what_takes_long_to_import():
    asked = "import sys, iomt_ids.distributed.worker, iomt_ids.models.histogram.ranks; print(*sorted(sys.modules))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert "numba" in told and not {"pyspark", "pandas", "pyarrow", "tensorflow", "horovod"} & set(told)


LOADED = """
import sys
from numba.core.dispatcher import Dispatcher
from iomt_ids.models.histogram import ranks
from tests.models.test_histogram_spread import learn_on_two

def loaded():
    own = [m for name, m in sys.modules.items() if name.startswith("iomt_ids.models.histogram")]
    functions = {id(f): f for module in own for f in vars(module).values() if isinstance(f, Dispatcher)}
    return {f"{f.__module__}.{f.__name__}": len(f.signatures) for f in functions.values()}

def new(work):
    before = loaded()
    work()
    return sorted(name for name, kinds in loaded().items() if kinds > before.get(name, 0))

learn_on_two(lambda parts, work: None)  # bins rows, which tasks do
print(len(new(ranks.load)) > 8, new(lambda: learn_on_two(lambda parts, work: work(parts))))
"""


def learn_on_two(do):
    """Have both models learnt by two ranks."""
    binned, unseen = toy(), toy(rows=300, seed=1)
    parts, others = dealt(binned, (150,)), dealt(unseen, (75,))
    boosted = BoostShape(2, 4, 16, 0.5, sampling_threshold=0.4, patience=2)
    do(parts, lambda parts: Meeting(2).run(
        lambda ranks: (
            grow_together(parts[ranks.rank], Shape(2, 7, 16, "1", 1), 11, range(2), ranks, small=60),
            boost(parts[ranks.rank], boosted, 11, threads=1, unseen=others[ranks.rank], ranks=ranks),
        )
    ))


def test_forks_of_a_process_that_has_loaded_them_load_no_compiled_functions():
    told = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[0] == "True []"


def test_who_grows_a_node_has_no_more_to_do_than_the_others():
    rows = np.array([5, 90, 7, 40, 30, 20, 0, 8])
    for index in range(3):
        owners = levels.owners_of(rows, 3, index)
        assert sorted(np.bincount(owners, weights=rows, minlength=3)) == [55, 55, 90]
        assert owners[1] == index  # groups of trees begin with different ranks


def test_only_the_first_rank_reads_and_writes_parts(tmp_path):
    Chunks(tmp_path / "0", "a" * 64).save("there", b"content")

    def work(ranks):
        shared = SharedChunks(Chunks(tmp_path / str(ranks.rank), "a" * 64), ranks)
        shared.save("new", b"content")
        return shared.load("there"), shared.load("absent"), shared.missing(["absent", "there", "new", "gone"])

    assert Meeting(2).run(work) == [(b"content", None, {"absent", "gone"})] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0"]


PROBLEM = problem("attack", [0, 1, 11])


@pytest.fixture(scope="module")
def flows(spark):
    return gold(spark, ["Benign", "ARP_Spoofing", "DoS-TCP"], rows=200, gap=0.6).cache()


@pytest.mark.slow
def test_rows_that_are_too_many_to_share_are_spread_over_ranks(flows, spark, tmp_path, monkeypatch):
    launcher = ResumingLauncher(HorovodLauncher(spark), tmp_path, Endurance(1, 0, 1.0), lambda _: None)
    shape = Shape(4, 7, 16, "0.3", 1)
    wanted = share.fit_forest(flows, PROBLEM, shape, 3)
    monkeypatch.setattr(share, "_MOST_BYTES", 10_000)
    found = share.fit_forest(flows.repartition(3), PROBLEM, shape, 3, launcher)
    assert same(found.trees, wanted.trees)
    # Finished trees are left for a job that goes on, rows are not.
    assert len([p for p in tmp_path.rglob("trees-*") if p.is_file()]) == 4
    assert not list(tmp_path.glob("bins-*"))
    monkeypatch.undo()
    boosted = BoostShape(4, 4, 16, 0.3, sampling_threshold=0.3)
    one, told = share.fit_boosting(flows, PROBLEM, boosted, 3, validation=flows.limit(100))
    other, said = share.fit_boosting(flows, PROBLEM, boosted, 3, launcher, "spread", validation=flows.limit(100))
    assert as_bytes(one) == as_bytes(other) and told == said


def _as_on_a_cluster(monkeypatch):
    """As if there were as many executors as cores."""
    monkeypatch.setattr(share, "_is_one_process", lambda context: False)
    monkeypatch.setattr(share, "_cores_of_an_executor", lambda context: 1)


@pytest.mark.slow
def test_all_executors_boost_rows_that_fit_into_one(flows, spark, tmp_path, monkeypatch):
    shape, asked = BoostShape(4, 4, 16, 0.3, sampling_threshold=0.3), []
    one, told = share.fit_boosting(flows, PROBLEM, shape, 3, validation=flows.limit(100))
    _as_on_a_cluster(monkeypatch)
    launcher = ResumingLauncher(HorovodLauncher(spark), tmp_path, Endurance(1, 0, 1.0), lambda _: None)
    monkeypatch.setattr(launcher, "run", lambda work, ranks: asked.append(ranks) or ResumingLauncher.run(launcher, work, ranks))
    other, said = share.fit_boosting(flows, PROBLEM, shape, 3, launcher, validation=flows.limit(100))
    assert as_bytes(one) == as_bytes(other) and told == said
    assert asked == [2]
    assert list(tmp_path.rglob("rounds-*")) and not list(tmp_path.glob("bins-*"))


def test_an_executor_that_died_before_the_ranks_start_is_not_waited_for(tmp_path, monkeypatch):
    slots, asked = iter([2, 1]), []
    launcher = ResumingLauncher(HorovodLauncher(None), tmp_path, Endurance(1, 0, 1.0), lambda _: None)
    monkeypatch.setattr(launcher, "slots", lambda: next(slots))
    monkeypatch.setattr(launcher, "run", lambda work, ranks: asked.append(ranks))
    dealing = spread.Spread(launcher, tmp_path, [np.empty(0)] * 2, 2)
    dealing._run(ranks.grow_rank, {})
    assert dealing.ranks == 2 and asked == [1]


def test_without_a_folder_that_every_node_sees_one_task_boosts(flows, spark, monkeypatch):
    shape = BoostShape(2, 3, 16, 0.3, patience=0)
    one, _ = share.fit_boosting(flows, PROBLEM, shape, 3, validation=flows)
    _as_on_a_cluster(monkeypatch)
    launcher = HorovodLauncher(spark)
    monkeypatch.setattr(launcher, "run", None)
    assert as_bytes(share.fit_boosting(flows, PROBLEM, shape, 3, launcher, validation=flows)[0]) == as_bytes(one)


def test_ranks_have_all_rows_and_their_hash_is_that_of_the_rows(flows, tmp_path, monkeypatch):
    rows = share._source_of(flows, PROBLEM)
    edges, kept = share._sketch_rows(rows, PROBLEM, 16, None).edges(), set()
    whole = share._deal(share._fetch_few(rows, PROBLEM), PROBLEM, edges, None)
    for frame in (flows.coalesce(1), flows.repartition(5), flows.limit(599)):
        dealing = spread.Spread(HorovodLauncher(flows.sparkSession), tmp_path, edges, 3)
        job = dealing._job("forest", Shape(4, 7, 16, "0.3", 1), 3, train=dealing._deal(share._source_of(frame, PROBLEM)))
        kept.add(job["kept"])
        if frame.count() == 600:
            parts = [ranks.share_of(job, "train", place) for place in (Place(Meeting(2), rank) for rank in range(2))]
            assert as_rows(*parts) == as_rows(whole.read()) and min(part.labels.size for part in parts) > 250
    # A forest goes on where it was, whether its bins are shared or spread.
    assert len(kept) == 2 and spread.identity("forest", Shape(4, 7, 16, "0.3", 1), 3, train=whole) in kept
    monkeypatch.setattr(spread, "FORMAT", 0)  # but not from parts that it could not read
    assert spread.identity("forest", Shape(4, 7, 16, "0.3", 1), 3, train=whole) not in kept
    job["sets"]["train"][0][0] = (str(tmp_path / "gone"), [0] * 9)
    with pytest.raises(LaunchError, match="every node must see the run's folder"):
        ranks.share_of(job, "train", Alone())


@pytest.mark.parametrize("rows", [600, 0])
def test_answers_by_files_are_those_through_spark_and_nothing_is_left(flows, tmp_path, rows):
    source = share._source_of(flows.limit(rows) if rows else flows.filter("false"), PROBLEM)
    through = share._sketch_rows(source, PROBLEM, 16, None)
    by_files = share._sketch_rows(source, PROBLEM, 16, tmp_path / "run")
    assert by_files.as_bytes() == through.as_bytes() and by_files.counts.sum() == rows
    assert not list((tmp_path / "run").iterdir())
    one, other = (share._deal(source, PROBLEM, through.edges(), folder) for folder in (None, tmp_path))
    assert one.content == other.content and one.rows == other.rows == rows
    assert as_rows(one.read()) == as_rows(other.read())


def test_answers_that_others_do_not_see_are_named(flows, tmp_path, monkeypatch):
    source = share._source_of(flows, PROBLEM)
    monkeypatch.setattr(blocks.Path, "read_bytes", lambda path: path.with_name("gone").read_text())
    with pytest.raises(LaunchError, match=r"lacks what a task wrote .*every node must see the run's folder"):
        share._sketch_rows(source, PROBLEM, 16, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("detector", [DETECTOR, BOOSTED])
def test_an_unknown_way_of_sharing_is_refused(flows, detector):
    params = dataclasses.replace(detector.params(), sharing="some")
    with pytest.raises(ConfigError, match="sharing is 'some': auto, shared or spread"):
        detector.fit(flows, PROBLEM, params, validation=flows, seed=0, launcher=None)


def test_it_is_chosen_by_size_unless_it_is_named():
    assert Params().sharing == "auto"
