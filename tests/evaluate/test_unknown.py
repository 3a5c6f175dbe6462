"""What is said of attacks that were not learnt, against plain programs and scikit-learn."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from iomt_ids.contract.attacks import ATTACKS, class_names
from iomt_ids.contract.errors import ConfigError
from iomt_ids.evaluate.hierarchy import choose_places
from iomt_ids.evaluate.hierarchy_counts import deepest_sure, sum_up
from iomt_ids.evaluate.score_counts import EDGES, UNSEEN, bins_of
from iomt_ids.evaluate.unknown import Fold, auroc, describe_anomaly, describe_fold, plan_folds
from iomt_ids.evaluate.unknown_report import render_unknown, unknown_table
from tests.evaluate.simulated import BENIGN, alarm_scores, counted, levels_counted, simulated

EVERYWHERE = [(split, a.id) for split in (*UNSEEN, "train") for a in ATTACKS]
VALIDATION, TEST = UNSEEN.index("validation"), UNSEEN.index("test")
HELD = (3, 4)
FOLD = Fold("Recon", "category", HELD)


def rows_without(seed: int = 1) -> dict[str, np.ndarray]:
    """Rows of a model that has not learnt two attacks, and no validation rows of them."""
    rows = simulated("attack", 6000, seed=seed, sharpness=0.5)
    rows["probability"][list(HELD)] = 0
    rows["probability"] /= rows["probability"].sum(axis=0)
    rows["prediction"] = rows["probability"].argmax(axis=0)
    kept = ~((rows["split"] == VALIDATION) & np.isin(rows["attack"], HELD))
    return {name: values[..., kept] for name, values in rows.items()}


def described(rows: dict[str, np.ndarray]) -> dict:
    whole = counted("attack", simulated("attack", 4000, seed=9))
    counts = counted("attack", rows), levels_counted("attack", rows)
    return describe_fold(FOLD, "oracle", *counts, whole, budget=100_000, error=0.1)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=4, max_size=60))
def test_the_area_is_scikit_learns_and_the_interval_delongs(told: list[tuple[int, bool]]) -> None:
    score, own = np.array([s for s, _ in told]), np.array([o for _, o in told])
    found = auroc(np.bincount(score[~own], minlength=13), np.bincount(score[own], minlength=13))
    if min(own.sum(), (~own).sum()) < 2:
        assert found is None
        return
    assert found is not None
    assert found["value"] == pytest.approx(roc_auc_score(own, score), abs=1e-12)
    # DeLong as in the paper: the chance of each row by itself, and the variances of their means.
    above = np.array([[(x > y) + (x == y) / 2 for y in score[~own]] for x in score[own]])
    spread = above.mean(axis=1).var(ddof=1) / own.sum() + above.mean(axis=0).var(ddof=1) / (~own).sum()
    low, high = found["value"] - 1.96 * spread**0.5, found["value"] + 1.96 * spread**0.5
    assert (found["low"], found["high"]) == (pytest.approx(max(low, 0), abs=1e-4), pytest.approx(min(high, 1), abs=1e-4))


def test_alerts_and_answers_are_those_of_a_plain_program() -> None:
    rows = rows_without()
    entry = described(rows)
    alarm = alarm_scores("attack", rows)
    benign_validation = np.sort(alarm[(rows["split"] == VALIDATION) & BENIGN[rows["attack"]]])[::-1]
    own = (rows["split"] == TEST) & np.isin(rows["attack"], HELD)
    assert entry["rows"] == entry["recall"]["rows"] == own.sum()
    # The threshold is the edge of a bin: no higher than the first score that breaks the budget allows.
    allowed = int(len(benign_validation) * 0.1)
    least, most = (alarm[own] > benign_validation[allowed]).mean(), (alarm[own] > benign_validation[allowed] * 1.02).mean()
    assert most - 0.02 <= entry["recall"]["rate"] <= least
    assert entry["recall"]["low"] < entry["recall"]["rate"] < entry["recall"]["high"]
    benign = (rows["split"] == TEST) & BENIGN[rows["attack"]]
    binned = bins_of(alarm, 1 - alarm)
    assert entry["alarm"]["value"] == pytest.approx(
        roc_auc_score(own[own | benign], binned[own | benign]), abs=1e-9
    )
    names, times = np.unique(rows["prediction"][own], return_counts=True)
    assert entry["mistaken_for"][0]["rows"] == times.max()
    assert entry["mistaken_for"][0]["class"] in {ATTACKS[n].name for n in names[times == times.max()]}


def test_how_far_an_answer_goes_is_told_by_name() -> None:
    rows = rows_without()
    rows["probability"] **= 3
    rows["probability"] /= rows["probability"].sum(axis=0)
    levels = levels_counted("attack", rows)
    entry = describe_fold(FOLD, "oracle", counted("attack", rows), levels, counted("attack", rows), budget=100_000, error=0.8)
    own = (rows["split"] == TEST) & np.isin(rows["attack"], HELD)
    said = sum_up(rows["probability"][:, own], "attack")
    depth = deepest_sure(said, [EDGES[place] for place in choose_places(levels, 0.8)])
    told = dict.fromkeys(entry["levels"], 0)
    for i, deep in enumerate(depth):
        named = ATTACKS[said[2].answer[i]]
        category = (None, None, class_names("category")[said[1].answer[i]], named.category)[deep]
        is_attack = (None, said[0].answer[i] == 1, category != "Benign", category != "Benign")[deep]
        told["no_answer" if not deep else "benign" if not is_attack else "attack" if deep == 1 else
             ("category" if deep == 2 else "wrong_name") if category == "Recon" else "wrong_category"] += 1
    assert entry["levels"] == told
    assert sum(n > 0 for n in told.values()) >= 4, told


def test_what_looks_new_is_what_few_known_rows_resemble() -> None:
    rows = rows_without()
    # Of rows that were never learnt, the likeliest class is hardly likely.
    strange = (rows["split"] == TEST) & np.isin(rows["attack"], HELD)
    rows["probability"][:, strange] = 1 / len(ATTACKS) + 0.4 * (rows["probability"][:, strange] - 1 / len(ATTACKS))
    entry = described(rows)
    sure = rows["probability"].max(axis=0)
    tested = rows["split"] == TEST
    assert entry["novelty"]["auroc"]["value"] == pytest.approx(roc_auc_score(strange[tested], -sure[tested]), abs=0.002)
    validation = np.sort(sure[rows["split"] == VALIDATION])
    p = (1 + np.searchsorted(validation, sure, side="right")) / (len(validation) + 1)
    called = entry["novelty"]["called_new"]
    assert called["held_out"]["rate"] == pytest.approx((p[strange] <= 0.05).mean(), abs=0.02)
    assert called["known"]["rate"] == pytest.approx(0.05, abs=0.02)
    assert called["held_out"]["rate"] > 2 * called["known"]["rate"]


def test_test_rows_of_what_is_held_out_move_no_threshold() -> None:
    rows = rows_without()
    before = described(rows)
    strange = (rows["split"] == TEST) & np.isin(rows["attack"], HELD)
    rows["probability"][:, strange] = 0
    rows["probability"][0, strange] = 1
    after = described(rows)
    assert before["false_alarms"] == after["false_alarms"]
    assert before["novelty"]["called_new"]["known"] == after["novelty"]["called_new"]["known"]
    assert before["recall"] != after["recall"]


def test_every_attack_is_held_out_once_and_categories_of_several() -> None:
    folds = plan_folds(EVERYWHERE, [])
    assert [f.name for f in folds if f.kind == "attack"] == [a.name for a in ATTACKS if a.category != "Benign"]
    assert [f.name for f in folds if f.kind == "category"] == ["Recon", "MQTT", "DoS", "DDoS"]
    wanted = [Fold("DoS-UDP", "attack", (14,)), Fold("Recon", "category", (2, 3, 4, 5))]
    assert plan_folds(EVERYWHERE, ["Recon", "DoS-UDP"]) == wanted
    fewer = [pair for pair in EVERYWHERE if pair not in {("test", 2), ("train", 5)}]
    assert plan_folds(fewer, ["Recon"])[0].attacks == (3, 4)


def test_what_cannot_be_held_out_is_named_all_at_once() -> None:
    fewer = [pair for pair in EVERYWHERE if pair[1] != 1]
    with pytest.raises(ConfigError, match=r"'Recn'.*'Recon'(.|\n)*'ARP_Spoofing', of which there are no rows"):
        plan_folds(fewer, ["Recn", "ARP_Spoofing"])
    with pytest.raises(ConfigError, match="no attack to hold out"):
        plan_folds([("train", 0), ("test", 0)], [])


def test_page_and_table_tell_the_numbers_and_escape_names() -> None:
    anomaly = describe_anomaly("forest", counted("binary", simulated("binary", 4000)), [FOLD], budget=100_000)
    content = {
        "run": {"id": "7"}, "data": {"name": "<b>ward</b>", "synthetic": True}, "folds": [described(rows_without())],
        "anomaly": [anomaly], "false_alarms_per_million": 100_000, "verdict_error": 0.1, "novelty_error": 0.05,
    }
    text, entry = render_unknown(content), content["folds"][0]
    assert "&lt;b&gt;ward" in text and "<b>ward" not in text
    assert len(re.findall("<script", text)) == 1 and not re.search(r"https?:|url\(", text)
    assert f"{100 * entry['recall']['rate']:.2f} %" in text and f"{entry['novelty']['auroc']['value']:.3f}" in text
    assert text.count("Synthetic demo data") == 1
    lines = unknown_table(content).splitlines()
    assert max(map(len, lines)) <= 119 and len(lines) == 5
    assert f"{entry['recall']['rate']:.3f}".removeprefix("0") in lines[3]
    assert f"{anomaly['held_out']['Recon']['alarm']['value']:.3f}".removeprefix("0") in lines[4]
