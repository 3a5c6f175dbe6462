from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from iomt_ids.contract.flows import feature_names
from iomt_ids.prepare.split import split_flows
from tests.builders import bronze

SHARE = {"salt": "s", "validation_fraction": 0.3}


def distinct(n, **more):
    return [{"ttl_mean": float(i), **more} for i in range(n)]


def test_about_the_asked_share_is_held_out(spark):
    split = bronze(spark, *distinct(2000)).transform(split_flows, **SHARE)
    assert 520 < split.filter("split = 'validation'").count() < 680


def test_identical_rows_stay_on_one_side_even_if_the_clock_and_the_window_differ(spark):
    rows = [{**row, "iat_epoch_s": i * 1e7, "buffer_packets": 1.0 + i, "weight": 2.0 * i} for row in distinct(60) for i in range(4)]
    sides = bronze(spark, *rows).transform(split_flows, **SHARE).groupBy("ttl_mean").agg(F.count_distinct("split").alias("n"))
    assert sides.filter("n > 1").count() == 0


def test_a_negative_zero_is_a_zero(spark):
    rows = [{**row, "flow_rate_per_s": sign} for row in distinct(60) for sign in (0.0, -0.0)]
    sides = bronze(spark, *rows).transform(split_flows, **SHARE).groupBy("ttl_mean").agg(F.count_distinct("split").alias("n"))
    assert sides.filter("n > 1").count() == 0


def test_test_and_profile_rows_never_move(spark):
    rows = distinct(100, split="test") + distinct(100, split="profile")
    moved = bronze(spark, *rows).transform(split_flows, **SHARE)
    assert {(r.split, r["count"]) for r in moved.groupBy("split").count().collect()} == {("test", 100), ("profile", 100)}


def test_another_salt_is_another_split(spark):
    flows = bronze(spark, *distinct(300))
    chosen = []
    for salt in ("a", "a", "b"):
        held_out = flows.transform(split_flows, salt=salt, validation_fraction=0.3).filter("split = 'validation'")
        chosen.append({r.source_line for r in held_out.collect()})
    assert chosen[0] == chosen[1] != chosen[2]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(feature_names("v1", "leak_free")), st.floats(0, 9)), min_size=1, max_size=40))
def test_no_row_is_lost_and_none_is_made(spark, changes):
    flows = bronze(spark, *[{name: value} for name, value in changes])
    split = flows.transform(split_flows, **SHARE)
    assert sorted(r.source_line for r in split.collect()) == list(range(2, 2 + len(changes)))
