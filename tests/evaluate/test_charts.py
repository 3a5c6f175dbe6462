"""Charts are well-formed SVG that tells the numbers it was given."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from iomt_ids.evaluate.charts import heat_map, interval_chart, line_chart, movement_map

_SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "\"><script>alert(1)</script>&'"


def parsed(chart: str) -> ET.Element:
    return ET.fromstring(str(chart).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))  # noqa: S314


def titles(chart: str) -> list[str]:
    return [t.text or "" for t in parsed(chart).iter(f"{_SVG}title")]


def texts(chart: str) -> list[str]:
    return [t.text or "" for t in parsed(chart).iter(f"{_SVG}text")]


def test_a_heat_map_tells_counts_and_shares() -> None:
    chart = heat_map("m", [[90, 10], [0, 50]], ["Benign", "Attack"])
    assert "Benign predicted as Attack: 10 of 100 rows, 10.0 %" in titles(chart)
    assert len(titles(chart)) == 3, "a pair that never occurs has no cell"
    assert [t for t in texts(chart) if t.isdigit()] == ["90", "10", "100"]


def test_a_class_neither_true_nor_predicted_is_left_out_of_the_heat_map() -> None:
    assert "b" not in texts(heat_map("m", [[5, 0, 1], [0, 0, 0], [0, 0, 2]], ["a", "b", "c"]))
    assert "b" in texts(heat_map("m", [[5, 1, 0], [0, 0, 0], [0, 0, 2]], ["a", "b", "c"]))


def test_an_interval_chart_places_values_by_size() -> None:
    rows = [
        {"name": "a", "leak_free": (0.8, 0.75, 0.85), "all": (0.9, None, None)},
        {"name": "b", "leak_free": None, "all": None},
    ]
    dots = list(parsed(interval_chart("m", rows)).iter(f"{_SVG}circle"))
    place = {d.attrib["class"]: float(d.attrib["cx"]) for d in dots}
    assert place["dot leak_free"] < place["dot all"] < 340
    spans = [x for x in parsed(interval_chart("m", rows)).iter(f"{_SVG}line") if x.attrib["class"].startswith("range")]
    assert len(spans) == 1
    assert float(spans[0].attrib["x1"]) < place["dot leak_free"] < float(spans[0].attrib["x2"])


@pytest.mark.parametrize("value", [0.0, 0.001, 0.5, 0.899, 0.9, 0.98, 1.0])
def test_any_score_lies_inside_its_axis(value: float) -> None:
    chart = interval_chart("m", [{"name": "a", "leak_free": (value, max(0, value - 0.1), value + 0.1), "all": None}])
    across = [float(x) for e in parsed(chart).iter() for k, x in e.attrib.items() if k in ("cx", "x1", "x2")]
    assert all(126 <= x <= 340 for x in across)
    ticks = [float(t) for t in texts(chart) if t[0].isdigit()]
    assert ticks[0] == 1.0
    assert ticks[-1] <= value + 1e-9


def test_curves_fall_and_rise_as_their_points_do() -> None:
    chart = line_chart("m", {"loss": [(1, 2.0), (2, 1.0), (3, 0.5)], "nothing": []})
    lines = list(parsed(chart).iter(f"{_SVG}polyline"))
    heights = [float(p.split(",")[1]) for p in lines[0].attrib["points"].split()]
    assert len(lines) == 1
    assert heights == sorted(heights), "lower values stand lower on the page"


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.5), (2, 0.5)], [(1, -1e9), (2, 1e9)], [(1, 1e-12), (2, 2e-12)]])
def test_curves_of_any_scale_stay_inside(points: list[tuple[float, float]]) -> None:
    chart = line_chart("m", {"loss": points})
    for line in parsed(chart).iter(f"{_SVG}polyline"):
        assert all(10 <= float(p.split(",")[1]) <= 164 for p in line.attrib["points"].split())


def test_names_of_curves_that_end_together_do_not_overlap() -> None:
    chart = line_chart("m", {"one": [(1, 1.0), (2, 0.5)], "two": [(1, 1.0), (2, 0.5)]})
    heights = [float(t.attrib["y"]) for t in parsed(chart).iter(f"{_SVG}text") if t.text in ("one", "two")]
    assert abs(heights[0] - heights[1]) >= 14


def test_no_points_no_chart() -> None:
    assert line_chart("m", {"loss": []}) == ""
    assert interval_chart("m", [{"name": "a", "leak_free": None, "all": None}]) == ""


def test_a_movement_map_shows_direction() -> None:
    chart = movement_map("m", [("DoS", {"syn": 0.9, "ttl": -0.4})], ["syn", "ttl", "rate"])
    assert titles(chart) == [
        "DoS: syn higher than benign, separation +0.90",
        "DoS: ttl lower than benign, separation -0.40",
    ]
    assert [r.attrib["class"] for r in parsed(chart).iter(f"{_SVG}rect")] == ["up o8", "down o4"]


def test_hostile_names_stay_text() -> None:
    charts = [
        heat_map(HOSTILE, [[1, 1], [0, 1]], [HOSTILE, "b"]),
        movement_map(HOSTILE, [(HOSTILE, {HOSTILE: 1.0})], [HOSTILE]),
        line_chart(HOSTILE, {HOSTILE: [(1, 1.0), (2, 2.0)]}),
        interval_chart(HOSTILE, [{"name": HOSTILE, "leak_free": (0.5, None, None), "all": None}]),
    ]
    for chart in charts:
        assert not list(parsed(chart).iter(f"{_SVG}script"))
        assert parsed(chart).attrib["aria-label"] == HOSTILE
