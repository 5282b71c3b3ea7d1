"""Two kinds of SVG charts: bars with the spread of their runs, and lines over a size. Text and shapes only, no script.

Colours differ in lightness, too, so they can be told apart without colour vision and in print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
_LEFT, _RIGHT, _TOP = 190, 90, 64
_BAR, _GAP = 20, 8
_PLOT_HEIGHT = 260
_COLOURS = ("#1b3a5c", "#d1701a", "#6fa3c8", "#8c8c8c")
_INK, _FAINT = "#222222", "#dddddd"


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with the least and the greatest of its runs. Bars of a group have one colour."""

    label: str
    value: float
    low: float
    high: float
    group: int = 0


def bars(title: str, about: str, values: Sequence[Bar], groups: Sequence[str] = ()) -> str:
    """Return a chart of horizontal bars from 0 on."""
    most = max(bar.high for bar in values) or 1.0
    height = _TOP + len(values) * (_BAR + _GAP) + 16

    def across(value: float) -> float:
        return _LEFT + value / most * (WIDTH - _LEFT - _RIGHT)

    parts = _head(title, about, height, groups)
    for place, bar in enumerate(values):
        top = _TOP + place * (_BAR + _GAP)
        middle = top + _BAR / 2
        colour = _COLOURS[bar.group % len(_COLOURS)]
        parts += [
            _text(_LEFT - 8, middle + 4, bar.label, anchor="end"),
            f'<rect x="{_LEFT}" y="{top}" width="{across(bar.value) - _LEFT:.1f}" height="{_BAR}" fill="{colour}"/>',
            _line(across(bar.low), middle, across(bar.high), middle),
            _text(across(bar.high) + 6, middle + 4, number(bar.value)),
        ]
    return _svg(height, parts)


def lines(title: str, about: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a chart of lines over a size on a logarithmic axis. The other axis begins at 0."""
    points = [point for line in series.values() for point in line]
    least, most = (math.log10(bound(x for x, _ in points)) for bound in (min, max))
    top = max(y for _, y in points) or 1.0
    height = _TOP + _PLOT_HEIGHT + 40

    def across(x: float) -> float:
        return _LEFT + (math.log10(x) - least) / ((most - least) or 1.0) * (WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return _TOP + _PLOT_HEIGHT - y / top * _PLOT_HEIGHT

    parts = _head(title, about, height, tuple(series))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            _line(_LEFT, up(share * top), WIDTH - _RIGHT, up(share * top), _FAINT),
            _text(_LEFT - 8, up(share * top) + 4, number(share * top), anchor="end"),
        ]
    parts += [_text(across(x), height - 16, f"{x:,.0f}", anchor="middle") for x in sorted({x for x, _ in points})]
    for place, line in enumerate(series.values()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in line]
    return _svg(height, parts)


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _head(title: str, about: str, height: int, groups: Sequence[str]) -> list[str]:
    parts = [f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    parts += [_text(16, 24, title, size=16), _text(16, 44, about, size=11)]
    for place, name in enumerate(groups):
        left = _LEFT + 140 * place
        parts += [
            f'<rect x="{left}" y="50" width="10" height="10" fill="{_COLOURS[place % len(_COLOURS)]}"/>',
            _text(left + 14, 59, name, size=11),
        ]
    return parts


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{_INK}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = _INK) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _svg(height: int, parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    return "\n".join([head, *parts, "</svg>", ""])
