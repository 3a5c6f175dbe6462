"""Features that tell of the windows before a row, from raw files to alerts."""

import json
from pathlib import Path

import numpy as np
import pytest

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import GOLD_ALERTS, GOLD_FEATURES
from iomt_ids.models import detectors
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import find_run, serve
from iomt_ids.runtime.tables import Warehouse
from jobs import build_features, evaluate_detector, retrain, score_flows
from tests.builders import ROOT

# One reads what sums the windows before a row up, the other the windows one by one.
_ASKED = ("random_forest", "sequence_net")


def test_a_served_model_that_tells_of_the_past_scores_new_flows_as_it_was_judged(spark, tmp_path):
    config = load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={tmp_path}", "data.demo_rows=10000", "features.set=past", "features.past_windows=6",
        *[f"train.detectors.{name}={'[attack]' if name in _ASKED else '[]'}" for name in detectors()],
        "train.compare_all_features={}", "models.random_forest={trees: 5}", "evaluate.bootstrap=100",
        "models.sequence_net={ranks: 1, units: 8, steps: 30, epochs_at_least: 1}",
    ])
    outcome = retrain.run(spark, config)
    content = json.loads(Path(outcome.outputs["scores"]).read_text())
    warehouse = Warehouse.of(config)
    test = warehouse.read(spark, GOLD_FEATURES).filter("split = 'test'").select("flow_id", "attack")
    for detector in _ASKED:
        judged = next(e for e in content["scores"] if (e["detector"], e["split"], e["scope"]) == (detector, "test", "all"))
        assert judged["features"] == "past"
        serve(config.home, find_run(config.home, outcome.run), f"{detector}-attack-past")
        assert score_flows.run(spark, config).rows["scored"] == 10_000
        told = warehouse.read(spark, GOLD_ALERTS).select("flow_id", "verdict")
        right = test.join(told, "flow_id").filter("attack = verdict").count()
        assert right == np.trace(judged["confusion"])

    # The same rows with another past are not what the model has learnt from.
    build_features.run(spark, config, past=3)
    with pytest.raises(ContractError, match="tell of 3 windows before them, the model has learnt from 6"):
        evaluate_detector.run(spark, config)
