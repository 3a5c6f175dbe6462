import numpy as np
import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import TASKS, benign_labels, class_names
from iomt_ids.contract.tables import ALERTS
from iomt_ids.evaluate.alerts import name_verdicts
from iomt_ids.evaluate.hierarchy_counts import deepest_sure, sum_up
from iomt_ids.evaluate.score_counts import UNSEEN
from tests.builders import bronze, problem
from tests.evaluate.simulated import BENIGN, as_frame, counted, described, simulated


def placed(scored):
    """The rows, each somewhere: it does not matter where."""
    return scored.withColumns({
        "flow_id": F.monotonically_increasing_id(), "source_file": F.lit("a"), "source_line": F.lit(1).cast("long"),
        "device": F.lit(None).cast("string"), "protocol": F.lit("wifi_mqtt"),
    })


def test_an_alert_names_the_attack_and_its_probability(spark):
    flows = bronze(spark, {}, {}, {}).withColumns({
        "flow_id": F.col("source_line"),
        "prediction": F.array(F.lit(0), F.lit(16), F.lit(19))[(F.col("source_line") - 2).cast("int")],
    })
    odds = F.transform(F.sequence(F.lit(0), F.lit(20)), lambda i: F.when(i == F.col("prediction"), 0.75).otherwise(0.0125))
    alerts = name_verdicts(flows.withColumn("probability", odds), problem=problem("attack", range(21)), model="run/forest")
    assert [f.dataType for f in alerts.schema] == [f.dataType for f in ALERTS]
    found = [(r.verdict, r.probability, r.is_alert, r.model) for r in alerts.orderBy("source_line").collect()]
    assert found == [
        ("Benign", 0.75, False, "run/forest"), (class_names("attack")[16], 0.75, True, "run/forest"),
        ("Bluetooth-Benign", 0.75, False, "run/forest"),
    ]


def test_an_alert_stops_at_the_level_that_is_sure_as_it_was_judged(spark):
    least = [0.5, 1.0, 2.5]
    rows = simulated("attack", 400, seed=3, sharpness=0.6)
    wanted = deepest_sure(sum_up(rows["probability"], "attack"), least)
    scored = placed(as_frame(spark, "attack", rows))
    sure = {"levels": [{"log_odds": odds} for odds in least]}
    alerts = name_verdicts(scored.coalesce(1), problem=problem("attack", range(21)), model="run/forest", sure=sure)
    assert [f.dataType for f in alerts.schema] == [f.dataType for f in ALERTS]
    told = alerts.orderBy("flow_id").collect()
    assert [r.sure_level for r in told] == [(None, "binary", "category", "attack")[depth] for depth in wanted]
    known = {None: (None,)} | {task: class_names(task) for task in TASKS}
    for r in told:
        assert r.sure_verdict in known[r.sure_level]
        assert (r.sure_probability is None) == (r.sure_level is None)
        if r.sure_level == "attack":
            assert (r.sure_verdict, r.sure_probability) == (r.verdict, r.probability)
    never = {"levels": [{"log_odds": -1.0}, {"log_odds": None}, {"log_odds": None}]}
    found = name_verdicts(scored, problem=problem("attack", range(21)), model="run/forest", sure=never)
    assert {r.sure_level for r in found.select("sure_level").distinct().collect()} == {"binary"}


@pytest.mark.parametrize("task", ["binary", "attack"])
def test_what_reaches_the_chosen_threshold_is_an_alert_as_often_as_it_was_counted(spark, task):
    rows = simulated(task, 3000, seed=2)
    held_out = {**rows, "split": np.full(3000, UNSEEN.index("validation"))}
    operating = described(task, counted(task, held_out), budget=20_000)
    scored = placed(as_frame(spark, task, held_out))
    alerts = name_verdicts(scored, problem=problem(task, [0, 1]), model="run/forest", operating=operating).toArrow()
    raised, benign = alerts["is_alert"].to_numpy(), BENIGN[rows["attack"]]
    told = operating["false_alarms"]["validation"]
    assert (raised[benign].sum(), benign.sum()) == (told["alerts"], told["rows"])
    assert np.array_equal(raised, alerts["alarm"].to_numpy() >= operating["threshold"])
    assert set(alerts["threshold"].to_pylist()) == {operating["threshold"]}
    # The verdict stays the likeliest class: at so small a budget some of them raise no alert.
    is_attack = ~np.isin(np.array(alerts["verdict"].to_pylist()), [class_names(task)[i] for i in benign_labels(task)])
    assert (is_attack & ~raised).sum() > 100


def test_where_no_threshold_was_found_the_verdict_decides(spark):
    scored = placed(as_frame(spark, "binary", simulated("binary", 200)))
    found = {}
    for name, operating in (("never", {"threshold": None, "false_alarms": {"validation": {}}}),
                            ("unpicked", {"threshold": None, "false_alarms": {}}), ("none", None)):
        alerts = name_verdicts(scored, problem=problem("binary", [0, 1]), model="run/forest", operating=operating)
        found[name] = alerts.select("verdict", "threshold", "is_alert").collect()
    assert found["never"] == found["unpicked"] == found["none"]
    assert {(r.verdict, r.threshold, r.is_alert) for r in found["none"]} == {("Benign", None, False), ("Attack", None, True)}


def test_without_thresholds_nothing_is_told_of_levels(spark):
    scored = placed(as_frame(spark, "attack", simulated("attack", 5)))
    alerts = name_verdicts(scored, problem=problem("attack", range(21)), model="run/forest")
    assert [f.dataType for f in alerts.schema] == [f.dataType for f in ALERTS]
    assert {tuple(r) for r in alerts.select("sure_level", "sure_verdict", "sure_probability").collect()} == {(None, None, None)}
