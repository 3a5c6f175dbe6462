"""Folds are parts of captures: a gap between them, no vector on both sides, every row held out once."""

import pytest
from pyspark.sql import functions as F

from iomt_ids.prepare.folds import fold_rows, placed_rows
from tests.builders import gold, problem

FOLDS, GAP = 4, 3
PROBLEM = problem("attack", [0, 1])


@pytest.fixture(scope="module")
def flows(spark):
    """Two captures of different length that do not start at the same line; the second ends with rows of the first's start."""
    one = at(gold(spark, ["Benign"], rows=41, seed=1), "one", 0)
    other = at(gold(spark, ["ARP_Spoofing"], rows=16, seed=2), "other", 100)
    copies = at(one.filter("source_line < 6"), "other", 116)
    return one.unionByName(other).unionByName(copies).cache()


def at(rows, file, lines):
    """The same rows in a file, some lines further down."""
    return rows.withColumns({"source_file": F.lit(file), "source_line": F.col("source_line") + lines})


def rows_of(frame):
    return {(r.source_file, r.source_line): tuple(r[n] for n in PROBLEM.features) for r in frame.collect()}


@pytest.fixture(scope="module")
def parts(flows):
    placed = placed_rows(flows, PROBLEM)
    return [tuple(map(rows_of, fold_rows(placed, fold=k, folds=FOLDS, gap=GAP))) for k in range(FOLDS)]


def test_every_row_is_held_out_once(flows, parts):
    held = [place for _, held_out in parts for place in held_out]
    assert sorted(held) == sorted(rows_of(flows))


def test_what_is_learnt_from_lies_beyond_a_gap(parts):
    for learnt_from, held_out in parts:
        for file in ("one", "other"):
            lines = [line for f, line in held_out if f == file]
            near = range(min(lines) - GAP, max(lines) + GAP + 1)
            assert not [line for f, line in learnt_from if f == file and line in near]


def test_no_vector_is_learnt_from_and_scored_on(flows, parts):
    for learnt_from, held_out in parts:
        assert not set(learnt_from.values()) & set(held_out.values())
    # Copies of the first rows lie far from them, in another capture: only their vectors keep them out.
    first = {place for place in parts[0][1] if place[0] == "one" and place[1] < 6}
    copies = {place for place, vector in rows_of(flows).items() if place[0] == "other" and vector in
              {parts[0][1][p] for p in first}}
    assert len(copies) == 4
    assert not copies & set(parts[0][0])
    assert copies & set(parts[1][0])


def test_nearly_everything_else_is_learnt_from(flows, parts):
    assert all(len(learnt_from) >= flows.count() - len(held_out) - 4 * GAP - 4 for learnt_from, held_out in parts)
