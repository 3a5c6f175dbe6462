"""Curves are well-formed SVG, each point where its numbers are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.evaluate.curve_charts import precision_recall_chart, reliability_chart, roc_chart, roc_place
from tests.evaluate.test_charts import HOSTILE, parsed, titles

_SVG = "{http://www.w3.org/2000/svg}"
RATES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def points(chart: str, style: str) -> list[tuple[float, float]]:
    line = next(p for p in parsed(chart).iter(f"{_SVG}polyline") if p.attrib["class"] == style)
    return [(float(x), float(y)) for x, y in (p.split(",") for p in line.attrib["points"].split())]


@given(RATES)
def test_every_point_of_a_roc_lies_inside_its_axes(rates: list[float]) -> None:
    for x, y in points(roc_chart("m", {}, (rates, rates), None), "line s0"):
        assert 42 <= x <= 344 and 10 <= y <= 196


def test_a_decade_of_false_positives_is_as_wide_as_any_other_and_better_is_higher() -> None:
    (x1, y1), (x2, y2), (x3, _) = roc_place(1e-5, 0.2), roc_place(1e-4, 0.9), roc_place(1e-3, 0.9)
    assert x3 - x2 == pytest.approx(x2 - x1) and x1 < x2
    assert y2 < y1, "down is larger in SVG"
    assert roc_place(0, 0)[0] == roc_place(1e-6, 0)[0] == 42
    assert roc_place(1, 1) == (344, 10)


def test_the_dot_stands_on_the_curve_of_the_alarm() -> None:
    chart = roc_chart("m", {"a": ([0.1, 1.0], [0.5, 1.0])}, ([1.0, 0.01, 0.0], [1.0, 0.7, 0.1]), 1)
    dot = next(c for c in parsed(chart).iter(f"{_SVG}circle"))
    assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == points(chart, "line s0")[1]
    assert titles(chart) == ["a"]


def test_precision_stands_over_recall() -> None:
    assert points(precision_recall_chart("m", {"a": ([0.0, 1.0], [1.0, 0.0])}), "line thin") == [(42, 10), (344, 196)]


def test_a_model_that_is_as_sure_as_it_should_be_lies_on_the_diagonal() -> None:
    chart = reliability_chart("m", ([0.5, 1.0], [0.25, 1.0]), ([0.5, 1.0], [0.5, 1.0]))
    diagonal = next(e for e in parsed(chart).iter(f"{_SVG}line") if "diagonal" in e.attrib["class"])
    x1, y1, x2, y2 = (float(diagonal.attrib[name]) for name in ("x1", "y1", "x2", "y2"))
    on, below = points(chart, "line s0")[0], points(chart, "line s1")[0]
    assert on == ((x1 + x2) / 2, (y1 + y2) / 2)
    assert below[0] == on[0] and below[1] > on[1]


def test_names_stay_text_and_no_curves_are_no_fault() -> None:
    chart = roc_chart(HOSTILE, {HOSTILE: ([0.5], [0.5])}, None, None)
    assert not list(parsed(chart).iter(f"{_SVG}script"))
    assert parsed(chart).attrib["aria-label"] == HOSTILE and titles(chart) == [HOSTILE]
    for empty in (precision_recall_chart("m", {}), reliability_chart("m", ([], []), ([], []))):
        assert parsed(empty).attrib["role"] == "img"
