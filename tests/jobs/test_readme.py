"""Every command of the README is run as it stands, with folders in place of DIR, and less work behind the long ones."""

import json
import re
from pathlib import Path

import pytest

from tests.jobs.conftest import ROOT, shell, smaller

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
INLINE = re.findall(r"`((?:make|\.venv/bin/iomt-ids) [^`]+)`", README)
FIRST, TESTS = "make run", "make test"
# What other tests go on with is run once.
SHARED = {"make run DATA=DIR": "retrained", "make run PROFILE=standalone": "retrained_on_cluster"}
OTHERS = sorted({*BLOCKS, *INLINE} - {FIRST, TESTS, "make bench-NAME"})


@pytest.fixture(scope="session")
def first():
    """The first command, as a newcomer types it."""
    done = shell(FIRST)
    assert done.status == 0, done.stderr
    return done


def test_the_first_command_ends_with_the_comparison_and_a_report(first):
    *text, _ = first.stdout.splitlines()
    outputs = first.told["outputs"]
    assert f"report: {outputs['report']}" == text[-1]
    scores = json.loads((ROOT / outputs["scores"]).read_text())
    learnt = {(e["detector"], e["task"], e["features"]) for e in scores["scores"]}
    for task in ("binary", "category", "attack"):
        assert {("random_forest", task, "leak_free"), ("random_forest", task, "all"), ("dense_net", task, "leak_free")} <= learnt
    assert len({task for detector, task, _ in learnt if detector == "gradient_boosted"}) >= 2
    for detector in ("random_forest", "dense_net", "gradient_boosted"):
        assert any(line.startswith(detector) for line in text)


def test_every_result_of_the_demo_says_that_its_data_is_synthetic(first):
    outputs = first.told["outputs"]
    assert "synthetic demo data" in first.stdout
    assert json.loads((ROOT / outputs["scores"]).read_text())["data"]["note"].startswith("synthetic demo data")
    assert "synthetic demo data" in (ROOT / outputs["report"]).read_text()


def test_the_demo_is_neither_trivial_nor_hopeless(first):
    scores = json.loads((ROOT / first.told["outputs"]["scores"]).read_text())["scores"]
    forest = {
        (e["task"], e["features"]): e["f1_macro"]
        for e in scores if (e["detector"], e["split"], e["scope"], e["counted"]) == ("random_forest", "test", "all", "rows")
    }
    assert 0.75 <= forest["attack", "leak_free"] <= 0.97
    assert forest["attack", "all"] > forest["attack", "leak_free"]


def test_the_second_command_is_what_ci_calls():
    assert BLOCKS[:2] == [FIRST, TESTS]
    assert TESTS in (ROOT / ".ci" / "run").read_text().splitlines()


# Some commands start a cluster or stop it: the fixture leaves none behind.
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("command", OTHERS)
def test_the_command_works(command, retrained, captures, tmp_path, request):
    typed = re.sub(r"\bDIR2?\b", str(captures), command).replace("DEMO", str(tmp_path / "demo"))
    typed = typed.replace("out/demo", str(retrained.home))
    shared = SHARED.get(command)
    done = request.getfixturevalue(shared) if shared else shell(smaller(typed, tmp_path / "out"))
    assert done.status == 0, done.stderr
    if "make run" in command or " submit " in command:
        assert all(Path(ROOT, path).exists() for path in done.told["outputs"].values())


def test_ranks_of_horovod_are_on_both_workers_of_the_cluster(retrained_on_cluster):
    scores = json.loads(Path(retrained_on_cluster.told["outputs"]["scores"]).read_text())
    facts = scores["models"]["dense_net-binary-leak_free"]["facts"]
    assert len(set(facts["executors"])) == 2
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
