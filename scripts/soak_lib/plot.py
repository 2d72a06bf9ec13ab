"""The samples of a run as an SVG picture: a panel for each thing, time from left to right. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from figures import number
from samples import rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samples import Happened, Outcome, Sample

_WIDTH, _LEFT, _RIGHT = 900, 70, 20
_TOP, _PANEL, _BETWEEN = 40, 110, 34
_INK, _GREY = "#222", "#999"
_COLOURS = ("#1f6feb", "#d1572c")
_STEPS = 6


class _Line(NamedTuple):
    name: str
    values: list[float]


class _Panel(NamedTuple):
    title: str
    unit: str
    lines: list[_Line]


def _panels(samples: Sequence[Sample]) -> list[_Panel]:
    mean = [one.lag_mean_s * 1e3 for one in samples]
    worst = [one.lag_worst_s * 1e3 for one in samples]
    return [
        _Panel("memory", "MB", [
            _Line("RSS", [one.rss_bytes / 1e6 for one in samples]),
            _Line("at its highest", [one.peak_bytes / 1e6 for one in samples]),
        ]),
        _Panel("lag", "ms", [_Line("mean", mean), _Line("worst", worst)]),
        _Panel("drift", "processes", [
            _Line("only in the tree", [float(one.only_tree) for one in samples]),
            _Line("only in /proc", [float(one.only_proc) for one in samples]),
        ]),
        _Panel("lost", "records", [
            _Line("said to be lost so far", [float(one.lost) for one in samples])
        ]),
        _Panel("pace", "events/s", [_Line("told", rates(samples))]),
    ]  # fmt: skip


def svg(outcome: Outcome) -> str:
    """Return the picture."""
    panels = _panels(outcome.samples)
    height = _TOP + len(panels) * (_PANEL + _BETWEEN) + 10
    end_s = max((one.at_s for one in outcome.samples), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        '<g font-family="sans-serif" font-size="12">',
    ]
    bottom = _TOP + len(panels) * (_PANEL + _BETWEEN) - _BETWEEN
    parts += [_mark(one, end_s, bottom) for one in outcome.happened if not one.trouble]
    for index, panel in enumerate(panels):
        top = _TOP + index * (_PANEL + _BETWEEN)
        parts += _drawn(panel, [one.at_s for one in outcome.samples], end_s, top)
    parts += [
        _text(_x(end_s * step / _STEPS, end_s), bottom + 16, _time(end_s * step / _STEPS, end_s))
        for step in range(_STEPS + 1)
    ]
    return "\n".join([*parts, "</g></svg>"]) + "\n"


def _x(at_s: float, end_s: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / end_s


def _time(at_s: float, end_s: float) -> str:
    return f"{at_s / 60:.0f} min" if end_s > 60 * _STEPS else f"{at_s:.0f} s"


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = _INK) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"


def _mark(one: Happened, end_s: float, bottom: float) -> str:
    x = _x(min(one.at_s, end_s), end_s)
    line = (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 12}" y2="{bottom}" '
        f'stroke="{_GREY}" stroke-dasharray="3 3"/>'
    )
    return line + _text(x, _TOP - 20, one.name, colour=_GREY)


def _drawn(panel: _Panel, at_s: Sequence[float], end_s: float, top: float) -> list[str]:
    highest = max((value for line in panel.lines for value in line.values), default=0.0) or 1.0
    bottom = top + _PANEL
    parts = [
        f'<path d="M{_LEFT} {top} V{bottom} H{_WIDTH - _RIGHT}" fill="none" stroke="{_INK}"/>',
        _text(_LEFT - 6, top + 10, number(highest), "end"),
        _text(_LEFT - 6, bottom, "0", "end"),
        _text(_LEFT + 4, top - 5, f"{panel.title} ({panel.unit})", "start"),
    ]
    for index, (line, colour) in enumerate(zip(panel.lines, _COLOURS, strict=False)):
        points = " ".join(
            f"{_x(at, end_s):.1f},{bottom - _PANEL * value / highest:.1f}"
            for at, value in zip(at_s, line.values, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        parts.append(_text(_WIDTH - _RIGHT - 160 * index, top - 5, line.name, "end", colour))
    return parts
