import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES
from iomt_ids.prepare.clean import clean_flows
from iomt_ids.prepare.label import label_flows
from tests.builders import bronze


def test_every_class_gets_its_own_three_indices(spark):
    flows = bronze(spark, *[{"attack": a.name} for a in ATTACKS]).transform(label_flows)
    found = {r.attack: (r.attack_id, r.category_id, r.binary_id) for r in flows.collect()}
    assert found == {a.name: (a.id, CATEGORIES.index(a.category), int(a.category != "Benign")) for a in ATTACKS}


def test_a_flow_keeps_its_identity_and_shares_it_with_no_other(spark):
    flows = bronze(spark, *[{}] * 500)
    once, again = ([r.flow_id for r in flows.transform(label_flows).orderBy("source_line").collect()] for _ in range(2))
    assert once == again
    assert len(set(once)) == 500


@pytest.mark.parametrize(("iat", "is_clock"), [(0.01, False), (-1.28, False), (1.694e8, True), (8.5e7, True), (None, False)])
def test_a_clock_in_the_time_between_packets_is_flagged(spark, iat, is_clock):
    flagged = bronze(spark, {"iat_epoch_s": iat}).transform(clean_flows)
    assert flagged.select("has_sentinel_iat").collect()[0][0] is is_clock
    assert flagged.select(F.col("iat_epoch_s")).collect()[0][0] == iat
