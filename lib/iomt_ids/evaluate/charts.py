"""Charts as inline SVG: no script, no address, colours from the page's style so that dark mode and print work.

Each function returns one `<svg role="img">` with a title for screen readers; the numbers stand in a
table beside it. Text is escaped here, names may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

_ROW = 24  # height of a row, px
_CELL = 25  # side of a heat map's cell, px
_LONG = 26  # characters of a name before it is cut
_CHAR = 7.0  # mean width of a character at 11.5 px, px


def interval_chart(label: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Scores of detectors on one axis, each with its interval.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    rows : sequence of mapping
        ``{"name", "leak_free", "all"}``; the last two ``(value, low, high)`` or None, fractions.

    Returns
    -------
    Markup
        Filled dot leak-free, hollow dot all features, a line for each interval.
    """
    left, right, width = 126, 340, 356
    found = [v for row in rows for key in ("leak_free", "all") if row[key] for v in row[key] if v is not None]
    if not found:
        return Markup("")
    step = next((s for s in (0.02, 0.05, 0.1) if 1 - 5 * s <= min(found)), 0.25)
    ticks = [1.0 - step * i for i in range(1 + min(round(1 / step), int((1 - min(found)) / step) + 1))]
    start = max(ticks[-1], 0.0)
    parts = []
    bottom = 8 + _ROW * len(rows)
    for value in ticks:
        x = left + (right - left) * (value - start) / (1 - start)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>'
            f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{bottom + 14}">{_short(value)}</text>'
        )
    for i, row in enumerate(rows):
        y = 8 + _ROW * (i + 0.5)
        parts.append(
            f'<text class="name" text-anchor="end" x="{left - 10}" y="{y + 4}">{_clip(row["name"], 19)}</text>'
        )
        both = row["leak_free"] and row["all"]
        for key, shift in (("all", 4 if both else 0), ("leak_free", -4 if both else 0)):
            if row[key]:
                parts.append(_interval(row[key], start, left, right, y + shift, key))
    return framed(width, bottom + 22, label, "".join(parts), "chart")


def _interval(values: Sequence[float | None], start: float, left: float, right: float, y: float, key: str) -> str:
    value, low, high = values
    if value is None:
        return ""

    def place(v: float) -> float:
        return left + (right - left) * (min(1.0, max(v, start)) - start) / (1 - start)

    line = ""
    if low is not None and high is not None:
        line = f'<line class="range {key}" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y}" y2="{y}"/>'
    return f'{line}<circle class="dot {key}" cx="{place(value):.1f}" cy="{y}" r="4"><title>{value:.4f}</title></circle>'


def heat_map(label: str, confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """A confusion matrix, shaded by the share of the true class's rows.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    confusion : sequence of sequence of int, shape (n, n)
        Row is the true class, column the predicted one.
    classes : sequence of str
        Their n names. A class that is neither true nor predicted is left out.

    Returns
    -------
    Markup
        Cells hold rounded percentages; pointing at one tells the counts.
    """
    kept = [i for i in range(len(classes)) if sum(confusion[i]) or any(row[i] for row in confusion)]
    names = [classes[i] for i in kept]
    left, side = 14 + _width(names), _CELL * len(kept)
    top = 24 + (left - 14) * 0.75
    parts = []
    for y, true in enumerate(kept):
        parts.append(_row_name(classes[true], left, top + _CELL * (y + 0.65)))
        for x, predicted in enumerate(kept):
            if count := confusion[true][predicted]:
                where = (left + _CELL * x, top + _CELL * y)
                parts.append(_cell(where, count, sum(confusion[true]), str(classes[true]), str(classes[predicted])))
    parts += _column_names(names, left, top)
    parts.append(f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" width="{side}" height="{side}"/>')
    # The last slanted name leans out to the right of the matrix.
    return framed(left + side + (left - 14) * 0.62, top + side + 6, label, "".join(parts), "heat")


def _cell(where: tuple[float, float], count: int, total: int, true: str, predicted: str) -> str:
    share = count / total
    shade = max(1, min(9, round(share * 9)))
    text = "" if share < 0.005 else f"{100 * share:.0f}"
    x, y = where
    kind = "hit" if true == predicted else "miss"
    told = f"{true} predicted as {predicted}: {count:,} of {total:,} rows, {100 * share:.1f} %"
    return (
        f'<g><title>{escape(told)}</title><rect class="{kind} o{shade}" x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" '
        f'width="{_CELL - 1}" '
        f'height="{_CELL - 1}"/><text class="n{" on" if shade > 4 else ""}" x="{x + _CELL / 2:.1f}" '
        f'y="{y + 16.5:.1f}">{text}</text></g>'
    )


def line_chart(label: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Curves over epochs, each named at its end.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    series : mapping of str to sequence of (float, float)
        Name to points (epoch, value), at most four; a curve without points is left out.
    """
    curves = {name: [p for p in points if p[1] is not None] for name, points in series.items()}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return Markup("")
    width, height, left, right, top, bottom = 356, 190, 40, 236, 10, 164
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    low, high, first, last = min(ys), max(ys), min(xs), max(xs)
    pad = (high - low) * 0.06 or 0.05
    low, high = low - pad, high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        return left + (right - left) * across, bottom - (bottom - top) * (y - low) / (high - low)

    parts = []
    for value in _ticks(low, high):
        y = place(first, value)[1]
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{y + 4:.1f}">{_short(value)}</text>'
        )
    for x in sorted({first, last}):
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{place(x, low)[0]:.1f}" y="{bottom + 16}">{x:g}</text>'
        )
    parts.append(f'<text class="tick" text-anchor="middle" x="{(left + right) / 2}" y="{bottom + 16}">epoch</text>')
    ends = _apart({name: place(*points[-1])[1] for name, points in curves.items()})
    for i, (name, points) in enumerate(curves.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
        mark = (
            ""
            if len(points) > 1
            else f'<circle class="s{i}" cx="{path.split(",")[0]}" cy="{path.split(",")[1]}" r="3"/>'
        )
        parts.append(
            f'<polyline class="line s{i}" points="{path}"/>{mark}'
            f'<text class="name s{i}" x="{right + 7}" y="{ends[name] + 4:.1f}">{_clip(name, 16)}</text>'
        )
    return framed(width, height, label, "".join(parts), "chart")


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between the two."""
    rough = (high - low) / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * s for s in (1, 2, 2.5, 5, 10) if scale * s >= rough)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """The same heights, pushed down where two labels would overlap."""
    placed: dict[str, float] = {}
    last = float("-inf")
    for name, y in sorted(heights.items(), key=lambda item: item[1]):
        last = max(y, last + 14)
        placed[name] = last
    return placed


def movement_map(label: str, rows: Sequence[tuple[str, Mapping[str, float]]], columns: Sequence[str]) -> Markup:
    """Which features move up or down, one row an attack.

    Parameters
    ----------
    label : str
        What is shown, for screen readers.
    rows : sequence of (str, mapping)
        Name and ``{feature: separation}``, -1 to 1; a feature that is not there is left blank.
    columns : sequence of str
        The features.
    """
    left, slant = 14 + _width(name for name, _ in rows), _width(columns)
    top, height = 20 + slant * 0.75, _CELL - 5
    parts = []
    for y, (name, moved) in enumerate(rows):
        line, edge = top + height * (y + 1), left + _CELL * len(columns)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{edge:.1f}" y1="{line:.1f}" y2="{line:.1f}"/>')
        parts.append(_row_name(name, left, line - 0.35 * height))
        for x, column in enumerate(columns):
            if (value := moved.get(column)) is not None:
                told = f"{name}: {column} {_way(value)[1]} than benign, separation {value:+.2f}"
                parts.append(
                    f'<g><title>{escape(told)}</title><rect class="{_way(value)[0]} o{max(1, round(abs(value) * 9))}" '
                    f'x="{left + _CELL * x + 1:.1f}" y="{line - height + 1:.1f}" '
                    f'width="{_CELL - 2}" height="{height - 2}"/></g>'
                )
    parts += _column_names(columns, left, top)
    return framed(left + _CELL * len(columns) + slant * 0.62, top + height * len(rows) + 4, label, "".join(parts), "heat")


def _way(value: float) -> tuple[str, str]:
    return ("up", "higher") if value > 0 else ("down", "lower")


def _row_name(name: object, left: float, y: float) -> str:
    return f'<text class="name" text-anchor="end" x="{left - 8:.1f}" y="{y:.1f}">{_clip(name, _LONG)}</text>'


def _column_names(names: Sequence[object], left: float, top: float) -> list[str]:
    """Slanted, so that the columns can stay narrow."""
    return [
        f'<text class="name" transform="translate({left + _CELL * (x + 0.62):.1f} {top - 8:.1f}) rotate(-50)">'
        f"{_clip(name, _LONG)}</text>"
        for x, name in enumerate(names)
    ]


def _width(names: Iterable[object]) -> float:
    """Of the longest name, px."""
    return _CHAR * max((len(_cut(name, _LONG)) for name in names), default=0)


def framed(width: float, height: float, label: str, body: str, kind: str) -> Markup:
    """The picture of a body whose names went through escape, at its size in px."""
    # Drawn at its natural size, so that text in it is as large as the text around it.
    return Markup(  # noqa: S704 - every name in the body went through escape
        f'<svg class="{kind}" role="img" aria-label="{escape(label)}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">{body}</svg>'
    )


def _cut(name: object, length: int) -> str:
    text = str(name)
    return text if len(text) <= length else text[: length - 1] + "…"


def _clip(name: object, length: int) -> Markup:
    return escape(_cut(name, length))


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.2f}".rstrip("0").rstrip(".") or "0"
