"""ROC, precision-recall and reliability as inline SVG, in the manner of `charts`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from iomt_ids.evaluate.charts import framed

_WIDTH, _HEIGHT = 356, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 344, 10, 196
# The least rate that a ROC shows: one false alarm in a million.
_DECADES = 6
_FIFTHS = tuple(i / 5 for i in range(6))
_Curve = tuple[Sequence[float], Sequence[float]]


def roc_chart(label: str, classes: Mapping[str, _Curve], alarm: _Curve | None, at: int | None) -> Markup:
    """Recall by false-positive rate, one thin line a class and a thick one for "any alert".

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    classes : mapping of str to (sequence of float, sequence of float)
        Name to false-positive rates and recalls, both rising.
    alarm : (sequence of float, sequence of float), optional
        False-alarm rates and recalls of the alarm score.
    at : int, optional
        Place in `alarm` of the operating point, drawn as a dot that a script may move.

    Returns
    -------
    Markup
        The horizontal axis is logarithmic: what matters on a ward happens far below one in a hundred.
    """
    parts = [_thin(name, [roc_place(x, y) for x, y in zip(*curve, strict=True)]) for name, curve in classes.items()]
    if alarm:
        parts.append(_line("line s0", [roc_place(x, y) for x, y in zip(*alarm, strict=True)]))
        if at is not None:
            x, y = roc_place(alarm[0][at], alarm[1][at])
            parts.append(f'<circle class="at" data-at="" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    ticks = [(roc_place(10.0**-d, 0)[0], "1" if d == 0 else f"1e-{d}") for d in range(_DECADES, -1, -1)]
    return _chart(label, parts, ticks, "false-positive rate")


def roc_place(rate: float, recall: float) -> tuple[float, float]:
    """Where a point of a ROC is drawn, px."""
    across = 1 + math.log10(max(rate, 10.0**-_DECADES)) / _DECADES
    return _LEFT + (_RIGHT - _LEFT) * across, _place(0, recall)[1]


def precision_recall_chart(label: str, classes: Mapping[str, _Curve]) -> Markup:
    """Precision by recall, one thin line a class.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    classes : mapping of str to (sequence of float, sequence of float)
        Name to recalls and precisions.
    """
    parts = [_thin(name, [_place(x, y) for x, y in zip(*curve, strict=True)]) for name, curve in classes.items()]
    return _chart(label, parts, [(_place(v, 0)[0], f"{v:g}") for v in _FIFTHS], "recall")


def reliability_chart(label: str, before: _Curve, after: _Curve) -> Markup:
    """Share of right answers by what the model said of them, as it is and with its temperature.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    before, after : (sequence of float, sequence of float)
        Mean confidence and accuracy of each bin.

    Returns
    -------
    Markup
        A model that is as sure as it should be lies on the diagonal.
    """
    (x1, y1), (x2, y2) = _place(0, 0), _place(1, 1)
    parts = [f'<line class="grid diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>']
    for style, curve in (("s1", before), ("s0", after)):
        points = [_place(x, y) for x, y in zip(*curve, strict=True)]
        parts.append(_line(f"line {style}", points))
        parts += [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    return _chart(label, parts, [(_place(v, 0)[0], f"{v:g}") for v in _FIFTHS], "confidence")


def coverage_chart(label: str, levels: Mapping[str, _Curve]) -> Markup:
    """Share of wrong answers by share of rows answered, one line a level, up to the highest error there is.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    levels : mapping of str to (sequence of float, sequence of float)
        Name to coverages and errors.
    """
    most = max(error for _, errors in levels.values() for error in errors) or 1.0
    parts = []
    for i, (name, (coverage, errors)) in enumerate(levels.items()):
        line = _line(f"line s{i}", [_place(x, y / most) for x, y in zip(coverage, errors, strict=True)])
        parts.append(f"<g><title>{escape(name)}</title>{line}</g>")
    ticks = [(_place(v, 0)[0], f"{v:g}") for v in _FIFTHS]
    return _chart(label, parts, ticks, "share of rows answered", [f"{most * v:.2g}" for v in _FIFTHS])


def _place(x: float, y: float) -> tuple[float, float]:
    return _LEFT + (_RIGHT - _LEFT) * x, _BOTTOM - (_BOTTOM - _TOP) * y


def _thin(name: str, points: Sequence[tuple[float, float]]) -> str:
    return f"<g><title>{escape(name)}</title>{_line('line thin', points)}</g>"


def _line(style: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _chart(
    label: str, parts: Sequence[str], ticks: Sequence[tuple[float, str]], axis: str, heights: Sequence[str] | None = None
) -> Markup:
    grid = []
    for value, height in zip(_FIFTHS, heights or [f"{v:g}" for v in _FIFTHS], strict=True):
        y = _place(0, value)[1]
        grid.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                    f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{height}</text>')
    for x, text in ticks:
        grid.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_BOTTOM}"/>'
                    f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{_BOTTOM + 16}">{text}</text>')
    grid.append(f'<text class="tick" text-anchor="middle" x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 34}">{axis}</text>')
    return framed(_WIDTH, _HEIGHT, label, "".join([*grid, *parts]), "chart")
