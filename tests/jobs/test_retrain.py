"""The nightly run: a gate, a pointer, and nothing lost when a process dies."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.tables import Warehouse
from jobs import retrain, score_flows
from tests.jobs.conftest import ROOT, SMALL, command, environment

TREE = ("train.detectors={decision_tree: [attack]}", "train.compare_all_features={}")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("nights") / "demo"


@pytest.fixture(scope="module")
def night(spark, home):
    """One retraining in this process."""

    def run(*settings, job=retrain):
        config = load_config(ROOT / "conf" / "local.yaml", [*SMALL, *TREE, f"output.folder={home.parent}", *settings])
        return job.run(spark, config)

    return run


@pytest.fixture(scope="module")
def first(night):
    return night()


def served(home):
    return json.loads((home / "served.json").read_text())["run"]


def test_the_first_model_is_served(first, home):
    assert served(home) == first.run
    assert first.facts["gate"]["reason"].endswith("no model was served before")


def test_the_record_says_what_is_needed_to_repeat_the_run(first, home):
    record = json.loads((home / "runs" / first.run / "run.json").read_text())
    assert record["config"]["seed"] == 7
    assert record["versions"]["pyspark"] and record["versions"]["java"]
    assert record["rows"] == {"in": 10000, "out": 10000, "rejected": 0}
    assert record["gate"]["promote"] is True


def test_a_worse_model_does_not_replace_the_served_one(first, night, home):
    worse = night("models.decision_tree.depth=1")
    assert worse.facts["gate"]["promote"] is False
    assert "is worse than the served" in worse.facts["gate"]["reason"]
    assert served(home) == first.run


def test_flows_are_scored_by_the_served_model_of_other_data(first, night, home, tmp_path):
    scored = night(f"serve.home={home}", f"output.folder={tmp_path}", job=score_flows)
    assert scored.run == served(home)
    assert scored.rows["scored"] == 10000


def test_a_model_of_another_split_is_for_comparison_and_the_ledger_has_both(first, night, home):
    before = served(home)
    other = night("split.scheme=random")
    assert other.facts["gate"]["promote"] is False
    assert "split.scheme=random are for comparison" in other.facts["gate"]["reason"]
    assert served(home) == before
    content = json.loads(Path(other.outputs["scores"]).read_text())
    assert {r["scheme"] for r in content["ledger"]["rows"]} == {"random", "official"}
    assert content["splits"]["in_force"] == "random, test 0.2, salt iomt_ids"
    assert {e["scrambled"] for e in content["time_to_detect"]} != {0}


@pytest.mark.slow
def test_a_night_that_is_killed_loses_nothing_and_the_next_one_runs_and_goes_on_if_asked(first, night, home, tmp_path):
    before, runs = served(home), {p.name for p in (home / "runs").iterdir()}
    job = subprocess.Popen(
        command("retrain", *SMALL, *TREE, f"output.folder={home.parent}"), cwd=ROOT, env=environment(),
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )
    assert job.stderr is not None
    assert any("training decision_tree" in line for line in job.stderr), "the job ended before it trained"
    second = subprocess.run(
        command("retrain", *SMALL, *TREE, f"output.folder={home.parent}"), cwd=ROOT, env=environment(),
        capture_output=True, text=True, check=False,
    )
    assert second.returncode == 2 and "already holds" in second.stderr
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    job.stderr.close()
    time.sleep(1)
    assert served(home) == before
    new = {p.name for p in (home / "runs").iterdir()} - runs
    assert all(not Path(home / "runs" / name / "run.json").exists() for name in new)
    after = subprocess.run(
        command("score_flows", *SMALL, f"output.folder={home.parent}"), cwd=ROOT, env=environment(), capture_output=True, text=True,
        check=False,
    )
    assert after.returncode == 0, after.stderr
    assert json.loads(after.stdout.splitlines()[-1])["run"] == before
    tables = list(Warehouse(home / "warehouse", "delta").versions())
    # The same night again: the same tables, a model that is not worse.
    again = night("train.resume=true")
    assert {again.run} == new and (home / "runs" / again.run / "run.json").exists()
    assert again.facts["gate"]["promote"] is True and served(home) == again.run
    assert again.rows == first.rows
    assert list(Warehouse(home / "warehouse", "delta").versions()) == tables
