"""The same spark-submit line, three ways."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.schedule import scheduled

_SECONDS = {"s": 1, "min": 60, "h": 3600}

# Every directive we use, from systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5),
# systemd.resource-control(5) and systemd.timer(5). systemd warns of a misspelt one and goes on without it.
_DIRECTIVES = {
    "Unit": {"Description", "StartLimitIntervalSec", "StartLimitBurst"},
    "Install": {"WantedBy"},
    "Timer": {"Unit", "OnCalendar", "Persistent", "RandomizedDelaySec", "FixedRandomDelay"},
    "Service": {
        "Type", "User", "Group", "Environment", "WorkingDirectory", "ExecStart", "Restart", "RestartSec",
        "RestartPreventExitStatus", "TimeoutStartSec", "Nice", "IOSchedulingClass", "MemoryMax", "MemorySwapMax",
        "TasksMax", "NoNewPrivileges", "ProtectSystem", "ReadWritePaths", "ProtectHome", "PrivateTmp",
        "PrivateDevices", "CapabilityBoundingSet", "AmbientCapabilities", "UMask", "LockPersonality", "ProtectClock",
        "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
        "ProtectKernelTunables", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
        "RestrictAddressFamilies", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber",
    },
}


def _environment(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return dict(value.split("=", 1) for key, value in pairs if key == "Environment")


def _seconds(span: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|min|h)", span).groups()
    return int(number) * _SECONDS[unit]


def _systemd_arguments() -> list[str]:
    service = scheduled.unit("iomt-ids-retrain.service")["Service"]
    return scheduled.arguments_of(scheduled.expand_as_systemd(scheduled.systemd_line(), _environment(service)))


def test_the_systemd_line_is_the_golden_one() -> None:
    assert scheduled.systemd_line() == scheduled.golden("systemd")


def test_the_cron_line_is_the_golden_one() -> None:
    _, jobs = scheduled.cron_lines()
    assert jobs == [scheduled.golden("cron")]


def test_the_airflow_line_is_the_golden_one() -> None:
    assert scheduled.airflow_line() == scheduled.golden("airflow")


def test_systemd_starts_the_golden_arguments() -> None:
    assert _systemd_arguments() == scheduled.golden("spark_submit").splitlines()


def test_airflow_starts_the_golden_arguments() -> None:
    line = shlex.split(scheduled.airflow_line())
    assert scheduled.arguments_of(line) == scheduled.golden("spark_submit").splitlines()


def test_cron_starts_the_golden_arguments_in_the_projects_folder(tmp_path: Path) -> None:
    home, data = tmp_path / "pro ject", tmp_path / "da ta"
    record = scheduled.recording_spark_submit(home)
    done = scheduled.run_as_cron(home, data)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wanted = scheduled.golden("spark_submit").replace(scheduled.HOME, str(home)).replace(scheduled.DATA, str(data))
    assert record.read_text() == wanted + "\n"
    assert (home / "folder.txt").read_text() == f"{home}\n"
    assert (home / "out" / "retrain.log").read_text() == "a line of the job\n"


def test_cron_mails_one_line_with_the_status_of_a_failure(tmp_path: Path) -> None:
    scheduled.recording_spark_submit(tmp_path, status=2)
    done = scheduled.run_as_cron(tmp_path, tmp_path)
    assert done.stdout == f"retraining failed with exit status 2; see {tmp_path}/out/retrain.log\n"
    assert done.stderr == ""


def test_the_crontab_is_one_that_cron_accepts() -> None:
    text = (scheduled.SCHEDULE / "retrain.cron").read_text()
    assert text.endswith("\n"), "cron ignores a last line that does not end"
    variables, (job,) = scheduled.cron_lines()
    assert variables["IOMT_IDS_HOME"] == scheduled.HOME
    assert variables["IOMT_IDS_DATA"] == scheduled.DATA
    assert "%" not in job, "cron makes a line end of a per cent sign"
    assert not any("$" in value for value in variables.values()), "cron expands no variable there"
    assert scheduled.cron_job()[:2] == ("30 3 * * *", "iomt_ids")


@pytest.mark.parametrize("name", ["iomt-ids-retrain.service", "iomt-ids-retrain.timer"])
def test_every_directive_of_a_unit_is_one_that_systemd_knows(name: str) -> None:
    for section, pairs in scheduled.unit(name).items():
        assert {key for key, _ in pairs} <= _DIRECTIVES[section], f"{name} [{section}]"


def test_the_service_runs_in_the_folder_it_names() -> None:
    service = scheduled.unit("iomt-ids-retrain.service")["Service"]
    assert scheduled.value_of(service, "WorkingDirectory") == scheduled.HOME
    assert scheduled.value_of(service, "ReadWritePaths") == f"{scheduled.HOME}/out"
    assert scheduled.value_of(service, "User") == scheduled.cron_job()[1]


def test_an_error_that_the_job_foresaw_is_not_tried_again() -> None:
    service = scheduled.unit("iomt-ids-retrain.service")["Service"]
    assert scheduled.value_of(service, "Type") == "oneshot"
    assert scheduled.value_of(service, "Restart") == "on-failure"
    assert scheduled.value_of(service, "RestartPreventExitStatus") == "2"


def test_three_failures_of_one_night_do_not_use_up_the_next_nights_start() -> None:
    sections = scheduled.unit("iomt-ids-retrain.service")
    burst = int(scheduled.value_of(sections["Unit"], "StartLimitBurst"))
    interval = _seconds(scheduled.value_of(sections["Unit"], "StartLimitIntervalSec"))
    longest = _seconds(scheduled.value_of(sections["Service"], "TimeoutStartSec"))
    pause = _seconds(scheduled.value_of(sections["Service"], "RestartSec"))
    # A night is 23 h after the last one when clocks change.
    assert burst * (longest + pause) < interval < 23 * 3600


def test_the_timer_starts_the_service_when_cron_and_airflow_do() -> None:
    timer = scheduled.unit("iomt-ids-retrain.timer")
    assert (scheduled.SCHEDULE / scheduled.value_of(timer["Timer"], "Unit")).exists()
    assert scheduled.value_of(timer["Timer"], "OnCalendar") == "*-*-* 03:30:00"
    assert scheduled.value_of(timer["Install"], "WantedBy") == "timers.target"
    assert 'schedule="30 3 * * *"' in (scheduled.SCHEDULE / "airflow_retrain.py").read_text()
    assert scheduled.cron_job()[0] == "30 3 * * *"


def test_the_line_names_files_that_the_project_has() -> None:
    names = [word for word in scheduled.golden("spark_submit").split() if word.startswith(f"{scheduled.HOME}/")]
    committed = [name.removeprefix(f"{scheduled.HOME}/") for name in names]
    made = [name for name in committed if name.startswith((".venv/", "dist/"))]
    assert made == [".venv/bin/spark-submit", "dist/iomt_ids.zip"]
    for name in set(committed) - set(made):
        assert (scheduled.PROJECT / name).is_file(), name


def test_iomt_ids_submit_prints_the_golden_arguments() -> None:
    command = [sys.executable, "-m", "iomt_ids.cli", "submit", "retrain", "--profile", "local",
               "--set", f"data.raw={scheduled.DATA}", "--dry-run"]
    done = subprocess.run(command, cwd=scheduled.PROJECT, capture_output=True, text=True, check=True)
    words = shlex.split(done.stdout.splitlines()[-1])
    # It also takes away, or sets, what a user's own shell may have wrong; a scheduler's environment has nothing of it.
    while "-u" in words:
        del words[words.index("-u"):words.index("-u") + 2]
    words = [word for word in words if not word.startswith("JAVA_HOME=")]
    here = {
        sys.executable: f"{scheduled.HOME}/.venv/bin/python",
        str(Path(sys.executable).parent): f"{scheduled.HOME}/.venv/bin",
        str(scheduled.PROJECT): scheduled.HOME,
    }
    for actual, there in here.items():
        words = [word.replace(actual, there) for word in words]
    assert scheduled.arguments_of(words) == scheduled.golden("spark_submit").splitlines()
