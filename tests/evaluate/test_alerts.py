from pyspark.sql import functions as F

from iomt_ids.contract.attacks import class_names
from iomt_ids.contract.tables import ALERTS
from iomt_ids.evaluate.alerts import name_verdicts
from tests.builders import bronze, problem


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
