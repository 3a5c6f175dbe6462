import pytest

from iomt_ids.evaluate.gate import best_model, decide, score_on_test


def entry(model, f1, *, split="validation", task="attack", features="leak_free", scope="all", counted="rows"):
    return {
        "model": model, "f1_macro": f1, "split": split, "task": task, "features": features, "scope": scope, "counted": counted,
    }


@pytest.mark.parametrize(("candidate", "served", "tolerance", "promoted"), [
    (0.80, 0.80, 0.0, True),
    (0.7999, 0.80, 0.0, False),
    (0.79, 0.80, 0.02, True),
    (0.81, 0.80, 0.0, True),
    (None, 0.80, 0.0, False),
    (0.80, None, 0.0, False),
])
def test_a_model_passes_only_if_it_is_not_worse(candidate, served, tolerance, promoted):
    assert decide(candidate, served, has_served=True, tolerance=tolerance).promote is promoted


def test_the_first_model_ever_is_served():
    assert decide(0.1, None, has_served=False, tolerance=0.0).promote


def test_a_model_without_test_rows_is_not_served_even_if_it_is_the_first():
    assert not decide(None, None, has_served=False, tolerance=0.0).promote


def test_the_winner_is_chosen_by_validation_and_not_by_test():
    scores = [
        entry("tree", 0.7), entry("forest", 0.9), entry("net", 0.8),
        entry("forest", 0.2, split="test"), entry("net", 0.99, split="test"),
        entry("net", 0.97, scope="bluetooth"), entry("net", 0.98, counted="distinct"),
    ]
    assert best_model(scores, task="attack", features="leak_free") == "forest"


def test_a_model_that_saw_the_leaks_is_never_chosen():
    scores = [entry("forest", 0.9), entry("forest-all", 0.99, features="all"), entry("binary", 1.0, task="binary")]
    assert best_model(scores, task="attack", features="leak_free") == "forest"


def test_there_is_no_winner_without_validation_scores():
    assert best_model([entry("forest", 0.9, split="test"), entry("net", None)], task="attack", features="leak_free") is None


def test_the_test_score_is_that_of_all_rows_of_the_model():
    scores = [
        entry("a", 0.1, split="test"), entry("b", 0.2, split="test", scope="bluetooth"),
        entry("b", 0.4, split="test", counted="distinct"), entry("b", 0.3, split="test"),
    ]
    assert score_on_test(scores, "b") == 0.3
    assert score_on_test(scores, None) is None
