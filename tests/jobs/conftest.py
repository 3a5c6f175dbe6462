"""Jobs as users start them: `iomt-ids submit` in a process of its own, on one machine or on a standalone cluster."""

import json
import os
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


@dataclass(frozen=True)
class Submitted:
    """What a job left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def told(self) -> dict[str, Any]:
        """The final line of JSON."""
        return json.loads(self.stdout.splitlines()[-1])


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
        done = subprocess.run(
            command(job, *settings, profile=profile), cwd=ROOT, env=environment(), text=True, capture_output=True, check=False,
            timeout=900,
        )
        return Submitted(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A standalone master and two workers, stopped afterwards unless they ran before."""
    iomt = [sys.executable, "-m", "iomt_ids.cli", "cluster"]
    ran = subprocess.run([*iomt, "status"], cwd=ROOT, env=environment(), check=False, capture_output=True).returncode == 0
    subprocess.run([*iomt, "up"], cwd=ROOT, env=environment(), check=True, capture_output=True)
    yield
    if not ran:
        subprocess.run([*iomt, "down"], cwd=ROOT, env=environment(), check=True, capture_output=True)
