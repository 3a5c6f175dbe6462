"""A process of its own with Spark and without our package, in which a saved model answers."""

import json
import os
import subprocess
import sys

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
model = KIND.load("file://" + sys.argv[1])
rows = np.load(sys.argv[2])
flows = spark.createDataFrame([(i, Vectors.dense(row)) for i, row in enumerate(rows.tolist())], ["id", "features"])
names = ["rawPrediction", "probability", "prediction"]
scored = model.transform(flows).orderBy("id").select(*names).collect()
raw, probability = (np.array([r[name].toArray() for r in scored]) for name in names[:2])
np.savez(sys.argv[3], rawPrediction=raw, probability=probability, prediction=[r.prediction for r in scored])
model.write().save("file://" + sys.argv[1] + "-again")
"""


def stock_spark(kind, model, rows, folder, then=""):
    """What ``kind.load(model)`` says about rows, by column, and the facts that ``then`` writes; saved again beside the model."""
    given, said, facts = (folder / f"{model.name}-{name}" for name in ("rows.npy", "said.npz", "facts.json"))
    np.save(given, rows)
    facts.write_text("{}")
    script = folder / "stock.py"
    script.write_text(_HIDE + _ANSWER.replace("KIND", kind.__name__) + then)
    quiet = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_SUBMIT_ARGS")}
    done = subprocess.run(
        [sys.executable, script, model, given, said, facts], cwd=folder, env=quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(said) as answers:
        return dict(answers), json.loads(facts.read_text())
