"""The ledger, the split audit and the times to detect, in a real browser, against the scores they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iomt_ids.evaluate.report import render_report
from tests.evaluate.browser import Browser
from tests.evaluate.scores_sample import sample_scores

SETS = {"leak-free": "leak_free", "all features": "all"}
_CELLS = """(name => [...document.querySelectorAll(`table[data-table="${name}"] tbody tr`)].map(
    row => [...row.cells].map(c => c.innerText.trim().replaceAll('\\u202f', ''))))"""


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    return sample_scores()


@pytest.fixture(scope="module")
def opened(browser: Browser, scores: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Browser:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(scores), encoding="utf-8")
    browser.complaints.clear()
    browser.open(path)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    return browser


def test_the_ledger_shows_every_row_of_the_scores(opened: Browser, scores: dict[str, Any]) -> None:
    shown = opened.ask(f"{_CELLS}('ledger')")
    assert len(shown) == len(scores["ledger"]["rows"]) > 30
    for cells, row in zip(shown, scores["ledger"]["rows"], strict=True):
        assert cells[0].lower().replace(" ", "_") == row["detector"]
        assert (cells[1], SETS[cells[2]], cells[4], int(cells[5])) == (row["task"], row["features"], row["counted"], row["rows"])
        assert cells[6] == f"{row['f1_macro']:.3f}\n{row['f1_macro_low']:.3f}–{row['f1_macro_high']:.3f}"
        ends = row["f1_macro_captures_low"], row["f1_macro_captures_high"]
        assert cells[7] == ("–" if ends[0] is None else "{:.3f}–{:.3f}".format(*ends))
        assert cells[8].startswith(f"{row['f1_weighted']:.3f}\n")
    assert shown[-1][3] == "by chance, for comparison only"
    assert opened.complaints == []


def test_no_ranking_is_claimed_where_there_is_none(opened: Browser, scores: dict[str, Any]) -> None:
    for cells, row in zip(opened.ask(f"{_CELLS}('ledger')"), scores["ledger"]["rows"], strict=True):
        if row["better_than"]:
            assert cells[9] == "decision tree"
        else:
            assert cells[9].startswith("no ranking with" if row["not_ranked_with"] else "–")
    said = opened.ask("document.querySelector('#ledger').innerText")
    assert "Attack, leak-free: no ranking among" in said
    assert "is better than every other" not in said
    assert "on the same captures" in said and "20261123-1" in said


def test_a_detector_that_beats_all_others_is_called_so(scores: dict[str, Any]) -> None:
    won = json.loads(json.dumps(scores))
    for row in won["ledger"]["rows"]:
        others = [*row["better_than"], *row["not_ranked_with"]]
        row |= {"better_than": others if row["detector"] == "random_forest" else [], "not_ranked_with": []}
    assert "Attack, leak-free: random forest is better than every other." in render_report(won)


def test_pairs_and_classes_of_few_rows_stand_as_they_were_counted(opened: Browser, scores: dict[str, Any]) -> None:
    assert opened.ask(f"{_CELLS}('pairs')")[0] == [
        "Random forest", "Decision tree", "attack", "leak-free", "80\n90 rows", "19\n20 rows", "1e-09", "2e-09", "yes"]
    own = [r for r in scores["ledger"]["rows"] if r["counted"] == "rows" and r["run"] == scores["run"]["id"]]
    few = opened.ask(f"{_CELLS}('uncertain')")
    assert len(few) == len(own)
    assert few[0][0] == "Recon-VulScan" and few[0][2:] == ["60", "0.500", "0.368", "0.632"]


def test_each_split_shows_its_counts_and_what_to_know_of_it(opened: Browser, scores: dict[str, Any]) -> None:
    for entry in scores["splits"]["schemes"]:
        rows = opened.ask(f"{_CELLS}('split-{entry['scheme']}')")
        assert rows[0] == ["Benign", "1", "900", "·" if entry["scheme"] == "time" else "200", "·", "31", "45", "7"]
        assert len(rows) == 2
    said = opened.ask("document.querySelector('#splits').innerText")
    assert "no row lies between: Benign." in said and "19 rows lie between: Benign." in said
    assert "so not group-splittable; cut as in the source: Benign." in said
    assert "Too short for test rows: Benign, DoS-SYN." in said
    assert "attack 0.9834 (accuracy 0.9912)" in said
    assert "says little of new traffic" in said


def test_times_are_shown_as_windows_and_packets(opened: Browser, scores: dict[str, Any]) -> None:
    for entry in scores["time_to_detect"]:
        assert opened.ask(f"{_CELLS}('detection-{entry['model']}')") == [
            ["DDoS-UDP", "350", *["1 to 3\n30 packets", "2", "never", "1.23 %"] * 2],
            ["ARP_Spoofing", "75", "1 to 3\n30 packets", "2", "never", "1.23 %", "never", "never", "never", "–"],
        ]
    said = opened.ask("document.querySelector('#detection').innerText")
    assert said.count("1 capture is left out") == 3


def test_the_ledger_sorts_by_its_scores(opened: Browser) -> None:
    head = "document.querySelectorAll('table[data-table=ledger] thead th')[6]"
    for way in (1, -1):
        opened.ask(f"{head}.querySelector('button').click()")
        values = [float(row[6].split("\n")[0]) for row in opened.ask(f"{_CELLS}('ledger')")]
        assert values == sorted(values)[::way]
