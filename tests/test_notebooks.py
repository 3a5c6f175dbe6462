"""Notebooks look and explain: they define nothing, are stripped of output, and run on what a run leaves."""

from __future__ import annotations

import ast
import asyncio
import re
import warnings
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from iomt_ids.contract.flows import feature_names
from iomt_ids.contract.problem import Problem, Scaling
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import describe_run, start_run
from jobs import ingest_flows, refine_flows
from tests.evaluate.scores_sample import sample_scores

_PROJECT = Path(__file__).resolve().parents[1]
_NOTEBOOKS = sorted((_PROJECT / "notebooks").glob("*.ipynb"))
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _opened(name: str | Path) -> nbformat.NotebookNode:
    return nbformat.read(_PROJECT / "notebooks" / name, as_version=4)


def _code(notebook: nbformat.NotebookNode) -> list[str]:
    """Code cells without the lines that only IPython understands."""
    cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["\n".join(line for line in cell.splitlines() if not line.startswith(("%", "!"))) for cell in cells]


def _run(name: str, home: Path) -> list[nbformat.NotebookNode]:
    """Execute a notebook on a folder; the outputs of all cells."""
    notebook = _opened(name)
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"], changed = re.subn(r'^HOME = "out/demo"', f"HOME = {str(home)!r}", first["source"])
    assert changed == 1, "the first code cell holds the parameters"
    with warnings.catch_warnings(), asyncio.Runner():
        warnings.simplefilter("ignore")
        here = {"metadata": {"path": str(_PROJECT)}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=here).execute()
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def _pictures(outputs: list[nbformat.NotebookNode]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def _text(outputs: list[nbformat.NotebookNode]) -> str:
    said = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join(said)


def test_there_are_notebooks() -> None:
    assert [path.name for path in _NOTEBOOKS] == ["01_look_at_the_flows.ipynb", "02_compare_detectors.ipynb"]


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stripped_of_output(path: Path) -> None:
    notebook = _opened(path)
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert set(notebook["metadata"]["language_info"]) == {"name"}, "a version would change with every reader"


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_defines_nothing_and_imports_lib(path: Path) -> None:
    trees = [ast.parse(code) for code in _code(_opened(path))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assert [ast.unparse(node)[:60] for node in nodes if isinstance(node, _DEFINES)] == []
    imported = {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    assert "iomt_ids" in imported


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_explains_before_it_shows(path: Path) -> None:
    kinds = [cell["cell_type"] for cell in _opened(path)["cells"]]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") >= 5


def test_looking_at_the_flows_runs_on_the_tables_of_a_run(spark: SparkSession, tmp_path: Path) -> None:
    settings = (f"output.folder={tmp_path}", "data.demo_rows=10000")
    config = load_config(_PROJECT / "conf" / "local.yaml", settings)
    ingest_flows.run(spark, config)
    refine_flows.run(spark, config)
    outputs = _run("01_look_at_the_flows.ipynb", config.home)
    assert _pictures(outputs) == 4
    said = _text(outputs)
    for name in ("Benign", "DDoS-UDP", "Bluetooth-DoS", "iat_epoch_s: a disguised clock"):
        assert name in said


def test_comparing_detectors_runs_on_the_scores_of_a_run(tmp_path: Path) -> None:
    features = feature_names("v1", "leak_free")
    problem = Problem("attack", features, "leak_free", (0, 1), tuple(Scaling(f, 0.0, 1.0) for f in features))
    run = start_run(tmp_path, "retrain")
    run.save_model("random_forest-attack-leak_free", "random_forest", problem, lambda folder: None, {})
    run.write("scores.json", sample_scores())
    run.finish(describe_run(run, load_config(_PROJECT / "conf" / "local.yaml"), versions={}))
    outputs = _run("02_compare_detectors.ipynb", tmp_path)
    # Marks, recall, one network's curves, four tree models' and the regression's importances.
    assert _pictures(outputs) == 2 + 1 + 4
    said = _text(outputs)
    assert f"{run.id}, synthetic demo data" in said
    assert "random_forest, the fifteen most frequent mistakes" in said
