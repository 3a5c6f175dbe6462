import json
import threading
from pathlib import Path

import pytest

from iomt_ids.contract.errors import ConfigError, ContractError
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.runs import (
    begin_run,
    find_run,
    has_served,
    ledgers_of_other_schemes,
    serve,
    served_model,
    start_run,
    write_json,
)
from tests.builders import problem

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"importances": None, "curves": [], "facts": {}, "train_seconds": 1.0}


def save(run, name="forest-attack-leak_free", content="weights"):
    run.save_model(name, "random_forest", problem("attack", [0, 1]), lambda folder: (folder / "m").write_text(content), FACTS)


def finished(home, **models):
    run = start_run(home, "retrain")
    for name, content in models.items():
        save(run, name, content)
    run.finish({"id": run.id, "job": "retrain", "started": run.started})
    return run


def test_a_run_without_a_record_does_not_exist(tmp_path):
    save(start_run(tmp_path, "retrain"))
    with pytest.raises(ConfigError, match="there is no run with models"):
        find_run(tmp_path, "latest")


def test_the_latest_run_with_models_is_found_and_so_is_one_by_id_folder_or_home(tmp_path):
    old, new = finished(tmp_path, a="1"), finished(tmp_path, a="2")
    finished(tmp_path)  # an evaluation: a run without models
    new.folder.rename(new.folder.with_name("99990101T000000Z-zzzzzz"))
    assert find_run(tmp_path, "latest").folder.name.startswith("9999")
    assert find_run(tmp_path, old.id) == find_run(tmp_path / "elsewhere", str(old.folder)) == old
    assert find_run(tmp_path / "elsewhere", str(tmp_path)).folder.name.startswith("9999")
    with pytest.raises(ConfigError, match="there is no complete run 'yesterday'"):
        find_run(tmp_path, "yesterday")


def test_a_model_comes_back_with_its_problem_and_its_facts(tmp_path):
    run = finished(tmp_path, forest="weights")
    (model,) = run.models()
    assert (model.run, model.name, model.detector, model.problem) == (run.id, "forest", "random_forest", problem("attack", [0, 1]))
    assert (model.folder / "m").read_text() == "weights"
    assert model.facts == FACTS


def test_a_model_whose_saving_dies_is_not_there_and_the_old_one_stays(tmp_path):
    run = start_run(tmp_path, "retrain")
    save(run, content="old")

    def dies(folder):
        (folder / "m").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.save_model("forest-attack-leak_free", "random_forest", problem("attack", [0, 1]), dies, FACTS)
    assert [(m.folder / "m").read_text() for m in run.models()] == ["old"]


def test_a_model_of_another_taxonomy_is_refused(tmp_path):
    run = finished(tmp_path, forest="weights")
    record = run.folder / "models" / "forest" / "detector.json"
    record.write_text(record.read_text().replace(json.loads(record.read_text())["problem"]["taxonomy"], "0" * 12))
    with pytest.raises(ContractError, match="trained with taxonomy 000000000000"):
        run.models()


def test_the_served_model_is_the_one_the_pointer_names(tmp_path):
    assert not has_served(tmp_path)
    with pytest.raises(ConfigError, match="no model is served yet"):
        served_model(tmp_path)
    first, second = finished(tmp_path, a="1"), finished(tmp_path, a="2", b="3")
    serve(tmp_path, first, "a")
    assert served_model(tmp_path).run == first.id
    serve(tmp_path, second, "b")
    assert (served_model(tmp_path).folder / "m").read_text() == "3"
    assert find_run(tmp_path, "served") == second


def test_a_pointer_to_a_model_that_is_gone_is_said(tmp_path):
    run = finished(tmp_path, a="1")
    serve(tmp_path, run, "b")
    with pytest.raises(ConfigError, match=r"served.json names .*models/b, which is not there"):
        served_model(tmp_path)


def test_a_reader_never_sees_half_a_pointer(tmp_path):
    path, stop, seen = tmp_path / "served.json", threading.Event(), []
    write_json(path, {"n": 0, "filling": "x" * 50_000})

    def read():
        while not stop.is_set():
            seen.append(json.loads(path.read_text())["n"])

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(1, 60):
        write_json(path, {"n": n, "filling": "x" * 50_000})
    stop.set()
    reader.join()
    assert seen and seen == sorted(seen)
    assert [p.name for p in tmp_path.iterdir()] == ["served.json"]


def test_a_number_that_is_not_one_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"f1": float("nan")})
    assert list(tmp_path.iterdir()) == []


def config(tmp_path, *settings):
    return load_config(ROOT / "conf" / "local.yaml", [f"output.folder={tmp_path}", *settings])


def test_an_unfinished_run_of_the_same_configuration_is_gone_on_with(tmp_path):
    first = begin_run(tmp_path, "retrain", config(tmp_path))
    save(first)
    again = begin_run(tmp_path, "retrain", config(tmp_path, "train.resume=true", "train.restarts=9"))
    assert again == first
    assert [m.name for m in again.models()] == ["forest-attack-leak_free"]
    assert begin_run(tmp_path, "retrain", config(tmp_path)) != first  # nobody asked for it


@pytest.mark.parametrize("other", ["seed=8", "models={dense_net: {steps: 9}}", "train.checkpoint_steps=3"])
def test_a_run_of_another_configuration_is_not_gone_on_with(tmp_path, other):
    first = begin_run(tmp_path, "retrain", config(tmp_path))
    assert begin_run(tmp_path, "retrain", config(tmp_path, "train.resume=true", other)) != first
    assert begin_run(tmp_path, "train_detector", config(tmp_path, "train.resume=true")) != first


def test_a_finished_run_is_not_gone_on_with_and_keeps_no_checkpoints(tmp_path):
    first = begin_run(tmp_path, "retrain", config(tmp_path))
    first.checkpoints.mkdir()
    first.finish({"id": first.id, "job": "retrain", "started": first.started})
    assert not first.checkpoints.exists()
    assert begin_run(tmp_path, "retrain", config(tmp_path, "train.resume=true")) != first


def scored(home, scheme, *, bronze=3, rows=("a",)):
    run = start_run(home, "retrain")
    ledger = {"rows": [{"run": run.id, "detector": name} for name in rows] + [{"run": "earlier", "detector": "repeated"}]}
    run.write("scores.json", {"run": {"id": run.id}, "data": {"tables": {"bronze.flows": bronze}}, "ledger": ledger})
    run.finish({"id": run.id, "split_scheme": scheme})
    return run.id


def test_the_ledger_repeats_the_newest_scores_of_each_other_scheme_on_the_same_captures(tmp_path):
    mine, other = scored(tmp_path, "official"), scored(tmp_path, "random, test 0.2, salt s", rows=("a", "b"))
    scored(tmp_path, "time, test 0.2, gap 19", bronze=2)
    unfinished = start_run(tmp_path, "retrain")
    unfinished.write("scores.json", {"run": {"id": unfinished.id}})
    finished(tmp_path)
    found = ledgers_of_other_schemes(tmp_path, {"official"}, 3)
    assert [(r["run"], r["detector"]) for r in found] == [(other, "a"), (other, "b")]
    assert {r["run"] for r in ledgers_of_other_schemes(tmp_path, set(), 3)} == {mine, other}
    assert ledgers_of_other_schemes(tmp_path, {"official"}, None) == []
