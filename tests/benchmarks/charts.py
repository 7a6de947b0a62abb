"""The charts of the page on performance."""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks.bench import Findings
from tests.benchmarks.contestants import BARE, KINDS, OURS
from tests.benchmarks.drawing import Bar, Panel, bars, panels

_LABELS = {BARE: ("bare Flask", "bare"), OURS: ("Flask-Idempotent", "ours")}
_HEADS = {
    "no key": "A request without a key",
    "first": "The first request with a key",
    "replay": "A replay",
}


def charts(findings: Mapping[str, Findings], peer: str) -> dict[str, str]:
    """Draw all charts; their file names without the ending are the keys."""
    return {
        "bench-cost": _cost(findings["cost"], peer),
        "bench-waking": _waking(findings["waking"]),
        "bench-growth": _growth(findings["records"], findings["claims"]),
    }


def _bar(name: str, value: float) -> Bar:
    label, kind = _LABELS.get(name, (name, "peer"))
    return Bar(label, value, kind)


def _cost(findings: Findings, peer: str) -> str:
    bare = findings[f"{BARE}, no key"].median
    groups = {
        _HEADS[kind]: [
            _bar(BARE, bare),
            *(_bar(name, findings[f"{name}, {kind}"].median) for name in (OURS, peer)),
        ]
        for kind in KINDS
    }
    return bars("cost", "Cost of a request", groups, "µs")


def _waking(findings: Findings) -> str:
    groups: dict[str, list[Bar]] = {}
    # The bar of the large group would make those of the small ones too short to compare.
    *small, _ = findings.series
    for series in small:
        name, _, title = series.name.partition(", ")
        head = title[0].upper() + title[1:]
        groups.setdefault(head, []).append(_bar(name, series.median))
    return bars("waking", findings.title, groups, "ms")


def _growth(records: Findings, claims: Findings) -> str:
    title = "Cost by the records on the server and the claims that a process holds"
    drawn = [_panel("Live records", records), _panel("Claims held", claims)]
    return panels("growth", title, drawn, "µs")


def _panel(title: str, findings: Findings) -> Panel:
    lines: dict[str, list[tuple[int, float]]] = {}
    for series in findings.series:
        act, _, rest = series.name.partition(", ")
        number = int(rest.split(" ")[0].replace(",", ""))
        lines.setdefault(act, []).append((number, series.median))
    return Panel(title, lines)
