"""Counts are the same however rows come, and a bin holds what its edges say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import TASKS
from iomt_ids.contract.errors import ContractError
from iomt_ids.evaluate.score_counts import BINS, EDGES, ScoreCounts, bins_of, count_scores, probability_matrix
from tests.builders import problem
from tests.evaluate.simulated import as_frame, counted, simulated


def same(one: ScoreCounts, other: ScoreCounts) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))


@pytest.mark.parametrize("task", TASKS)
def test_order_and_partitions_change_no_count(spark: SparkSession, task: str) -> None:
    rows = simulated(task, 700)
    wanted = counted(task, rows)
    scored = as_frame(spark, task, rows)
    for spread in (scored.coalesce(1), scored.orderBy(F.hash("probability")).repartition(5)):
        assert same(count_scores(spread, problem(task, [0, 1])), wanted)
    assert wanted.decided.sum() == wanted.alarm.sum() == 700
    assert (wanted.rest.sum(axis=(0, 2, 3)) == 700).all()
    assert (wanted.reliability[..., 0].sum(axis=(0, 2)) == 700).all()


def test_a_row_with_a_weight_counts_as_so_many_rows(spark: SparkSession) -> None:
    rows = simulated("category", 60)
    copies = np.arange(60) % 4
    repeated = {name: np.repeat(values, copies, axis=-1) for name, values in rows.items()}
    scored = as_frame(spark, "category", rows | {"weight": copies})
    assert same(count_scores(scored, problem("category", [0, 1]), weight="copies"), counted("category", repeated))


def test_rows_that_were_learnt_from_are_left_out(spark: SparkSession) -> None:
    scored = as_frame(spark, "binary", simulated("binary", 40)).withColumn("split", F.lit("train"))
    assert same(count_scores(scored, problem("binary", [0, 1])), ScoreCounts.empty("binary"))


def test_columns_that_are_missing_are_named(spark: SparkSession) -> None:
    scored = as_frame(spark, "binary", simulated("binary", 5)).drop("probability", "binary_id")
    with pytest.raises(ContractError, match="into count_scores: column 'probability' is missing; column 'binary_id'"):
        count_scores(scored, problem("binary", [0, 1]))


@pytest.mark.parametrize("values", [
    [[0.5, 0.6]], [[1.5, -0.5]], [[0.5, math.nan]], [[0.5, None]], [[1.0]], [None], [[0.5, 0.5], [0.5, 0.5, 0.0]],
])
def test_what_is_no_probability_is_refused(values: list) -> None:
    with pytest.raises(ContractError, match="probabilities"):
        probability_matrix(pa.array(values, pa.list_(pa.float64())), 2)


def test_counts_survive_their_bytes() -> None:
    counts = counted("attack", simulated("attack", 300))
    packed = counts.as_bytes()
    assert same(ScoreCounts.from_bytes(packed), counts)
    assert len(packed) < 100_000


@given(st.floats(-40, 40))
def test_a_score_lies_between_the_edges_of_its_bin(log_odds: float) -> None:
    part, other = 1 / (1 + math.exp(-log_odds)), 1 / (1 + math.exp(log_odds))
    place = int(bins_of(np.array([part]), np.array([other]))[0])
    assert EDGES[place] <= math.log(part) - math.log(other) < EDGES[place + 1]


def test_rare_scores_are_told_apart_and_the_certain_ones_have_bins() -> None:
    scores = np.array([0.0, 1e-6, 1.04e-6, 0.5, 1 - 1.04e-6, 1 - 1e-6, 1.0])
    places = bins_of(scores, 1 - scores)
    assert (np.diff(places) > 0).all()
    assert (places[0], places[-1]) == (0, BINS - 1)
    assert EDGES[places[3]] == 0, "a half is at an edge: it is alerted on at a threshold of a half"
