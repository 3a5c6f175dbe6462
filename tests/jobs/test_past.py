"""Features that tell of the windows before a row, from raw files to alerts."""

import json
from pathlib import Path

import numpy as np
import pytest

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import GOLD_ALERTS, GOLD_FEATURES
from iomt_ids.models import detectors
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.tables import Warehouse
from jobs import build_features, evaluate_detector, retrain, score_flows
from tests.builders import ROOT


def test_a_served_model_that_tells_of_the_past_scores_new_flows_as_it_was_judged(spark, tmp_path):
    config = load_config(ROOT / "conf" / "local.yaml", [
        f"output.folder={tmp_path}", "data.demo_rows=10000", "features.set=past", "features.past_windows=6",
        *[f"train.detectors.{name}={'[attack]' if name == 'random_forest' else '[]'}" for name in detectors()],
        "train.compare_all_features={}", "models.random_forest={trees: 5}", "evaluate.bootstrap=100",
    ])
    outcome = retrain.run(spark, config)
    content = json.loads(Path(outcome.outputs["scores"]).read_text())
    judged = next(e for e in content["scores"] if (e["features"], e["split"], e["scope"]) == ("past", "test", "all"))
    scored = score_flows.run(spark, config)
    assert scored.rows["scored"] == 10_000

    warehouse = Warehouse.of(config)
    test = warehouse.read(spark, GOLD_FEATURES).filter("split = 'test'").select("flow_id", "attack")
    told = warehouse.read(spark, GOLD_ALERTS).select("flow_id", "verdict")
    right = test.join(told, "flow_id").filter("attack = verdict").count()
    assert right == np.trace(judged["confusion"])

    # The same rows with another past are not what the model has learnt from.
    build_features.run(spark, config, past=3)
    with pytest.raises(ContractError, match="tell of 3 windows before them, the model has learnt from 6"):
        evaluate_detector.run(spark, config)
