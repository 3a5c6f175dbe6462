"""Jobs as users start them, in a process of their own, on one machine or on a standalone cluster: `iomt-ids submit`, `make run`."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Smaller than the demo of `make run`, large enough for every class in every split.
SMALL = ("data.demo_rows=10000", "evaluate.bootstrap=100")
# Learnt by commands of the README of which only the first is proven in full.
LESS = (
    *SMALL, "train.compare_all_features={}", "train.detectors.random_forest=[attack]", "train.detectors.gradient_boosted=[]",
    "train.detectors.logistic_regression=[]", "train.detectors.decision_tree=[binary]", "train.detectors.dense_net=[]",
)
# And on the cluster, where Horovod's ranks are on executors.
NET = "train.detectors.dense_net=[binary]"


@dataclass(frozen=True)
class Submitted:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def told(self) -> dict[str, Any]:
        """The final line of JSON."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def home(self) -> Path:
        """The folder of the data, of a job that has made a run."""
        return Path(self.told["outputs"]["run"]).parents[1]


def command(job: str, *settings: str, profile: str = "local") -> list[str]:
    """The user's command line, with the Python that runs the tests; a setting that starts with -- is an option."""
    assignments = [word for s in settings for word in ([s] if s.startswith("--") else ["--set", s])]
    return [sys.executable, "-m", "iomt_ids.cli", "submit", job, "--profile", profile, *assignments]


def environment() -> dict[str, str]:
    """The caller's own, without what the session of the tests has set."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}


@pytest.fixture(scope="session")
def submit() -> Callable[..., Submitted]:
    """Run a job to its end."""

    def run(job: str, *settings: str, profile: str = "local") -> Submitted:
        return shell(shlex.join(command(job, *settings, profile=profile)))

    return run


def shell(command: str, timeout: int = 900) -> Submitted:
    """Run a line as it is typed; what is run is not part of the make that may be running the tests."""
    clean = {k: v for k, v in environment().items() if not k.startswith("MAKE") and k != "MFLAGS"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=clean, text=True, capture_output=True, check=False, timeout=timeout
    )
    return Submitted(done.returncode, done.stdout, done.stderr)


def smaller(command: str, out: Path, *settings: str) -> str:
    """The command with less work and another folder to write to."""
    wanted = [*LESS, *settings, f"output.folder={out}"]
    if command.startswith("make run"):
        given = re.search(r' SET="([^"]*)"', command)
        bare = command.replace(given[0], "") if given else command
        return f'{bare} SET="{" ".join([given[1], *wanted] if given else wanted)}"'
    if " submit " in command:
        return " ".join([command, *(f"--set '{s}'" for s in wanted)])
    return command


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captures in the official layout."""
    made = tmp_path_factory.mktemp("captures") / "captures"
    done = shell(f".venv/bin/iomt-ids demo {made} --rows 10000 --seed 3")
    assert done.status == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def retrained(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """The README's command for captures of one's own: what it has learnt and serves is what other commands and jobs go on with."""
    done = shell(smaller(f"make run DATA={captures}", tmp_path_factory.mktemp("retrained")))
    assert done.status == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A standalone master and two workers, stopped when all tests end unless they ran before."""
    done = shell(".venv/bin/iomt-ids cluster up")
    assert done.status == 0, done.stderr
    yield
    if done.stdout.startswith("cluster started"):
        assert shell(".venv/bin/iomt-ids cluster down").status == 0


@pytest.fixture(scope="session")
def retrained_on_cluster(captures: Path, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """The README's command for a standalone cluster, on the same captures."""
    out = tmp_path_factory.mktemp("on-cluster")
    done = shell(smaller("make run PROFILE=standalone", out, NET, f"data.raw={captures}"))
    assert done.status == 0, done.stderr
    return done
