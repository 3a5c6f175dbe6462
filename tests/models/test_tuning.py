"""Settings are chosen by trials that a kill does not lose; every detector says what may be chosen."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iomt_ids.models import detectors
from iomt_ids.models.decision_tree import Params
from iomt_ids.models.tuning import candidates_of, choose, with_params
from iomt_ids.runtime.config import build, load_config
from iomt_ids.runtime.trials import Trials
from tests.builders import ROOT

SPACE = {"depth": (4, 8, 12, 16), "bins": (32, 64), "rows_per_leaf": (1, 2)}


def tune(folder: Path, killed_at: int = 0):
    """Tune with trials on disk; told so, the kernel kills the process in the middle of a trial."""
    trials, begun = Trials(folder), []

    def trial(candidate, fold):
        begun.append(fold)
        if len(begun) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"f1_macro": 1 / (1 + abs(candidate["depth"] - 8) + candidate["rows_per_leaf"] / 3 + fold / 7)}

    def measure(candidate, fold):
        return trials.remember({"params": candidate, "fold": fold}, lambda: trial(candidate, fold))["f1_macro"]

    return choose(candidates_of(SPACE, Params(), 8, seed=1), 3, 0.5, measure), trials


def test_after_a_kill_tuning_goes_on_and_ends_as_without_it(tmp_path):
    whole, all_trials = tune(tmp_path / "whole")
    line = f"from pathlib import Path; from tests.models.test_tuning import tune; tune(Path({str(tmp_path / 'killed')!r}), 7)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/lib:{ROOT}"}
    killed = subprocess.run([sys.executable, "-c", line], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "killed").iterdir())) == 6
    resumed, trials = tune(tmp_path / "killed")
    assert resumed == whole
    assert (trials.reused, trials.made + 6) == (6, all_trials.made)


def test_a_trial_of_other_rows_is_another_trial(tmp_path):
    trials = Trials(tmp_path)
    found = [trials.remember({"hash": h, "fold": 0}, lambda h=h: {"f1_macro": h / 3}) for h in (1, 2, 1)]
    assert found == [{"f1_macro": 1 / 3}, {"f1_macro": 2 / 3}, {"f1_macro": 1 / 3}]
    assert (trials.made, trials.reused) == (2, 1)


def test_the_better_half_goes_on_and_the_default_always_does():
    tried = []

    def measure(candidate, fold):
        tried.append((candidate["depth"], fold))
        return {4: 0.1, 6: 0.9, 8: 0.7, 10: 0.8, 12: 0.2}[candidate["depth"]] + 0.01 * fold

    choice = choose([{"depth": d} for d in (4, 6, 8, 10, 12)], 3, 0.5, measure)
    assert tried == [(d, 0) for d in (4, 6, 8, 10, 12)] + [(d, 1) for d in (4, 6, 8, 10)] + [(d, 2) for d in (4, 6, 10)]
    assert choice.params == {"depth": 6}
    assert [(s["params"]["depth"], s["is_default"], len(s["folds"])) for s in choice.scores] == [
        (6, False, 3), (10, False, 3), (4, True, 3), (8, False, 2), (12, False, 1),
    ]
    assert choice.scores[0]["mean"] == pytest.approx(0.91)


def test_of_equals_the_default_is_chosen():
    assert choose([{"depth": d} for d in (12, 4, 8)], 2, 0.5, lambda candidate, fold: 0.5).params == {"depth": 12}


def test_candidates_are_the_default_and_points_of_the_space_without_repeats():
    found = candidates_of(SPACE, Params(), 9, seed=3)
    assert found[0] == {"depth": 12, "bins": 64, "rows_per_leaf": 2}
    assert len(found) == len({tuple(c.items()) for c in found}) == 9
    assert all(c[name] in values for c in found[1:] for name, values in SPACE.items())
    assert found == candidates_of(SPACE, Params(), 9, seed=3) != candidates_of(SPACE, Params(), 9, seed=4)
    assert len(candidates_of(SPACE, Params(), 1000, seed=3)) == 16


def test_what_is_trained_by_default_has_a_space():
    trained = load_config(ROOT / "conf" / "local.yaml", []).train.detectors
    assert trained and all(detectors()[name].space for name, tasks in trained.items() if tasks)


@pytest.mark.parametrize("name", [name for name, detector in detectors().items() if detector.space])
def test_a_space_is_of_parameters_and_holds_possible_values(name):
    detector = detectors()[name]
    for candidate in candidates_of(detector.space, detector.params(), 1000, seed=0)[::7]:
        problems: list[str] = []
        made = build(detector.params, candidate, f"models.{name}.", problems)
        assert not problems
        assert made == with_params(detector.params(), candidate)
    assert set(detector.space) <= {field.name for field in dataclasses.fields(detector.params)}
