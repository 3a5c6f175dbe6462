"""The past of a row is that of its capture: nothing of what comes later, of another file, or of how Spark spreads rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.flows import feature_names, past_column, past_columns
from iomt_ids.contract.tables import FEATURES, SILVER
from iomt_ids.prepare.features import fit_preparation, state_problem
from iomt_ids.prepare.past import add_past, history_of, name_past, past_of, with_past
from tests.builders import gold, problem

NAMES = feature_names("v1", "leak_free")
PAST = past_columns(NAMES)


@pytest.fixture(scope="module")
def flows(spark):
    """Three captures, the lines of each in no order."""
    rows = gold(spark, ["Benign", "DoS-TCP", "Bluetooth-DoS"], rows=50).select(SILVER.fieldNames())
    return rows.withColumn("source_file", F.col("attack")).orderBy("flow_id").cache()


def past(flows, windows=4, **how):
    told = name_past(add_past(flows, "v1", windows, **how), PAST)
    return told.select("flow_id", "source_file", "source_line", *NAMES, *PAST).toPandas()


@pytest.mark.parametrize("windows", [1, 4, 200])
def test_it_is_what_pandas_says_of_a_rolling_window_of_each_capture(flows, windows):
    found = past(flows, windows).sort_values(["source_file", "source_line"], ignore_index=True)
    rolling = found.groupby("source_file")[list(NAMES)].rolling(windows + 1, min_periods=1)
    means, spreads = rolling.mean().reset_index(drop=True), rolling.std(ddof=0).reset_index(drop=True)
    for name in NAMES:
        np.testing.assert_allclose(found[past_column(name, "mean")], means[name], atol=1e-9)
        np.testing.assert_allclose(found[past_column(name, "std")], spreads[name], atol=1e-6)


def test_how_rows_are_spread_and_cut_into_batches_changes_no_bit(spark, flows):
    whole = past(flows.coalesce(1)).sort_values("flow_id", ignore_index=True)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
    try:
        cut = past(flows.repartition(5, F.rand(2))).sort_values("flow_id", ignore_index=True)
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    pd.testing.assert_frame_equal(whole, cut, check_exact=True)


def test_what_comes_later_and_other_captures_change_nothing(flows):
    before = past(flows).set_index("flow_id")
    is_late = (F.col("source_line") > 30) | (F.col("source_file") != "DoS-TCP")
    moved = past(flows.withColumns({n: F.when(is_late, F.col(n) + 1000).otherwise(F.col(n)) for n in NAMES})).set_index("flow_id")
    early = before.index[(before["source_line"] <= 30) & (before["source_file"] == "DoS-TCP")]
    pd.testing.assert_frame_equal(before.loc[early], moved.loc[early], check_exact=True)
    assert (before.loc[before.index.difference(early), PAST] != moved.loc[before.index.difference(early), PAST]).any(axis=None)


def test_a_stream_can_be_more_than_one_capture(flows):
    found = past(flows, 200, stream=F.lit("ward"), order=F.struct("source_line", "source_file"))
    last = found.sort_values(["source_line", "source_file"]).iloc[-1]
    assert last["ttl_mean_past_mean"] == pytest.approx(found["ttl_mean"].mean())


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.integers(1, 9), st.data())
def test_every_row_sees_itself_and_as_many_before_it_as_there_are(values, windows, data):
    starts = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    found = past_of(np.array(values)[:, None], starts, windows)
    for i in range(len(values)):
        begin = max([0, *np.flatnonzero(starts[: i + 1])])
        seen = np.array(values[max(begin, i - windows): i + 1])
        assert found[i] == pytest.approx([seen.mean(), seen.std()], abs=1e-3)


def test_a_detector_can_only_learn_from_the_past_that_there_is(flows):
    none, some = (add_past(flows, "v1", windows).select(FEATURES.fieldNames()) for windows in (0, 4))
    assert none.filter("past IS NOT NULL").count() == 0
    preparation = fit_preparation(name_past(some, PAST), feature_names("v1", "past"))
    asked = state_problem(some, preparation, task="attack", feature_set="past")
    assert (asked.past_windows, asked.features) == (4, feature_names("v1", "past"))
    with pytest.raises(ContractError, match="holds no past"):
        state_problem(none, preparation, task="attack", feature_set="past")
    with pytest.raises(ContractError, match="tell of 0 windows before them, the model has learnt from 4"):
        with_past(none, asked)
    assert with_past(some, asked).select(*asked.features).dropna("any").count() == 150
    assert with_past(none, problem("attack", [0, 11])).columns == none.columns


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 5))
def test_a_history_is_the_rows_before_in_its_stream_and_says_which_are_there(starts, windows):
    rows = np.arange(1, len(starts) + 1, dtype=np.float32)[:, None]
    told = history_of(rows, np.array(starts), windows).reshape(len(starts), windows + 1, 2)
    begin = 0
    for i, is_first in enumerate(starts):
        begin = i if is_first else begin
        seen = [[float(j + 1), 1.0] for j in range(max(begin, i - windows), i + 1)]
        assert told[i].tolist() == [[0.0, 0.0]] * (windows + 1 - len(seen)) + seen
