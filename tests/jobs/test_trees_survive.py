"""Trees whose worker, or whose job, is killed while they grow end as if nobody had been."""

import contextlib
import os
import signal
import subprocess
import time

import psutil
import pytest

from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.models import detectors
from iomt_ids.prepare.features import fit_preparation
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import Run
from iomt_ids.runtime.tables import Warehouse
from jobs import train_detector
from tests.builders import ROOT, gold
from tests.jobs.conftest import command, environment

# Small trees, so many that there is time to kill between the first chunk and the last.
TREES = (
    *[f"train.detectors.{name}={'[attack]' if name in ('random_forest', 'gradient_boosted') else '[]'}" for name in detectors()],
    "train.compare_all_features={}", "models.random_forest={trees: 1600}", "models.gradient_boosted={rounds: 1600, patience: 0}",
)
CHUNKS = 16


@pytest.fixture(scope="module")
def settings(spark, tmp_path_factory):
    settings = (*TREES, f"output.folder={tmp_path_factory.mktemp('trees')}")
    config = load_config(ROOT / "conf" / "local.yaml", list(settings))
    flows = gold(spark, ["Benign", "DoS-TCP"], gap=0.3, rows=100)
    warehouse = Warehouse.of(config)
    warehouse.overwrite(flows, GOLD_FEATURES)
    warehouse.overwrite(fit_preparation(flows, feature_names("v1", "all")), GOLD_PREPARATION)
    return settings


def trained(spark, settings):
    """The run's id and the bytes of its models."""
    config = load_config(ROOT / "conf" / "local.yaml", list(settings))
    outcome = train_detector.run(spark, config)
    models = Run(outcome.run, config.home / "runs" / outcome.run, "", "train_detector").models()
    files = {m.name: {p.relative_to(m.folder): p.read_bytes() for p in m.folder.rglob("*") if p.is_file()} for m in models}
    return outcome.run, files


def chunks(home, kind, job):
    """Names of the chunks of a kind, as soon as there is one."""
    while not (found := [p.name for p in home.glob(f"runs/*/.checkpoints/*/{kind}-*")]):
        assert job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.005)
    return found


def kill_workers(job):
    """Kill Spark's Python workers, which its daemon has forked; how many there were."""
    killed = 0
    for process in psutil.Process(job.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that has just gone
            if "pyspark.worker" in process.parent().cmdline():
                process.kill()
                killed += 1
    return killed


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_driver_change_no_byte_of_the_models(spark, settings):
    home = load_config(ROOT / "conf" / "local.yaml", list(settings)).home
    # As on a cluster: a task may fail three times.
    asked = command("train_detector", *settings, "--spark-conf=spark.master=local[2,4]")
    job = subprocess.Popen(asked, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert len(chunks(home, "trees", job)) < CHUNKS
        assert kill_workers(job)
        assert len(chunks(home, "rounds", job)) < CHUNKS
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        said = job.communicate()[1]
    assert "trained random_forest" in said and "trained gradient_boosted" not in said
    (killed,) = (path.name for path in (home / "runs").iterdir())
    resumed, models = trained(spark, (*settings, "train.resume=true"))
    undisturbed, others = trained(spark, settings)
    assert resumed == killed != undisturbed
    assert set(models) == {"random_forest-attack-leak_free", "gradient_boosted-attack-leak_free"}
    assert models == others
