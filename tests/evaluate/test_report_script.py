"""What the report's script does, in a real browser: sliders tell the numbers of scores.json, headers sort their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iomt_ids.evaluate.report import render_report
from tests.evaluate.browser import Browser
from tests.evaluate.scores_sample import sample_scores

MODEL = "gradient_boosted-category-leak_free"
_CELLS = """(name => [...document.querySelectorAll(`table[data-table="${name}"] tbody tr`)].map(
    row => [...row.cells].map(c => c.innerText.trim())))"""


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    return sample_scores(("gradient_boosted", "dense_net"), all_features=())


@pytest.fixture(scope="module")
def page(scores: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(scores), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.complaints.clear()
    browser.open(page)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    return browser


def press(browser: Browser, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


def slider(model: str) -> str:
    return f"""document.querySelector(`table[data-table="point-{model}"]`).closest('[data-points]').querySelector('input')"""


def block(model: str, what: str) -> str:
    return f"{slider(model)}.closest('[data-points]').querySelector('{what}')"


def entry_of(scores: dict[str, Any], model: str) -> dict[str, Any]:
    return next(e for e in scores["operating"] if e["model"] == model)


def told(entry: dict[str, Any], at: int) -> tuple[dict[str, str], dict[str, str]]:
    """What has to be read at a place of the sweep, from the file alone."""
    sweep = entry["sweep"]

    def million(name: str) -> str:
        return f"{1e6 * sweep[name][at]:,.0f}".replace(",", "\u202f")

    def share(name: str) -> str:
        return f"{100 * sweep[name][at]:.2f} %"

    threshold = sweep["threshold"][at]
    shown = f"{threshold:.4f}" if threshold is not None and 0.001 <= threshold <= 0.999 else None
    numbers = {
        "threshold": "never" if threshold is None else shown or f"{threshold:.7f}",
        "false alarms, validation": million("false_alarms_validation"),
        "false alarms, test": "{} ({} to {})".format(*(million(f"false_alarms_test{end}") for end in ("", "_low", "_high"))),
        "false alarms, profile": million("false_alarms_profile"),
        "attacks found, test": "{} ({} to {})".format(*(share(f"recall{end}") for end in ("", "_low", "_high"))),
        "cost, test": f"{sweep['cost_per_thousand'][at]:.1f}",
    }
    return numbers, {name: f"{100 * found[at]:.2f} %" for name, found in sweep["recall_by_attack"].items()}


def read(browser: Browser, model: str) -> tuple[dict[str, str], dict[str, str]]:
    name = f"""[...document.querySelectorAll(`table[data-table="point-{model}"] tbody tr`)].map(
        r => [r.cells[0].firstChild.textContent.trim(), r.cells[1].textContent])"""
    return dict(browser.ask(name)), {row[0]: row[-1] for row in browser.ask(f"{_CELLS}('found-{model}')")}


@pytest.mark.parametrize("model", [MODEL, "dense_net-binary-leak_free"])
def test_the_slider_tells_the_numbers_of_the_scores_at_every_threshold(
    opened: Browser, scores: dict[str, Any], model: str
) -> None:
    entry = entry_of(scores, model)
    last = len(entry["sweep"]["threshold"]) - 1
    assert read(opened, model) == told(entry, entry["point"]), "at first it stands where the threshold was picked"
    assert opened.ask(f"[{slider(model)}.value, {slider(model)}.max]") == [str(entry["point"]), str(last)]
    for at in sorted({0, 1, last // 3, entry["point"] + 1, last - 1, last}):
        opened.ask(f"{slider(model)}.value = {at}; {slider(model)}.dispatchEvent(new Event('input'))")
        assert read(opened, model) == told(entry, at)
        assert opened.ask(f"{slider(model)}.getAttribute('aria-valuetext')") == told(entry, at)[0]["threshold"]
    assert opened.complaints == []


def test_the_slider_moves_by_keys_and_takes_the_dot_along_its_own_curve_only(opened: Browser, scores: dict[str, Any]) -> None:
    entry = entry_of(scores, MODEL)
    other = "dense_net-category-leak_free"
    where = [f"['cx', 'cy'].map(name => +{block(model, '[data-at]')}.getAttribute(name))" for model in (MODEL, other)]
    before, elsewhere = (opened.ask(w) for w in where)
    opened.ask(f"{slider(MODEL)}.focus()")
    for _ in range(5):
        press(opened, "ArrowRight", 39)
    assert read(opened, MODEL) == told(entry, entry["point"] + 5)
    assert read(opened, other) == told(entry_of(scores, other), entry_of(scores, other)["point"])
    after = opened.ask(where[0])
    assert after[0] < before[0] and after[1] > before[1], "a higher threshold raises fewer alarms and finds less"
    assert opened.ask(where[1]) == elsewhere
    line = opened.ask(f"{block(MODEL, 'polyline.s0')}.getAttribute('points')").split()
    assert f"{after[0]:.1f},{after[1]:.1f}" in line


def number(text: str) -> float:
    """What a cell of numbers says first."""
    first = text.split("\n")[0].split(" (")[0].replace("\u202f", "").replace("−", "-").removesuffix(" %").strip("▲▼ ")
    return {"–": float("nan"), "·": 0.0}[first] if first in "–·" else float(first)


@pytest.mark.parametrize(("table", "header", "column"), [
    ("operating", "test", 2), ("comparison-all", "F1", 1), ("rows", "train", 2), (f"class-{MODEL}", "recall", 3),
    (f"found-{MODEL}", "found", 2), ("duplicates-all-float", "Class", 0), (f"areas-{MODEL}", "ROC AUC", 2),
    ("importance-attack-leak_free", "Gradient boosted", 1),
])
def test_a_header_sorts_its_table_up_and_down(opened: Browser, table: str, header: str, column: int) -> None:
    head = f"""[...document.querySelectorAll(`table[data-table="{table}"] thead th`)].find(h => h.textContent === '{header}')"""
    rows = opened.ask(f"{_CELLS}('{table}')")
    if len(rows) < 2:
        assert opened.ask(f"{head}.querySelector('button')") is None, "one row needs no order"
        return
    assert opened.ask(f"{head}.ariaSort") is None
    for order in ("ascending", "descending"):
        opened.ask(f"{head}.querySelector('button').click()")
        assert opened.ask(f"{head}.ariaSort") == order
        found = opened.ask(f"{_CELLS}('{table}')")
        assert sorted(found) == sorted(rows), "no row is lost"
        values = [number(row[column]) for row in found]
        known = [v for v in values if v == v]
        assert known == sorted(known, reverse=order == "descending")
        assert values[: len(known)] == known, "what has no value comes last"
    assert len(set(known)) > 1


def test_numbers_sort_by_value_and_what_has_none_comes_last(browser: Browser, page: Path, tmp_path: Path) -> None:
    ascending = ["−2.5", "▼ −0.50", "·", "0.25", "0.5", "▲ +0.9", "7<small>1–9</small>", "30 (2 to 90)", "1\u202f000"]
    given = ["–", *ascending[::2], "never", *ascending[1::2]]
    cells = "".join(f"<tr><td class=n>{value}</td></tr>" for value in given)
    table = f"<table data-table=odd><thead><tr><th class=n>value</th></tr></thead><tbody>{cells}</tbody></table>"
    odd = tmp_path / "odd.html"
    odd.write_text(page.read_text(encoding="utf-8").replace("<script>", f"{table}<script>"), encoding="utf-8")
    browser.open(odd)
    for order in (ascending, ascending[::-1]):
        browser.ask("document.querySelector('table[data-table=odd] button').click()")
        found = browser.ask("[...document.querySelectorAll('table[data-table=odd] td')].map(c => c.innerHTML)")
        assert found == [*order, "–", "never"]


def test_names_sort_as_text_by_keyboard_and_one_column_at_a_time(opened: Browser) -> None:
    heads = "[...document.querySelectorAll('table[data-table=rows] thead th')]"
    opened.ask(f"{heads}[2].querySelector('button').click(); {heads}[0].querySelector('button').focus()")
    press(opened, "Enter", 13)
    names = [row[0] for row in opened.ask(f"{_CELLS}('rows')")]
    assert names == sorted(names, key=lambda n: n.lower().replace("_", " "))
    assert opened.ask(f"{heads}.map(h => h.ariaSort)")[:3] == ["ascending", None, None]
    assert "Total" in opened.ask("document.querySelector('table[data-table=rows] tfoot').textContent")
    assert opened.complaints == []


def test_every_table_with_a_head_and_rows_can_be_sorted(opened: Browser) -> None:
    bare = """[...document.querySelectorAll('table[data-table]')].filter(t => t.tHead && t.tBodies[0].rows.length > 1
        && [...t.tHead.rows].at(-1).cells.length && !t.querySelector('thead button')).map(t => t.dataset.table)"""
    assert opened.ask(bare) == []


def test_without_the_script_the_page_is_complete(browser: Browser, scores: dict[str, Any], page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    still = tmp_path / "still.html"
    still.write_text(text[: text.index("<script>")] + text[text.index("</script>") + 9 :], encoding="utf-8")
    browser.open(still)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    entry = entry_of(scores, MODEL)
    assert read(browser, MODEL) == told(entry, entry["point"])
    assert browser.ask(f"{slider(MODEL)}.checkVisibility()") is False
    assert browser.ask("document.querySelectorAll('th button').length") == 0


@pytest.mark.parametrize("width", [400, 1280])
def test_in_print_and_at_any_width_numbers_stay_and_nothing_scrolls_sideways(
    browser: Browser, page: Path, scores: dict[str, Any], width: int
) -> None:
    browser.open(page, width=width)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.ask(f"{slider(MODEL)}.checkVisibility()")
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask(f"{slider(MODEL)}.getBoundingClientRect().right") <= width
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(f"{slider(MODEL)}.checkVisibility()") is False
    entry = entry_of(scores, MODEL)
    assert read(browser, MODEL) == told(entry, entry["point"])
    assert width == 400 or len(browser.call("Page.printToPDF")["data"]) > 50_000
    browser.call("Emulation.setEmulatedMedia", media="")


def test_the_table_of_models_tells_the_numbers_of_the_scores(opened: Browser, scores: dict[str, Any]) -> None:
    rows = opened.ask(f"{_CELLS}('operating')")
    assert len(rows) == len(scores["operating"])
    for cells, e in zip(rows, scores["operating"], strict=True):
        alarms, found, c = e["false_alarms"]["test"], e["recall"], e["calibration"]
        assert cells[1] == f"{e['threshold']:.4f}"
        assert [v.replace("\u202f", "") for v in cells[2].split("\n")] == [
            f"{1e6 * alarms['rate']:.0f}", f"{1e6 * alarms['low']:.0f}–{1e6 * alarms['high']:.0f}"]
        assert cells[4].split("\n")[0] == f"{100 * found['rate']:.2f} %"
        assert cells[5:] == [
            f"{e['cost']['per_thousand_argmax']:.1f}", f"{e['cost']['per_thousand']:.1f}", f"{c['temperature']:.2f}",
            f"{c['test']['ece_before']:.4f}", f"{c['test']['ece_after']:.4f}"]


def test_notes_are_said_once_and_above_the_table(tmp_path: Path, scores: dict[str, Any]) -> None:
    doubtful = json.loads(json.dumps(scores))
    for entry in doubtful["operating"][:2]:
        entry["notes"] = ["Too few rows."]
    text = render_report(doubtful)
    assert text.count("Too few rows.") == 1
    assert text.index("Too few rows.") < text.index('data-table="operating"')
    assert "(Gradient boosted, binary, leak-free; Gradient boosted, category, leak-free)" in text


def test_a_model_without_a_threshold_says_so_and_shows_a_half(tmp_path: Path, browser: Browser, scores: dict[str, Any]) -> None:
    bare = json.loads(json.dumps(scores))
    for e in bare["operating"]:
        e |= {"threshold": None, "point": None, "recall": None, "recall_by_attack": {}, "false_alarms": {}}
        e["cost"]["per_thousand"] = None
    path = tmp_path / "report.html"
    path.write_text(render_report(bare), encoding="utf-8")
    browser.open(path)
    assert "No threshold was picked" in browser.ask(f"{block(MODEL, '.empty')}.textContent")
    sweep = entry_of(scores, MODEL)["sweep"]
    half = next(i for i, t in enumerate(sweep["threshold"]) if t >= 0.5)
    assert read(browser, MODEL)[0] == told(entry_of(scores, MODEL), half)[0]
