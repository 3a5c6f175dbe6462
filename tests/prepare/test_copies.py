"""Of equal rows one stands for all: counted as pandas counts them, wherever the rows lie."""

import numpy as np
import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.flows import VECTOR_SETS, feature_names
from iomt_ids.contract.tables import COUNTED, UNCOUNTED, copies_column
from iomt_ids.models import detectors
from iomt_ids.prepare.copies import count_copies, under_policy
from tests.builders import gold, problem


@pytest.fixture(scope="module")
def repeated(spark):
    """Rows of few distinct vectors; the clock makes some of them differ in all columns only."""
    rows = gold(spark, ["Benign", "DoS-TCP", "Bluetooth-DoS"], rows=60, gap=0.0)
    few = {name: F.lit(0.5) for name in feature_names("v1", "all")}
    few["ttl_mean"] = F.pmod(F.col("source_line"), F.lit(3)).cast("double")
    few["arp_fraction"] = F.when(F.col("source_line") % 5 == 0, F.lit(-0.0)).otherwise(F.lit(0.0))
    few["iat_epoch_s"] = F.pmod(F.col("source_line"), F.lit(4)).cast("double")
    named = rows.withColumns(few).withColumn("device", F.when(F.col("source_line") % 2 == 0, F.lit("Ring")))
    halved = named.withColumn("split", F.when(F.col("source_line") > 40, "test").otherwise("train"))
    return halved.select(UNCOUNTED.fieldNames()).cache()


@pytest.mark.parametrize("feature_set", VECTOR_SETS)
def test_the_smallest_identity_stands_for_all_rows_with_its_vector(repeated, feature_set):
    found = count_copies(repeated, rows=180).select("flow_id", copies_column(feature_set)).toPandas().set_index("flow_id")
    rows = repeated.toPandas()
    keys = ["split", "attack_id", "device", *feature_names("v1", feature_set)]
    rows[list(feature_names("v1", feature_set))] += 0.0  # -0.0 becomes 0.0
    groups = rows.groupby(keys, dropna=False)["flow_id"].agg(["min", "size"])
    wanted = dict(zip(groups["min"], groups["size"], strict=True))
    assert {i: n for i, n in found[copies_column(feature_set)].items() if n} == wanted
    assert found[copies_column(feature_set)].sum() == len(rows) == len(found)
    assert len(wanted) < len(rows) / 2


def test_where_rows_lie_changes_nothing_and_the_other_columns_stay(repeated):
    one, other = (
        count_copies(flows, rows=rows).select(COUNTED.fieldNames()).orderBy("flow_id").collect()
        for flows, rows in ((repeated.coalesce(1), 180), (repeated.repartition(5, F.rand(1)), 2_000_000))
    )
    assert one == other
    before = repeated.select(UNCOUNTED.fieldNames()).orderBy("flow_id").collect()
    assert [tuple(row[n] for n in UNCOUNTED.fieldNames()) for row in one] == [tuple(row) for row in before]


@pytest.mark.parametrize(("policy", "wanted"), [
    ("weight", [(0, 4), (1, 0), (2, 1)]), ("keep", [(0, 1), (1, 1), (2, 1)]), ("drop", [(0, 1), (2, 1)]),
])
def test_what_is_learnt_from_equal_rows_is_a_choice(spark, policy, wanted):
    rows = spark.createDataFrame([(0, 4), (1, 0), (2, 1)], ["flow_id", "copies_all"])
    assert [tuple(row) for row in under_policy(rows, "copies_all", policy).orderBy("flow_id").collect()] == wanted


@pytest.mark.parametrize(("name", "quick"), [
    ("random_forest", {"trees": 40, "depth": 6}), ("gradient_boosted", {"patience": 0, "rounds": 5, "sampling_threshold": 0.0}),
    ("logistic_regression", {"iterations": 10}),
])
def test_a_weighted_row_is_learnt_as_that_many_rows(spark, name, quick):
    # Two classes that overlap; what tips the balance is how often a vector was seen. A copy has another identity.
    rows = gold(spark, ["Benign", "DoS-TCP"], rows=150, gap=0.2, seed=4).cache()
    weighted = rows.withColumn("copies_leak_free", F.when(F.col("attack_id") == 11, 6).otherwise(1))
    again = weighted.withColumn("copy", F.explode(F.sequence(F.lit(1), F.col("copies_leak_free"))))
    kept = again.withColumns({"flow_id": F.xxhash64("flow_id", "copy"), "copies_leak_free": F.lit(1)}).drop("copy")
    said = []
    for flows in (weighted, kept, rows):
        detector = detectors()[name]
        params = detector.params(**quick)
        fitted = detector.fit(flows, problem("attack", [0, 11]), params, validation=flows, seed=1, launcher=None)
        scored = fitted.transform(rows).orderBy("flow_id").select("probability").collect()
        said.append(np.array([row["probability"][11] for row in scored]))
    as_rows, without_weights = (np.abs(said[0] - other).mean() for other in said[1:])
    assert as_rows < without_weights / 3
