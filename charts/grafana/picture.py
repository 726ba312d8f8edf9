"""Decides how a dashboard looks that is drawn from the answers to its own queries: what Grafana shows, without Grafana.

An SVG, written by hand: a text that two drawings of the same answers have in common, and no library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

_CELL: Final = 50
"""Width of one of a dashboard's 24 columns; all lengths are in units of the picture."""
_ROW: Final = 27
_GAP: Final = 6
_HEAD: Final = 44
_LEGENDS: Final = 6
"""Series of a panel that are named, fewer where it is narrow; the last place says how many more there are."""
_NARROW: Final = 500
_COLORS: Final = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#8ab8ff", "#b877d9", "#96d98d", "#ffb357")
_NAMED: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
_INK, _DIM, _GRID, _PANEL, _GROUND = "#d8d9da", "#8e8e99", "#2c3235", "#181b1f", "#111217"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series of a panel."""

    legend: str
    points: Sequence[tuple[float, float]]
    """Seconds since 1970, and the value, in the order of time."""


@dataclass(frozen=True, kw_only=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


def picture(dashboard: Mapping[str, Any], lines: Mapping[int, Sequence[Line]], *, note: str) -> str:
    """Return an SVG of ``dashboard``, Grafana's JSON; ``lines`` has those of each panel by its id. ``note`` says whence it comes."""
    panels: list[dict[str, Any]] = dashboard["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = 24 * _CELL, bottom * _ROW + _HEAD + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{width}" height="{height}" fill="{_GROUND}"/>',
        _text(10, 27, dashboard["title"], size=17),
        _text(width - 10, 27, note, size=11, color=_DIM, anchor="end"),
    ]
    for panel in panels:
        at = panel["gridPos"]
        box = _Box(
            x=at["x"] * _CELL + _GAP / 2,
            y=at["y"] * _ROW + _HEAD,
            width=at["w"] * _CELL - _GAP,
            height=at["h"] * _ROW - _GAP,
        )
        parts += _drawn(panel, lines.get(panel["id"], ()), box)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(panel: Mapping[str, Any], lines: Sequence[Line], box: _Box) -> list[str]:
    if panel["type"] == "row":
        return [_text(box.x + 4, box.y + 15, f"▾ {panel['title']}", size=13)]
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    parts = [
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" fill="{_PANEL}" stroke="{_GRID}"/>',
        _text(box.x + 8, box.y + 17, _cut(panel["title"], box.width), size=12),
    ]
    lines = [line for line in lines if line.points]
    if not lines:
        return [
            *parts,
            _text(box.x + box.width / 2, box.y + box.height / 2 + 6, "No data", color=_DIM, anchor="middle"),
        ]
    match panel["type"]:
        case "stat":
            value, at = lines[0].points[-1][1], box.y + box.height / 2 + 22
            color = _threshold(panel, value)
            return [
                *parts,
                _text(box.x + box.width / 2, at, _written(value, unit), size=30, color=color, anchor="middle"),
            ]
        case "bargauge":
            return parts + _bars(panel, lines, unit, box)
        case _:
            return parts + _chart(lines, unit, box)


def _threshold(panel: Mapping[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return _NAMED[[step["color"] for step in steps if step.get("value") is None or step["value"] <= value][-1]]


def _bars(panel: Mapping[str, Any], lines: Sequence[Line], unit: str, box: _Box) -> list[str]:
    parts, height = [], min(34.0, (box.height - 34) / len(lines))
    for number, line in enumerate(sorted(lines, key=lambda line: line.legend)):
        share = line.points[-1][1]
        y, left, full = box.y + 30 + number * height, box.x + 10, box.width - 90
        color = _threshold(panel, share)
        parts += [
            _text(left, y + 9, line.legend, size=10, color=_DIM),
            f'<rect x="{left:g}" y="{y + 13:g}" width="{full:g}" height="{height - 20:g}" fill="{_GRID}"/>',
            f'<rect x="{left:g}" y="{y + 13:g}" width="{full * min(1, share):.1f}" height="{height - 20:g}" fill="{color}"/>',
            _text(box.x + box.width - 10, y + 24, _written(share, unit), size=12, color=color, anchor="end"),
        ]
    return parts


def _chart(lines: Sequence[Line], unit: str, box: _Box) -> list[str]:
    columns, most_named = (1, _LEGENDS - 2) if box.width < _NARROW else (2, _LEGENDS)
    named = min(len(lines), most_named)
    left, right = box.x + 62, box.x + box.width - 10
    top, bottom = box.y + 30, box.y + box.height - 22 - 14 * -(-named // columns)
    times = [when for line in lines for when, _ in line.points]
    first, last = min(times), max(times)
    most = _ceiling(max(value for line in lines for _, value in line.points))

    def at(when: float, value: float) -> str:
        x = left + (when - first) / (last - first or 1) * (right - left)
        return f"{x:.1f},{bottom - value / most * (bottom - top):.1f}"

    parts = []
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        parts += [
            f'<line x1="{left:g}" x2="{right:g}" y1="{y:g}" y2="{y:g}" stroke="{_GRID}"/>',
            _text(left - 5, y + 4, _written(most * share, unit), size=9, color=_DIM, anchor="end"),
        ]
    for when, anchor in ((first, "start"), (last, "end")):
        clock = datetime.fromtimestamp(when, UTC).strftime("%H:%M:%S")
        parts.append(_text(left if anchor == "start" else right, bottom + 11, clock, size=9, color=_DIM, anchor=anchor))
    for number, line in enumerate(lines):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(at(when, value) for when, value in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        if number < named:
            more = len(lines) - number - 1
            legend = f"and {more + 1} more" if number == most_named - 1 and more else line.legend
            room = (right - left) / columns
            x, y = left + number % columns * room, bottom + 26 + number // columns * 14
            parts.append(f'<rect x="{x:g}" y="{y - 6:g}" width="10" height="3" fill="{color}"/>')
            parts.append(_text(x + 14, y, _cut(legend, room - 16), size=10, color=_INK))
    return parts


def _ceiling(most: float) -> float:
    """Return the next round number, where an axis ends."""
    if most <= 0:
        return 1
    step = 10.0 ** (len(f"{most:.0f}") - 1)
    while step > most:
        step /= 10
    return next(step * factor for factor in (1, 2, 3, 4, 5, 6, 8, 10) if step * factor >= most)


def _written(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "s" if 0 < value < 1:
            return f"{value * 1000:.3g} ms"
        case "s":
            return f"{value:.3g} s"
        case "bytes":
            return f"{value / 2**20:.0f} MiB"
        case "currencyUSD":
            return f"${value:.3g}"
        case "reqps":
            return f"{value:.3g}/s"
        case _:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cut(text: str, width: float) -> str:
    most = max(4, int(width / 5.8))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(x: float, y: float, text: str, *, size: int = 12, color: str = _INK, anchor: str = "start") -> str:
    where = f'x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}"'
    return f'<text {where} text-anchor="{anchor}">{escape(text)}</text>'
