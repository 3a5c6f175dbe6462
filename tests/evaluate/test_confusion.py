import pytest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import PREDICTIONS
from iomt_ids.evaluate.confusion import confusion_matrix, count_predictions
from iomt_ids.evaluate.scores import Tally, accuracy, f1_weighted, recall_weighted


@pytest.fixture(scope="module")
def predictions(spark):
    rows = [
        (i % 3, (i * 7 % 11) % 3, "test" if i % 5 else "profile", "bluetooth" if i % 4 == 0 else "wifi_mqtt",
         None if i % 2 else "Ring", 1)
        for i in range(500)
    ]
    return spark.createDataFrame(rows, PREDICTIONS)


def test_every_row_is_counted_once(predictions):
    counts = count_predictions(predictions)
    assert sum(c.rows for c in counts) == 500
    by_hand = predictions.filter("split = 'test' and label = 1 and prediction = 2 and protocol = 'bluetooth'").count()
    assert confusion_matrix(counts, classes=3, split="test", scope="bluetooth")[1, 2] == by_hand


def test_a_row_counts_for_its_copies_or_once_for_its_vector(spark):
    rows = [(0, 1, "test", "wifi_mqtt", None, 7), (0, 1, "test", "wifi_mqtt", None, 0), (0, 1, "test", "wifi_mqtt", None, 1)]
    counts = count_predictions(spark.createDataFrame(rows, PREDICTIONS))
    assert confusion_matrix(counts, classes=2, split="test")[0, 1] == 8
    assert confusion_matrix(counts, classes=2, split="test", counted="distinct")[0, 1] == 2


def test_protocols_add_up_to_all(predictions):
    counts = count_predictions(predictions)
    parts = [confusion_matrix(counts, classes=3, split="test", scope=scope) for scope in ("wifi_mqtt", "bluetooth")]
    assert (sum(parts) == confusion_matrix(counts, classes=3, split="test")).all()


def test_scores_of_the_counts_equal_sparks_own(predictions):
    tally = Tally(confusion_matrix(count_predictions(predictions), classes=3, split="test"), (0,))
    doubles = predictions.filter("split = 'test'").select(F.col("label").cast("double"), F.col("prediction").cast("double"))
    for name, metric in {"accuracy": accuracy, "f1": f1_weighted, "weightedRecall": recall_weighted}.items():
        theirs = MulticlassClassificationEvaluator(metricName=name).evaluate(doubles)
        assert metric(tally) == pytest.approx(theirs, abs=1e-12)


def test_predictions_without_a_protocol_column_are_refused_by_name(predictions):
    with pytest.raises(ContractError, match="into count_predictions: column 'protocol' is missing"):
        count_predictions(predictions.drop("protocol"))
