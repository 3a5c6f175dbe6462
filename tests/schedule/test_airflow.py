"""The DAG, loaded and run by a real Airflow in its own environment (`make airflow-env`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.schedule import scheduled

_PYTHON = scheduled.PROJECT / ".venv-airflow" / "bin" / "python"


def _environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(folder), "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_FOLDER": str(scheduled.SCHEDULE),
        "PYTHONDONTWRITEBYTECODE": "1", **more,
    }


def _airflow(arguments: list[str], environment: dict[str, str]) -> str:
    if not _PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail("there is no .venv-airflow; run: make airflow-env")
        pytest.skip("there is no .venv-airflow; run: make airflow-env")
    done = subprocess.run(
        [str(_PYTHON), *arguments], env=environment, cwd=environment["HOME"], capture_output=True, text=True,
        timeout=300, check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def _probe(environment: dict[str, str], mode: str = "load") -> dict[str, Any]:
    program = str(Path(__file__).with_name("airflow_probe.py"))
    output = _airflow([program, str(scheduled.SCHEDULE), mode], environment)
    return json.loads(output.rpartition("\nPROBE ")[2])


def test_airflow_loads_the_dag_with_the_golden_line_and_the_hours_of_the_timer(tmp_path: Path) -> None:
    found = _probe(_environment(tmp_path, IOMT_IDS_HOME=scheduled.HOME, IOMT_IDS_DATA=scheduled.DATA))
    assert found["errors"] == {}
    assert found["dags"] == ["iomt_ids_retrain"]
    assert found["command"] == scheduled.golden("airflow")
    assert found["schedule"] == scheduled.cron_job()[0]
    assert (found["catchup"], found["max_active_runs"]) == (False, 1)
    assert (found["retries"], found["timeout_s"]) == (2, 6 * 3600)


def test_airflow_says_which_folder_is_not_set(tmp_path: Path) -> None:
    found = _probe(_environment(tmp_path, IOMT_IDS_HOME=scheduled.HOME))
    assert found["dags"] == []
    (error,) = found["errors"].values()
    assert "IOMT_IDS_DATA is not set" in error


def test_a_failing_job_fails_its_task(tmp_path: Path) -> None:
    scheduled.recording_spark_submit(tmp_path, status=2)
    found = _probe(_environment(tmp_path, IOMT_IDS_HOME=str(tmp_path), IOMT_IDS_DATA="x"), "execute")
    assert found["outcome"] == "AirflowException"


def test_airflow_starts_the_golden_arguments_and_keeps_its_secrets(tmp_path: Path) -> None:
    home, data = tmp_path / "pro ject", tmp_path / "da ta"
    record = scheduled.recording_spark_submit(home)
    environment = _environment(
        tmp_path, IOMT_IDS_HOME=str(home), IOMT_IDS_DATA=str(data),
        PYTHONPATH=str(tmp_path), SPARK_HOME="/another/spark",
    )
    _airflow(["-m", "airflow", "db", "migrate"], environment)
    _airflow(["-m", "airflow", "dags", "test", "iomt_ids_retrain"], environment)
    wanted = scheduled.golden("spark_submit").replace(scheduled.HOME, str(home)).replace(scheduled.DATA, str(data))
    assert record.read_text() == wanted + "\n"
    assert (home / "folder.txt").read_text() == f"{home}\n"
    seen = {line.partition("=")[0] for line in (home / "environment.txt").read_text().splitlines()}
    assert not seen & {"PYTHONPATH", "SPARK_HOME", "AIRFLOW_HOME", "AIRFLOW__CORE__DAGS_FOLDER", "IOMT_IDS_HOME"}
