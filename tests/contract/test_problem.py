"""What a saved model says it was asked to learn."""

from __future__ import annotations

import json

import pytest

from iomt_ids.contract import attacks
from iomt_ids.contract.attacks import TASKS, class_names
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem, Scaling


def problem(**changed: object) -> Problem:
    """A problem of two features; a test names only what it is about."""
    values = {
        "task": "attack", "features": ("ttl_mean", "flow_rate_per_s"), "feature_set": "leak_free", "labels": (0, 3, 20),
        "scaling": (Scaling("ttl_mean", 0.1, 2.0), Scaling("flow_rate_per_s", 1 / 3, 1e-300)),
    }
    return Problem(**{**values, **changed})


def test_a_problem_survives_json_exactly() -> None:
    assert Problem.from_dict(json.loads(json.dumps(problem().as_dict()))) == problem()


def test_a_problem_of_before_the_past_was_told_knows_of_none() -> None:
    saved = problem(past_windows=7).as_dict()
    assert Problem.from_dict(saved).past_windows == 7
    del saved["past_windows"]
    assert Problem.from_dict(saved) == problem()


def test_a_problem_of_before_rows_were_cut_by_schemes_is_of_the_official_split() -> None:
    saved = problem(split_scheme="random, test 0.2, salt s").as_dict()
    assert Problem.from_dict(saved).split_scheme == "random, test 0.2, salt s"
    del saved["split_scheme"]
    assert Problem.from_dict(saved).split_scheme == "official"


def test_a_problem_says_whether_it_knows_of_the_past() -> None:
    assert (problem().context, problem(past_windows=19).context) == ("window", "past")


@pytest.mark.parametrize("task", TASKS)
def test_a_problem_has_every_class_of_its_task(task: str) -> None:
    assert problem(task=task).n_classes == len(class_names(task))
    assert problem(task=task).label_column == f"{task}_id"


def test_a_model_of_another_taxonomy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = problem().as_dict()
    monkeypatch.setattr(attacks, "CATEGORIES", ("Benign", "Other"))
    said = f"trained with taxonomy {saved['taxonomy']}, this code has .*; train it again"
    with pytest.raises(ContractError, match=said):
        Problem.from_dict(saved)
