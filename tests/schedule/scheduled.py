"""How each of the three schedulers reads its file, so that tests see what would be started."""

from __future__ import annotations

import ast
import shlex
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SCHEDULE = PROJECT / "conf" / "schedule"
GOLDEN = PROJECT / "tests" / "golden" / "schedule"
HOME, DATA = "/opt/iomt_ids", "/srv/iomt_ids/captures"


def golden(name: str) -> str:
    """The text of a golden file, without its last line end."""
    return (GOLDEN / f"{name}.expected").read_text(encoding="utf-8").removesuffix("\n")


def unit(name: str) -> dict[str, list[tuple[str, str]]]:
    """Sections of a systemd unit; a key may stand more than once, so each section is a list."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in (SCHEDULE / name).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), [])
        else:
            key, equals, value = line.partition("=")
            assert equals, f"{name}: {line!r} is neither a section nor key=value"
            section.append((key, value))
    return sections


def value_of(pairs: list[tuple[str, str]], key: str) -> str:
    """The value of a key that stands exactly once."""
    found = [value for name, value in pairs if name == key]
    assert len(found) == 1, f"{key} stands {len(found)} times"
    return found[0]


def systemd_line() -> str:
    """The line that systemd starts, as it is written."""
    return value_of(unit("iomt-ids-retrain.service")["Service"], "ExecStart")


def cron_lines() -> tuple[dict[str, str], list[str]]:
    """The variables that a crontab sets, and its jobs."""
    lines = [
        line for line in (SCHEDULE / "retrain.cron").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    jobs = [line for line in lines if line[0] in "0123456789*@"]
    return dict(line.split("=", 1) for line in lines if line not in jobs), jobs


def cron_job() -> tuple[str, str, str]:
    """Time, user and command of the one job."""
    _, (job,) = cron_lines()
    fields = job.split(None, 6)
    return " ".join(fields[:5]), fields[5], fields[6]


def airflow_line(home: str = HOME, data: str = DATA) -> str:
    """The line that the DAG hands to bash, read without Airflow."""
    tree = ast.parse((SCHEDULE / "airflow_retrain.py").read_text(encoding="utf-8"))
    (command,) = [
        node.value for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == ["COMMAND"]
    ]
    return ast.literal_eval(command).format(home=shlex.quote(home), data=shlex.quote(data))


def expand_as_systemd(line: str, variables: dict[str, str]) -> list[str]:
    """Arguments that systemd makes of a line: split at blanks first, so a blank in a variable splits nothing."""
    assert not set(line) & set("\"'\\%;"), "systemd gives these a meaning that this reader does not know"
    words = line.split()
    for name, value in variables.items():
        words = [word.replace("${" + name + "}", value) for word in words]
    assert "$" not in "".join(words), f"a variable without a value: {words}"
    return words


def arguments_of(line: list[str]) -> list[str]:
    """What `/usr/bin/env` hands on: its variables in order of name, then the program and its arguments."""
    assert line[0] == "/usr/bin/env"
    variables = [word for word in line[1:] if "=" in word.split("/")[0]][:3]
    return sorted(variables) + line[1 + len(variables):]


def recording_spark_submit(home: Path, status: int = 0) -> Path:
    """Put a spark-submit into `home` that writes what it was started with, one item a line."""
    record = home / "started.txt"
    program = home / ".venv" / "bin" / "spark-submit"
    program.parent.mkdir(parents=True)
    (home / "out").mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f"{{ env | grep -E '^(PYSPARK|SPARK)' | sort; printf '%s\\n' \"$0\" \"$@\"; }} > {shlex.quote(str(record))}\n"
        f"pwd > {shlex.quote(str(home / 'folder.txt'))}\n"
        f"env > {shlex.quote(str(home / 'environment.txt'))}\n"
        "echo a line of the job\n"
        f"exit {status}\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return record


def run_as_cron(home: Path, data: Path) -> subprocess.CompletedProcess[str]:
    """Run the crontab's command in the environment that cron gives it."""
    variables, _ = cron_lines()
    environment = {**variables, "IOMT_IDS_HOME": str(home), "IOMT_IDS_DATA": str(data), "HOME": "/"}
    return subprocess.run(
        [variables["SHELL"], "-c", cron_job()[2]], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
