"""Every command of the README is run as it stands, with folders in place of DIR, and less work behind the long ones."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.jobs.conftest import ROOT, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
INLINE = re.findall(r"`((?:make|\.venv/bin/iomt-ids) [^`]+)`", README)
FIRST, TESTS, OWN_DATA = "make run", "make test", "make run DATA=DIR"
# Only the first command is proven in full; the others show that they work, on fewer rows and detectors.
LESS = [
    "data.demo_rows=10000", "evaluate.bootstrap=100", "train.compare_all_features={}", "train.detectors.random_forest=[]",
    "train.detectors.gradient_boosted=[]", "train.detectors.logistic_regression=[]", "train.detectors.decision_tree=[attack]",
    "train.detectors.dense_net=[]",
]
NET = "train.detectors.dense_net=[binary]"
OTHERS = sorted({*BLOCKS, *INLINE} - {FIRST, TESTS, "make bench-NAME"})


def shell(command: str, timeout: int = 900) -> subprocess.CompletedProcess[str]:
    # What is run here is not part of the make that may be running the tests.
    clean = {k: v for k, v in environment().items() if not k.startswith("MAKE") and k != "MFLAGS"}
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=clean, text=True, capture_output=True, check=False, timeout=timeout
    )


def told(done):
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", autouse=True)
def _no_cluster_is_left():
    """One of the commands starts a cluster, and the tests come in no order that would stop it."""
    yield
    assert shell(".venv/bin/iomt-ids cluster down").returncode == 0


@pytest.fixture(scope="session")
def first():
    """The first command, as a newcomer types it."""
    done = shell(FIRST)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder of captures in the official layout."""
    made = tmp_path_factory.mktemp("readme") / "captures"
    done = shell(f".venv/bin/iomt-ids demo {made} --rows 10000 --seed 3")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def captured(folder, tmp_path_factory):
    """The command for a folder of captures; what it trains and serves is smaller than the out/demo of the first command."""
    return shell(smaller(OWN_DATA.replace("DIR", str(folder)), tmp_path_factory.mktemp("captured")))


def test_the_first_command_ends_with_the_comparison_and_a_report(first):
    *text, _ = first.stdout.splitlines()
    outputs = told(first)["outputs"]
    assert f"report: {outputs['report']}" == text[-1]
    assert "synthetic demo data" in first.stdout
    scores = json.loads((ROOT / outputs["scores"]).read_text())
    learnt = {(e["detector"], e["task"], e["features"]) for e in scores["scores"]}
    for task in ("binary", "category", "attack"):
        assert {("random_forest", task, "leak_free"), ("random_forest", task, "all"), ("dense_net", task, "leak_free")} <= learnt
    assert len({task for detector, task, _ in learnt if detector == "gradient_boosted"}) >= 2
    for detector in ("random_forest", "dense_net", "gradient_boosted"):
        assert any(line.startswith(detector) for line in text)


def test_the_demo_is_neither_trivial_nor_hopeless(first):
    scores = json.loads((ROOT / told(first)["outputs"]["scores"]).read_text())["scores"]
    forest = {
        (e["task"], e["features"]): e["f1_macro"]
        for e in scores if (e["detector"], e["split"], e["scope"], e["counted"]) == ("random_forest", "test", "all", "rows")
    }
    assert 0.75 <= forest["attack", "leak_free"] <= 0.97
    assert forest["attack", "all"] > forest["attack", "leak_free"]


def test_the_second_command_is_what_ci_calls():
    assert BLOCKS[:2] == [FIRST, TESTS]
    assert TESTS in (ROOT / ".ci" / "run").read_text().splitlines()


def smaller(command: str, out: Path) -> str:
    """The command with less work and another folder to write to."""
    settings = [*LESS, f"output.folder={out}"]
    if "standalone" in command:
        settings.append(NET)
    if command.startswith("make run"):
        given = re.search(r' SET="([^"]*)"', command)
        bare = command.replace(given[0], "") if given else command
        return f'{bare} SET="{" ".join([given[1], *settings] if given else settings)}"'
    if " submit " in command:
        return " ".join([command, *(f"--set '{s}'" for s in settings)])
    return command


@pytest.mark.parametrize("command", OTHERS)
def test_the_command_works(command, captured, folder, tmp_path):
    assert captured.returncode == 0, captured.stderr
    home = Path(told(captured)["outputs"]["run"]).parents[1]
    typed = re.sub(r"\bDIR2?\b", str(folder), command).replace("DEMO", str(tmp_path / "demo")).replace("out/demo", str(home))
    done = captured if command == OWN_DATA else shell(smaller(typed, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    if "make run" in command or " submit " in command:
        assert all(Path(ROOT, path).exists() for path in told(done)["outputs"].values())
    if "standalone" in command:
        scores = json.loads(Path(told(done)["outputs"]["scores"]).read_text())
        facts = scores["models"]["dense_net-binary-leak_free"]["facts"]
        assert len(set(facts["executors"])) == 2, "Horovod's ranks are not on both workers"
        assert len(set(facts["weights_sha256"])) == 1


def test_scores_and_ceilings_are_measured_on_a_folder_as_a_run_is():
    for bench in ("quality", "ceiling"):
        done = shell(f"make --dry-run bench-{bench} DATA=../shared/data/ciciomt2024")
        assert done.stdout.splitlines()[-1].split()[-2:] == [f"benchmarks/{bench}.py", '"../shared/data/ciciomt2024"']
    given = shell('make --dry-run bench-quality SET="split.scheme=time features.set=past"').stdout.splitlines()[-1]
    assert given.split("quality.py")[1].split() == ["--set", '"split.scheme=time"', "--set", '"features.set=past"']
    assert shell("make --dry-run bench-forest DATA=DIR ARGS=9").stdout.splitlines()[-1].split("forest.py")[1].split() == ["9"]


def test_the_table_of_the_tree_names_folders_that_exist():
    for name in re.findall(r"^    (\w+)/ ", README.split("## The tree")[1], re.MULTILINE):
        assert (ROOT / name).is_dir(), name


def test_every_benchmark_is_in_the_table_and_every_row_has_its_file():
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert there == set(re.findall(r"^\| `(\w+)` \|", README.split("## Speed and size")[1], re.MULTILINE))
