"""The report in a real browser, and the terminal's table, against the scores that they were made from."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import pytest

from iomt_ids.contract.attacks import TASKS
from iomt_ids.evaluate.compare import comparison_table
from iomt_ids.evaluate.report import render_report
from tests.evaluate.browser import Browser
from tests.evaluate.scores_sample import sample_scores

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\"'&"
_ROWS = """(name => [...document.querySelectorAll(`table[data-table="${name}"] tbody tr`)].map(
    row => [...row.cells].map(c => c.textContent.trim())))"""


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    return sample_scores()


@pytest.fixture(scope="module")
def page(scores: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(scores, tmp_path_factory.mktemp("report"))


def written(scores: dict[str, Any], folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(render_report(scores), encoding="utf-8")
    return path


def test_the_page_opens_without_a_complaint_or_a_request(browser: Browser, page: Path) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.ask("document.title") == "Detectors on demo (synthetic demo data), run 20261124-021500-5c1e"


def test_the_page_names_no_address_and_allows_its_own_script_only(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    script = re.findall(r"(?s)<script>(.*?)</script>", text)
    assert len(script) == len(re.findall(r"(?i)<script", text)) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'" in text
    assert not re.search(r"(?i)https?:|//[a-z]|@import|url\(", text.replace(digest, ""))


def test_no_other_script_runs(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask("""(() => { const added = document.createElement('script'); added.textContent = 'window.owned = 1';
        document.body.append(added); document.body.setAttribute('onclick', 'window.owned = 2'); document.body.click() })()""")
    assert browser.ask("window.owned === undefined")


def test_every_section_and_table_is_there(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.ask("[...document.querySelectorAll('main section')].map(s => s.id)") == [
        "comparison",
        "ledger",
        "models",
        "operating",
        "hierarchy",
        "detection",
        "learning",
        "importance",
        "leaks",
        "attacks",
        "devices",
        "splits",
        "data",
        "run",
    ]
    tables = set(browser.ask("[...document.querySelectorAll('table[data-table]')].map(t => t.dataset.table)"))
    wanted = {
        "comparison-all",
        "comparison-wifi_mqtt",
        "comparison-bluetooth",
        "rows",
        "config",
        "devices-attack",
        "class-dense_net-attack-leak_free",
        "class-random_forest-binary-all",
        "importance-attack-leak_free",
        "importance-attack-all",
        "mistaken-DoS-SYN",
        "leaks-suspects",
        "leaks-kept",
        "leaks-files",
        "duplicates-leak_free-double",
        "duplicates-all-double",
        "duplicates-all-float",
        "operating",
        "costs",
        "ledger",
        "pairs",
        "uncertain",
        "split-official",
        "split-time",
        "detection-dense_net-attack-leak_free",
        "point-dense_net-attack-leak_free",
        "found-random_forest-binary-all",
        "areas-decision_tree-category-leak_free",
        "hierarchy",
        "depth-random_forest-attack-all",
        "sets-dense_net-attack-leak_free",
    }
    assert wanted <= tables
    assert browser.ask("document.querySelectorAll('#models svg.heat').length") == 18
    assert browser.ask("document.querySelectorAll('#learning svg').length") == 6


def test_the_comparison_has_a_place_for_every_feature_set_that_was_scored(
    browser: Browser, scores: dict[str, Any], tmp_path: Path
) -> None:
    told = copy.deepcopy(scores)
    told["scores"] += [{**s, "features": "past", "f1_macro": 0.5} for s in told["scores"] if s["features"] == "all"]
    browser.open(written(told, tmp_path))
    heads = browser.ask("[...document.querySelectorAll('table[data-table=comparison-all] thead tr')].map(r => r.innerText)")
    assert heads[1].count("with the past") == len(TASKS)
    rows = {row[0]: row[1:] for row in browser.ask(f"{_ROWS}('comparison-all')")}
    assert {len(cells) for cells in rows.values()} == {6 * len(TASKS)}
    assert [cell[:5] for cell in rows["Random forest"][4::6]] == ["0.500"] * len(TASKS)


def test_scores_over_rows_stand_beside_those_over_distinct_vectors(
    browser: Browser, page: Path, scores: dict[str, Any]
) -> None:
    browser.open(page)
    both = {
        (s["task"], s["detector"], s["features"], s["counted"]): s
        for s in scores["scores"] if (s["split"], s["scope"]) == ("test", "all")
    }
    rows = browser.ask(f"{_ROWS}('both-ways')")
    assert len(rows) == len(both) / 2
    for task, detector, features, n, f1, _, n_distinct, f1_distinct, _ in rows:
        key = task, detector, {"leak-free": "leak_free", "all features": "all"}[features]
        shown = [int(text.replace("\u202f", "")) for text in (n, n_distinct)]
        assert shown == [both[*key, c]["rows"] for c in ("rows", "distinct")]
        assert [f1, f1_distinct] == [f"{both[*key, c]['f1_macro']:.3f}" for c in ("rows", "distinct")]


def test_duplicates_are_shown_as_they_were_counted(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.ask(f"{_ROWS}('duplicates-leak_free-double')") == [
        ["DoS-SYN", "1\u202f200", "1\u202f000", "150", "50", "300", "20", "·"]
    ]
    assert "macro-F1 0.987 and accuracy 0.998" in browser.ask("document.querySelector('#data').innerText")


def test_links_inside_the_page_lead_somewhere(browser: Browser, page: Path) -> None:
    browser.open(page)
    broken = (
        "[...document.querySelectorAll('a')].map(a => a.getAttribute('href')).filter(h => !document.querySelector(h))"
    )
    assert browser.ask(broken) == []


@pytest.mark.parametrize("scope", ["all", "wifi_mqtt", "bluetooth"])
def test_the_comparison_shows_the_numbers_of_the_scores(
    browser: Browser, page: Path, scores: dict[str, Any], scope: str
) -> None:
    browser.open(page)
    found = {
        (s["detector"], s["task"], s["features"]): s
        for s in scores["scores"]
        if (s["split"], s["scope"], s["counted"]) == ("test", scope, "rows")
    }
    rows = browser.ask(f"{_ROWS}('comparison-{scope}')")
    assert len(rows) == 5
    for name, *cells in rows:
        detector = name.lower().replace(" ", "_")
        for i, (task, features) in enumerate((t, f) for t in TASKS for f in ("leak_free", "all")):
            score = found.get((detector, task, features))
            wanted = (
                ["–", "–"]
                if score is None
                else [
                    f"{score['f1_macro']:.3f}{score['f1_macro_low']:.3f}–{score['f1_macro_high']:.3f}",
                    f"{score['accuracy']:.3f}",
                ]
            )
            assert cells[2 * i : 2 * i + 2] == wanted


def test_each_class_shows_the_numbers_of_the_scores(browser: Browser, page: Path, scores: dict[str, Any]) -> None:
    browser.open(page)
    score = next(
        s for s in scores["scores"] if (s["detector"], s["task"], s["split"]) == ("dense_net", "attack", "test")
    )
    for name, support, *measures in browser.ask(f"{_ROWS}('class-dense_net-attack-leak_free')"):
        of_class = score["per_class"][name]
        assert int(re.sub(r"\D", "", support)) == of_class["support"]
        wanted = [of_class[m] for m in ("precision", "recall", "f1")]
        assert measures[:3] == ["–" if w is None else f"{w:.3f}" for w in wanted]


def test_an_absent_class_has_no_score_and_says_so(browser: Browser, page: Path) -> None:
    browser.open(page)
    row = """[...document.querySelectorAll('table[data-table="class-dense_net-attack-leak_free"] tbody tr')]
        .find(r => r.cells[0].textContent === 'Recon-Ping_Sweep')"""
    assert browser.ask(f"{row}.cells[4].textContent") == "–"
    assert browser.ask(f"{row}.cells[4].querySelector('span').title") == "absent class has no score"


def test_false_alarms_of_devices_are_those_of_the_insight(browser: Browser, page: Path, scores: dict[str, Any]) -> None:
    browser.open(page)
    rows = browser.ask(f"{_ROWS}('devices-binary')")
    assert [r[0] for r in rows] == ["Ecobee_Camera", "Powerlabs_HR_Monitor"]
    alarms = scores["insight"]["devices"][0]["false_alarms"]["random_forest-binary-leak_free"]
    assert rows[0][3].startswith(f"{100 * alarms['rate']:.1f} %")


def test_each_feature_shows_its_verdict_and_what_it_rests_on(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows = {row[0]: row[1:] for row in browser.ask(f"{_ROWS}('leaks-suspects')")}
    alone = "macro-F1 0.50; tells 3 of 45 pairs"
    assert rows["iat_epoch_s"] == [
        "quarantine", "why iat_epoch_s is quarantine", alone,
        "a date in 10 of 10 (×10, ×20): 2023-08-28 to 2023-09-14; rank correlation +0.10", "–", "–",
    ]
    assert rows["buffer_packets"][4] == "recurs every 2 rows in 6, constant in 4 of 10; 5.5, 13.5 / 9.5"
    assert rows["weight"][5] == "1 classes on 2 decimals, 2 on no grid"
    assert rows["flow_header_bytes"][0] == "ablate"
    assert [row[:2] for row in browser.ask(f"{_ROWS}('leaks-kept')")] == [["ttl_mean", "keep"]]
    assert browser.ask(f"{_ROWS}('leaks-files')") == [["DoS-SYN", "4", "120", "0.25", "0.91told", "0.27not told"]]


def test_a_leak_that_the_contract_does_not_mark_is_said_aloud(scores: dict[str, Any]) -> None:
    assert "exactly what the leak-free features leave out" in render_report(scores)
    other = copy.deepcopy(scores)
    other["leaks"]["features"][0]["verdict"] = "keep"
    other["leaks"]["features"][4]["verdict"] = "quarantine"
    text = render_report(other)
    assert "still in the leak-free features: <code>ttl_mean</code>. Marked as a leak, but not seen" in text
    assert "exactly what the leak-free" not in text


def test_rows_and_their_total_are_those_of_the_data(browser: Browser, page: Path, scores: dict[str, Any]) -> None:
    browser.open(page)
    shown = {r[0]: r[2:] for r in browser.ask(f"{_ROWS}('rows')")}
    assert int(re.sub(r"\D", "", shown["DoS-SYN"][0])) == scores["data"]["rows"]["train"]["DoS-SYN"]
    assert shown["DoS-SYN"][3] == "·"
    total = browser.ask("document.querySelector('table[data-table=rows] tfoot').textContent")
    assert f"{sum(scores['data']['rows']['train'].values()):,}".replace(",", "\u202f") in total


def test_the_headline_says_what_the_leaks_are_worth(browser: Browser, page: Path, scores: dict[str, Any]) -> None:
    browser.open(page)
    f1 = {
        (s["detector"], s["features"]): s["f1_macro"]
        for s in scores["scores"]
        if (s["task"], s["split"], s["scope"], s["counted"]) == ("attack", "test", "all", "rows")
    }
    worth = f1["random_forest", "all"] - f1["random_forest", "leak_free"]
    assert f"leaks are worth {worth:+.3f} (Random forest)" in browser.ask(
        "document.querySelectorAll('.card')[2].innerText"
    )
    best = max((d for d, features in f1 if features == "leak_free"), key=lambda d: f1[d, "leak_free"])
    assert best.replace("_", " ").capitalize() in browser.ask("document.querySelectorAll('.card')[2].innerText")


def test_synthetic_data_is_called_so_and_real_data_is_not(scores: dict[str, Any]) -> None:
    assert render_report(scores).count("synthetic demo data") >= 5
    real = render_report(sample_scores(("random_forest",), synthetic=False))
    assert "synthetic" not in real


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_never_scrolls_sideways(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.open(page, width=width, scheme=scheme)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("document.body.scrollWidth") == width


_CONTRAST = """(() => {
  const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2] };
  const solid = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c } return 'rgb(255, 255, 255)' };
  const kinds = 'p, th, td, small, a, h1, h2, h3, caption, code, .soft, .leak, .none, .up, .down, summary span';
  return Math.min(...[...document.querySelectorAll(kinds)]
    .filter(e => e.checkVisibility() && e.textContent.trim() && !(e instanceof SVGElement)).map(e => {
      const a = light(getComputedStyle(e).color), b = light(solid(e));
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) })) })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    browser.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.ask(_CONTRAST) >= 4.5


def test_tables_charts_and_parts_have_names(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.ask("[...document.querySelectorAll('table')].filter(t => !t.caption).length") == 0
    assert browser.ask("[...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-label')).length") == 0
    assert (
        browser.ask(
            "[...document.querySelectorAll('section')].filter(s => "
            "!document.getElementById(s.getAttribute('aria-labelledby'))).length"
        )
        == 0
    )
    assert browser.ask("['header', 'nav', 'main', 'footer'].map(n => document.querySelectorAll(n).length)") == [
        1,
        1,
        1,
        1,
    ]
    assert browser.ask("document.querySelectorAll('h1').length") == 1


def test_a_hostile_name_stays_text_everywhere(browser: Browser, tmp_path: Path, scores: dict[str, Any]) -> None:
    hostile = copy.deepcopy(scores)
    hostile["data"] |= {"name": HOSTILE, "raw": HOSTILE, "note": HOSTILE, "tables": {HOSTILE: 1}}
    hostile["data"]["rows"]["test"][HOSTILE] = 1
    hostile["run"]["config"] = {HOSTILE: HOSTILE}
    for device in hostile["insight"]["devices"]:
        device["device"] = HOSTILE
    for attack in hostile["insight"]["attacks"]:
        attack |= {"attack": HOSTILE, "sentence": HOSTILE, "needed": HOSTILE}
        attack["features"][0]["feature"] = HOSTILE
    for score in hostile["scores"]:
        score["detector"] = HOSTILE
    for entry in hostile["operating"]:
        entry |= {"detector": HOSTILE, "model": HOSTILE, "notes": [HOSTILE], "classes": {HOSTILE: entry["classes"]["Benign"]}}
        entry["sweep"]["recall_by_attack"] = {HOSTILE: entry["sweep"]["recall"]}
        entry["recall_by_attack"] = {HOSTILE: entry["recall"]}
    for feature in hostile["leaks"]["features"]:
        feature |= {"feature": HOSTILE, "sentence": HOSTILE}
    hostile["leaks"]["files"][0]["class"] = HOSTILE
    hostile["leaks"]["not_testable"] = [HOSTILE]
    for row in hostile["ledger"]["rows"]:
        row |= {"detector": HOSTILE, "scheme": HOSTILE, "split_scheme": HOSTILE, "run": HOSTILE, "better_than": [HOSTILE]}
        row["uncertain"][0]["class"] = HOSTILE
    hostile["ledger"]["pairs"][0] |= {"first": HOSTILE, "second": HOSTILE}
    hostile["time_to_detect"][0] |= {"model": HOSTILE, "detector": HOSTILE}
    hostile["time_to_detect"][0]["attacks"][0]["attack"] = HOSTILE
    for scheme in hostile["splits"]["schemes"]:
        scheme |= {"text": HOSTILE, "adjoining": [HOSTILE], "not_splittable": [HOSTILE]}
        scheme["classes"][0]["class"] = HOSTILE
    browser.complaints.clear()
    browser.open(written(hostile, tmp_path))
    assert browser.complaints == []
    assert browser.ask("[...document.querySelectorAll('script, img')].map(e => e.localName)") == ["script"]
    assert browser.ask("document.querySelector('#operating [data-points] caption').textContent").endswith(HOSTILE)
    assert browser.ask("document.querySelector('h1').textContent") == f"Detectors on {HOSTILE}"
    assert HOSTILE in browser.ask("document.querySelector('table[data-table=devices-attack] tbody th').textContent")


def test_thirty_models_stay_under_ten_megabytes(browser: Browser, tmp_path: Path) -> None:
    names = ("random_forest", "gradient_boosted", "dense_net", "decision_tree", "logistic_regression")
    many = sample_scores(names, all_features=names, devices=tuple(f"device_{i}" for i in range(42)))
    assert len(many["models"]) == 30
    path = written(many, tmp_path)
    assert path.stat().st_size < 10_000_000
    browser.open(path)
    assert browser.ask("document.querySelectorAll('#models svg.heat').length") == 30


@pytest.mark.parametrize("key", ["models", "insight", "leaks", "operating", "splits", "ledger", "time_to_detect"])
def test_a_report_without_a_part_says_why(
    browser: Browser, tmp_path: Path, scores: dict[str, Any], key: str
) -> None:
    browser.open(written({**scores, key: {}}, tmp_path))
    sections = {
        "models": ("learning", "importance"), "insight": ("attacks", "devices"), "leaks": ("leaks",), "operating": ("operating",),
        "splits": ("splits",), "ledger": ("ledger",), "time_to_detect": ("detection",),
    }
    for section in sections[key]:
        assert len(browser.ask(f"document.querySelector('#{section} .empty').textContent")) > 40


def test_a_run_that_scored_nothing_still_has_a_report(browser: Browser, tmp_path: Path) -> None:
    bare = {"run": {"id": "r1"}, "data": {"name": "d", "synthetic": False}, "scores": []}
    browser.complaints.clear()
    browser.open(written(bare, tmp_path))
    assert browser.complaints == []
    assert browser.ask("document.querySelectorAll('.empty').length") >= 6
    assert comparison_table(bare) == "d: no detector was scored on the test split"


def test_scores_without_intervals_or_times_are_shown(scores: dict[str, Any]) -> None:
    bare = copy.deepcopy(scores)
    for score in bare["scores"]:
        for key in ("f1_macro_low", "f1_macro_high", "train_seconds", "score_seconds"):
            score[key] = None
    assert "None" not in re.sub(r"<[^>]*>", "", render_report(bare))


def test_an_attack_that_rows_show_traces_of_says_what_would_be_needed(scores: dict[str, Any]) -> None:
    known = {a["attack"]: a for a in scores["insight"]["attacks"]}
    text = html.unescape(render_report(scores))
    assert text.count("To see this attack itself would need") == 1
    assert known["ARP_Spoofing"]["needed"] in text and "which hardware address claims" in text


def test_the_terminal_table_shows_the_numbers_of_the_scores(scores: dict[str, Any]) -> None:
    lines = comparison_table(scores).splitlines()
    assert "synthetic demo data" in lines[0]
    assert max(map(len, lines)) < 120
    row = next(line for line in lines if line.startswith("dense_net")).split()
    found = {
        s["task"]: s
        for s in scores["scores"]
        if (s["detector"], s["split"], s["scope"], s["counted"]) == ("dense_net", "test", "all", "rows")
    }
    shown = [float(x) for x in row if re.fullmatch(r"\.\d{3}", x)]
    assert shown == [round(found[t][m], 3) for t in TASKS for m in ("f1_macro", "accuracy")]


def test_the_terminal_table_has_one_row_a_detector_and_a_dash_for_the_undefined(scores: dict[str, Any]) -> None:
    bare = copy.deepcopy(scores)
    for score in bare["scores"]:
        score |= (
            {"f1_macro": None, "f1_macro_low": None, "f1_macro_high": None}
            if score["detector"] == "decision_tree"
            else {}
        )
    lines = comparison_table(bare).splitlines()
    assert [line.split()[0] for line in lines[-5:]] == list(dict.fromkeys(s["detector"] for s in scores["scores"]))
    assert next(line for line in lines if line.startswith("decision_tree")).split()[1] == "-"


def test_the_terminal_table_wraps_rather_than_grow_wide() -> None:
    long = sample_scores(
        ("a_detector_with_a_name_that_goes_on_and_on",), all_features=("a_detector_with_a_name_that_goes_on_and_on",)
    )
    lines = comparison_table(long).splitlines()
    assert max(map(len, lines)) < 120
    assert sum(line.startswith("a_detector") for line in lines) == 2
