"""Schemes put lines on sides: captures whole, ends of captures after a gap, rows by chance; none is lost."""

from __future__ import annotations

import pytest

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.splits import (
    ASIDE,
    CaptureFile,
    Scheme,
    cut_captures,
    group_rules,
    list_files,
    not_splittable,
    scheme_name,
    side_of,
    time_rules,
)
from iomt_ids.prepare.split import cut_flows, split_flows
from tests.builders import bronze

PARTS = [
    CaptureFile(f"csv/train/TCP_IP-DoS-UDP{i}_train.pcap.csv", "DoS-UDP", "train", 2, 101) for i in range(1, 10)
] + [CaptureFile("csv/test/TCP_IP-DoS-UDP_test.pcap.csv", "DoS-UDP", "test", 2, 101)]
ALONE = [
    CaptureFile("csv/train/Benign_train.pcap.csv", "Benign", "train", 2, 101),
    CaptureFile("csv/test/Benign_test.pcap.csv", "Benign", "test", 2, 41),
]
FILES = [*PARTS, *ALONE]


def sides(rules: dict[str, tuple[int, int]], file: CaptureFile) -> list[str]:
    until, since = rules[file.file]
    return ["train" if n <= until else "test" if n >= since else ASIDE for n in range(file.first_line, file.last_line + 1)]


@pytest.mark.parametrize(("fraction", "wanted"), [(0.01, 1), (0.3, 3), (0.99, 9)])
def test_a_group_split_draws_whole_captures_one_at_least_and_never_all(fraction: float, wanted: int) -> None:
    rules = group_rules(FILES, Scheme("group", fraction, salt="s"))
    found = [set(sides(rules, file)) for file in PARTS]
    assert all(len(side) == 1 for side in found)
    assert found.count({"test"}) == wanted


def test_a_class_of_one_capture_stays_as_the_source_has_it_and_is_named() -> None:
    rules = group_rules(FILES, Scheme("group", 0.5))
    assert [set(sides(rules, file)) for file in ALONE] == [{"train"}, {"test"}]
    assert not_splittable(FILES) == ["Benign"]


def test_another_salt_draws_other_captures() -> None:
    drawn = {tuple(group_rules(PARTS, Scheme("group", 0.3, salt=salt)).items()) for salt in "abcdef"}
    assert len(drawn) > 1
    assert group_rules(PARTS, Scheme("group", 0.3, salt="a")) == group_rules(PARTS[::-1], Scheme("group", 0.3, salt="a"))


def test_a_time_split_leaves_a_gap_and_sets_the_sources_test_rows_aside() -> None:
    rules = time_rules(FILES, Scheme("time", 0.25, gap_rows=7))
    assert sides(rules, ALONE[0]) == ["train"] * 75 + [ASIDE] * 7 + ["test"] * 18
    assert set(sides(rules, ALONE[1])) == {ASIDE}


def test_a_capture_too_short_for_the_gap_has_no_test_rows() -> None:
    short = CaptureFile("a_train.csv", "Benign", "train", 2, 11)
    assert sides(time_rules([short], Scheme("time", 0.2, gap_rows=19)), short) == ["train"] * 8 + [ASIDE] * 2


def test_classes_whose_test_rows_follow_their_train_rows_are_known() -> None:
    assert cut_captures(FILES, Scheme("official")) == {"Benign": 0}
    assert cut_captures(FILES, Scheme("group", 0.2)) == {"Benign": 0}
    assert cut_captures(FILES, Scheme("time", 0.2, gap_rows=5)) == {"Benign": 5, "DoS-UDP": 5}
    assert set(cut_captures(FILES, Scheme("random", 0.2))) == {"Benign", "DoS-UDP"}


def rows():
    made = []
    for file in FILES:
        for line in range(file.first_line, file.last_line + 1):
            # Every tenth row of any file is the same vector.
            made.append({"source_file": file.file, "source_line": line, "attack": file.attack, "split": file.split,
                         "ttl_mean": float(line % 10)})
    return [*made, {"source_file": "idle.csv", "split": "profile"}]


@pytest.fixture(scope="module")
def flows(spark):
    return bronze(spark, *rows()).cache()


@pytest.mark.parametrize("name", ["official", "group", "time", "random"])
def test_every_row_gets_a_side_and_identical_vectors_stay_on_one_side_of_the_validation_split(flows, name):
    scheme = Scheme(name, 0.3, gap_rows=3, salt="s")
    cut = flows.transform(cut_flows, scheme=scheme).cache()
    assert cut.count() == flows.count()
    assert {r.source_split for r in cut.select("source_split").distinct().collect()} == {"train", "test", "profile"}
    assert [r.split_scheme for r in cut.select("split_scheme").distinct().collect()] == [scheme.text]
    assert scheme_name(scheme.text) == name
    assert [r.split for r in cut.filter("source_split = 'profile'").collect()] == ["profile"]
    both = cut.transform(split_flows, salt="v", validation_fraction=0.4).filter("split in ('train', 'validation')")
    found = both.groupBy("ttl_mean").agg({"split": "collect_set"}).collect()
    assert {len(r[1]) for r in found} == {1}
    assert {r[1][0] for r in found} == {"train", "validation"}


def test_a_row_stays_on_its_side_wherever_it_lies(flows):
    files = list_files(flows, "split")
    assert files == sorted(FILES, key=lambda f: f.file)
    for name in ("group", "time", "random"):
        scheme = Scheme(name, 0.3, gap_rows=3)
        one, other = (
            {(r.source_file, r.source_line): r.side for r in side_of(f, scheme, files, split="split", into="side").collect()}
            for f in (flows.coalesce(1), flows.repartition(5, "source_line"))
        )
        assert one == other
        if name == "random":
            share = [s for (f, _), s in one.items() if f != "idle.csv"].count("test") / 1040
            assert 0.25 < share < 0.35


def test_a_group_split_of_nothing_but_single_captures_is_refused(spark):
    alone = bronze(spark, {}, {"source_file": "csv/test/Benign_test.pcap.csv", "split": "test"})
    with pytest.raises(ContractError, match="no class has more than one capture"):
        alone.transform(cut_flows, scheme=Scheme("group"))
