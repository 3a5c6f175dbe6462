"""The rules of who may do what, and that each of them fails when it is broken."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("runtime", "ingest", "prepare", "models", "evaluate", "demo", "distributed", "contract")

# What only `runtime` may use, as it is written in the source.
OUTSIDE_WORLD = {
    "os.environ": "the environment",
    "os.getenv": "the environment",
    "datetime.now": "the clock",
    "datetime.utcnow": "the clock",
    "datetime.today": "the clock",
    "datetime.datetime.now": "the clock",
    "date.today": "the clock",
    "time.time": "the clock",
    "SparkSession.builder": "a session of its own",
}
# Ranks are told who they are through the environment: Horovod reads nothing else.
MAY_USE_ENVIRONMENT = ("lib/iomt_ids/distributed/launch.py", "lib/iomt_ids/distributed/worker.py")


def broken_rules(source: str, path: str) -> Iterator[str]:
    """What a file does that only another room may do; `path` is relative to the project."""
    tree = ast.parse(source)
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] in ("tensorflow", "keras", "horovod"):
                yield f"{path}:{node.lineno}: {name} is imported at the top; inside the function that needs it"
    if path.startswith("lib/iomt_ids/runtime/"):
        return
    for node in ast.walk(tree):
        written = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if written in OUTSIDE_WORLD and not (written == "os.environ" and path in MAY_USE_ENVIRONMENT):
            yield f"{path}:{node.lineno}: {written} is {OUTSIDE_WORLD[written]}; only runtime may"
        if isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name == "environ" for a in node.names):
            yield f"{path}:{node.lineno}: environ is the environment; only runtime may"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            yield f"{path}:{node.lineno}: open() touches the disk; only runtime may"


def our_files() -> list[Path]:
    return sorted([*(ROOT / "lib").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])


def test_only_runtime_touches_disk_clock_environment_and_session() -> None:
    found = [
        rule for path in our_files()
        for rule in broken_rules(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nx = os.environ['HOME']",
        "import os\nx = os.getenv('HOME')",
        "from os import environ",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.now(datetime.UTC)",
        "import time\nx = time.time()",
        "from pyspark.sql import SparkSession\nx = SparkSession.builder.getOrCreate()",
        "def f(p):\n    with open(p) as h:\n        return h.read()",
        "import tensorflow as tf",
        "from horovod.tensorflow import allreduce",
    ],
)
def test_each_rule_fails_when_it_is_broken(source: str) -> None:
    assert list(broken_rules(source, "lib/iomt_ids/prepare/clean.py"))


def test_runtime_and_the_launcher_may_do_what_they_are_for() -> None:
    source = "import os\nx = os.environ['HOME']"
    assert not list(broken_rules(source, "lib/iomt_ids/runtime/place.py"))
    assert not list(broken_rules(source, MAY_USE_ENVIRONMENT[0]))
    assert list(broken_rules("import tensorflow", "lib/iomt_ids/distributed/worker.py"))


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("print('x')\n", "T201"),
        ("from . import clean\n", "TID252"),
        ("from pyspark.sql.functions import udf\n", "TID251"),
        ("from pyspark.sql import functions as F\n\nx = F.udf\n", "TID251"),
        ("from pyspark.sql import functions as fn\n", "ICN001"),
        ("from datetime import datetime\n\nx = datetime.now()\n", "DTZ005"),
        ("def f(x=[]):\n    return x\n", "B006"),
    ],
)
def test_the_linter_refuses(source: str, rule: str) -> None:
    command = [
        sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise",
        "--stdin-filename", "lib/iomt_ids/prepare/clean.py", "-",
    ]
    answer = subprocess.run(command, input=source, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.returncode == 1
    assert f" {rule} " in answer.stdout


def a_tree(folder: Path, **imports: str) -> None:
    """The rooms, empty but for one import each where asked for; `jobs` and `cli` are on top."""
    for room in ROOMS:
        package = folder / "iomt_ids" / room
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(imports.get(room, "") + "\n", encoding="utf-8")
    (folder / "iomt_ids" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "iomt_ids" / "cli.py").write_text(imports.get("cli", "") + "\n", encoding="utf-8")
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").write_text(imports.get("jobs", "") + "\n", encoding="utf-8")


def import_rules_pass(folder: Path) -> bool:
    lint_imports = Path(sys.executable).parent / "lint-imports"
    command = [str(lint_imports), "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode == 0


def test_a_room_may_import_what_is_below_it(tmp_path: Path) -> None:
    a_tree(
        tmp_path,
        jobs="import iomt_ids.runtime, iomt_ids.models", cli="import iomt_ids.runtime, iomt_ids.demo",
        models="import iomt_ids.distributed, iomt_ids.contract", distributed="import iomt_ids.contract, tensorflow",
    )
    assert import_rules_pass(tmp_path)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("contract", "import iomt_ids.runtime"),
        ("contract", "import pandas"),
        ("distributed", "import iomt_ids.models"),
        ("models", "import iomt_ids.runtime"),
        ("evaluate", "import iomt_ids.models"),
        ("prepare", "import jobs"),
        ("runtime", "import iomt_ids.cli"),
        ("jobs", "import iomt_ids.cli"),
        ("models", "import tensorflow"),
        ("jobs", "import horovod"),
    ],
)
def test_a_room_may_not_import_what_is_beside_or_above_it(tmp_path: Path, room: str, line: str) -> None:
    a_tree(tmp_path, **{room: line})
    assert not import_rules_pass(tmp_path)
