"""What MLlib itself says of a model that we also score; in a process of its own, with Spark and without our package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

# -P and -S alone would not do: the editable install of our package is a path file of the environment.
_HIDE = """
import sys
sys.path[:] = [p for p in sys.path if 'iomt' not in p and not p.rstrip('/').endswith('/lib')]
sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in repr(f)]
try:
    import iomt_ids
    sys.exit("our package is on the path")
except ImportError:
    pass
"""
_ANSWER = """
import json
import numpy as np
from pyspark.ml.classification import KIND
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = np.load("rows.npy")
flows = spark.createDataFrame([(i, Vectors.dense(row)) for i, row in enumerate(rows.tolist())], ["id", "features"]).cache()
names = ["rawPrediction", "probability", "prediction"]
for folder in sys.argv[1:]:
    model = KIND.load("file://" + folder)
    scored = model.transform(flows).orderBy("id").select(*names).collect()
    raw, probability = (np.array([r[name].toArray() for r in scored]) for name in names[:2])
    np.savez(folder + "-said.npz", rawPrediction=raw, probability=probability, prediction=[r.prediction for r in scored])
    open(folder + "-facts.json", "w").write(json.dumps(FACTS))
    model.write().save("file://" + folder + "-again")
"""


def stock_spark(kind, models, rows, folder, facts):
    """What each ``kind.load(model)`` says about rows, by column, and its facts; each is saved again beside itself."""
    np.save(folder / "rows.npy", rows)
    script = folder / "stock.py"
    script.write_text(_HIDE + _ANSWER.replace("KIND", kind.__name__).replace("FACTS", facts))
    quiet = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_SUBMIT_ARGS")}
    done = subprocess.run([sys.executable, script, *models], cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for model in models:
        with np.load(f"{model}-said.npz") as answers:
            found.append((dict(answers), json.loads(Path(f"{model}-facts.json").read_text())))
    return found


def require_same_verdicts(theirs, ours, flows):
    """Two fitted detectors say the same of every row, probabilities to 1e-12."""
    before, after = (m.transform(flows).orderBy("flow_id").select("prediction", "probability").collect() for m in (theirs, ours))
    assert [r.prediction for r in before] == [r.prediction for r in after]
    assert np.abs(np.array([r.probability for r in before]) - np.array([r.probability for r in after])).max() <= 1e-12
