"""Charts as SVG, in the colours of the page's light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
#: Where bars begin, where the longest ends, and the height of a bar with and without its gap.
_LEFT, _RIGHT, _STEP, _BAR = 190, 650, 27, 20
_GAP = 18

_LIGHT = {
    "ink": ("foreground-primary", "#1b1f24"),
    "soft": ("foreground-secondary", "#57606a"),
    "line": ("foreground-muted", "#6e7781"),
    "rail": ("background-border", "#d0d7de"),
    "ours": ("brand-content", "#0a58ca"),
}
_DARK = {
    "ink": "#e6edf3",
    "soft": "#9da7b1",
    "line": "#8b949e",
    "rail": "#30363d",
    "ours": "#6ea8fe",
}


@dataclass(frozen=True)
class Bar:
    """One bar.

    :param label: what it is.
    :param value: how long it is.
    :param kind: ``ours``, ``peer`` or ``bare``.
    """

    label: str
    value: float
    kind: str


def _variables(fallbacks: Mapping[str, str]) -> str:
    return " ".join(
        f"--{name}: var(--color-{color}, {fallbacks.get(name, fallback)});"
        for name, (color, fallback) in _LIGHT.items()
    )


def _style(root: str) -> str:
    return f"""<style>
.{root} {{ {_variables({})} color-scheme: light dark; }}
.{root} {{ max-width: 100%; height: auto; display: block; margin: 1.5rem auto; }}
@media (prefers-color-scheme: dark) {{ .{root} {{ {_variables(_DARK)} }} }}
.{root} text {{ font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }}
.{root} .head {{ font-weight: 600; }}
.{root} .soft {{ fill: var(--soft); }}
.{root} .end {{ text-anchor: end; }}
.{root} .middle {{ text-anchor: middle; }}
.{root} .ours {{ fill: var(--ours); }}
.{root} .peer {{ fill: var(--line); }}
.{root} .bare {{ fill: var(--line); opacity: 0.45; }}
.{root} path {{ fill: none; stroke: var(--rail); }}
.{root} path.first {{ stroke: var(--ours); stroke-width: 2.5; }}
.{root} path.second {{ stroke: var(--line); stroke-width: 2.5; }}
.{root} circle.first {{ fill: var(--ours); }}
.{root} circle.second {{ fill: var(--line); }}
</style>"""


def _svg(name: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    root = f"fi-{name}"
    labels = f'role="img" aria-labelledby="{root}-title {root}-desc"'
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}"'
    head = [
        f'<svg class="{root}" xmlns="http://www.w3.org/2000/svg" {size} {labels}>',
        f'<title id="{root}-title">{escape(title)}</title>',
        f'<desc id="{root}-desc">{escape(description)}</desc>',
        _style(root),
    ]
    return "\n".join([*head, *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def bars(name: str, title: str, groups: Mapping[str, Sequence[Bar]], unit: str) -> str:
    """Draw groups of bars on one scale.

    :param name: names the chart on its page.
    """
    longest = max(bar.value for group in groups.values() for bar in group)
    parts, y, described = [], 22.0, []
    for head, group in groups.items():
        parts.append(_text(8, y, head, "head"))
        y += 12
        for bar in group:
            length = max(2.0, (_RIGHT - _LEFT) * bar.value / longest)
            value = f"{bar.value:,.0f}" if bar.value >= 100 else f"{bar.value:.3g}"
            place = f'x="{_LEFT}" y="{y:g}" width="{length:.1f}" height="{_BAR}" rx="3"'
            parts += [
                _text(_LEFT - 10, y + 15, bar.label, "end" if bar.kind == "ours" else "end soft"),
                f'<rect class="{bar.kind}" {place}/>',
                _text(_LEFT + length + 8, y + 15, f"{value} {unit}"),
            ]
            described.append(f"{head}, {bar.label}: {value} {unit}")
            y += _STEP
        y += _GAP
    return _svg(name, title, "; ".join(described) + ".", y - _GAP, parts)


@dataclass(frozen=True)
class Panel:
    """A chart of lines over a logarithmic scale.

    :param title: what the horizontal scale counts.
    :param lines: the points of each line; there are styles for two.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[int, float]]]


_TOP, _BOTTOM, _MARGIN, _BETWEEN = 44, 244, 64, 24


def panels(name: str, title: str, drawn: Sequence[Panel], unit: str) -> str:
    """Draw panels side by side, each with its own scale from zero."""
    width = (WIDTH - _BETWEEN * (len(drawn) - 1)) / len(drawn)
    parts, described = [], []
    for index, panel in enumerate(drawn):
        parts += _panel(panel, index * (width + _BETWEEN), width, unit)
        for line, points in panel.lines.items():
            values = ", ".join(f"{value:,.0f} {unit} at {x:,}" for x, value in points)
            described.append(f"{panel.title}, {line}: {values}")
    return _svg(name, title, "; ".join(described) + ".", _BOTTOM + 48, parts)


def _panel(panel: Panel, x: float, width: float, unit: str) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    lows, highest = [math.log10(number) for number, _ in points], max(value for _, value in points)
    step = _round_step(highest / 3)
    top = step * math.ceil(1.1 * highest / step)
    left, right = x + _MARGIN, x + width - 40

    def at(number: int, value: float) -> tuple[float, float]:
        along = (math.log10(number) - min(lows)) / ((max(lows) - min(lows)) or 1)
        return left + along * (right - left), _BOTTOM - (_BOTTOM - _TOP) * value / top

    parts = [_text(x + 8, 18, panel.title, "head")]
    for mark in range(round(top / step) + 1):
        _, y = at(points[0][0], mark * step)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        label = f"{mark * step:,.0f}" + (f" {unit}" if mark * step == top else "")
        parts.append(_text(left - 8, y + 5, label, "end soft"))
    for number in sorted({number for number, _ in points}):
        parts.append(_text(at(number, 0)[0], _BOTTOM + 22, f"{number:,}", "middle soft"))
    for (label, line), style in zip(panel.lines.items(), ("first", "second"), strict=False):
        places = [at(*point) for point in line]
        parts.append(
            f'<path class="{style}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'
        )
        parts += [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places]
        parts.append(_text(places[0][0] + 4, places[0][1] - 10, label))
    return parts


def _round_step(about: float) -> float:
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about)
