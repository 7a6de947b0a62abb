"""Reports: the figures as text for a terminal, as JSON, and as Markdown for the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.benchmarks.bench import Findings, Target
from tests.benchmarks.layers import OURS_IS, PROFILED
from tests.benchmarks.series import Series


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks.

    :param facts: machine and versions.
    :param findings: the figures of each measure, by its name.
    """

    facts: Mapping[str, str]
    findings: Mapping[str, Findings]

    @property
    def targets(self) -> list[Target]:
        return [target for findings in self.findings.values() for target in findings.targets]


def number(value: float) -> str:
    """Write a figure with three significant digits."""
    if value == int(value):
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


# For a terminal.


def as_text(run: Run) -> str:
    """Every figure with its spread, and whether the targets are met."""
    lines = [f"{name:>10}  {fact}" for name, fact in run.facts.items()]
    for findings in run.findings.values():
        lines += ["", findings.title, *_rows(map(_figure, findings.series)), *findings.notes]
    if run.targets:
        lines += ["", "Targets", *_rows([_JUDGED, *map(_judged, run.targets)])]
    return "\n".join(lines)


def _figure(series: Series) -> tuple[str, ...]:
    low, high = map(number, series.quartiles)
    spread = f"{low} to {high}" if len(series.values) > 1 else ""
    return series.name, _with_unit(series.median, series.unit), spread


_JUDGED = ("what", "measured", "limit", "aim", "verdict")


def _judged(target: Target) -> tuple[str, ...]:
    measured, limit = (_with_unit(figure, target.unit) for figure in (target.value, target.limit))
    bound = "at least" if target.is_minimum else "at most"
    aim = "" if target.aim is None else _with_unit(target.aim, target.unit)
    return target.name, measured, f"{bound} {limit}", aim, "met" if target.met else "NOT MET"


def _rows(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  " + "   ".join([first.ljust(widths[0]), *cells]).rstrip()


# For programs.


def as_json(run: Run) -> str:
    """Every value of every round."""
    measures = {
        name: {
            "title": findings.title,
            "series": [
                {"name": s.name, "unit": s.unit, "median": s.median, "quartiles": s.quartiles,
                 "values": s.values}
                for s in findings.series
            ],
            "targets": [{**vars(target), "met": target.met} for target in findings.targets],
        }
        for name, findings in run.findings.items()
    }  # fmt: skip
    return json.dumps(
        {"facts": dict(run.facts), "findings": measures}, indent=1, ensure_ascii=False
    )


# For the documentation.

#: The measures that the page shows as tables.
_TABLES = (
    "cost", "commands", "waking", "records", "claims", "waiters", "memory", "compression", "load",
    "uploads", "start", "exactly_once", "statements", "steps", "step_commands", "sealing",
    "sealed_record", "confirmation", "nodes",
)  # fmt: skip
#: Microseconds: layers that take less than this in every kind of request share a row.
_LITTLE = 1.0


def as_markdown(run: Run) -> dict[str, str]:
    """The parts of the page on performance, by the names of their places in it."""
    parts = {
        "machine": "\n".join(f"- {name}: {fact}" for name, fact in run.facts.items()),
        "targets": _table(_JUDGED, map(_judged, run.targets)),
        "profile": _profile(run.findings["layers"]),
    }
    return parts | {name: _shown(run.findings[name]) for name in _TABLES}


def _shown(findings: Findings) -> str:
    return "\n\n".join([_table_of(findings), *findings.notes])


def _table_of(findings: Findings) -> str:
    if any(len(series.values) > 1 for series in findings.series):
        head = ("what", "median", "half of the rounds")
        return _table(head, map(_figure, findings.series))
    # Counts have no spread: a column for each contestant.
    cells: dict[str, dict[str, str]] = {}
    for series in findings.series:
        name, _, what = series.name.partition(", ")
        cells.setdefault(what, {})[name] = _with_unit(series.median, series.unit)
    names = list(dict.fromkeys(name for row in cells.values() for name in row))
    rows = ((what, *(row.get(name, "") for name in names)) for what, row in cells.items())
    return _table(("", *names), rows)


def _profile(findings: Findings) -> str:
    columns = [f"{name}, {kind}" for name, kind in PROFILED]
    times: dict[str, list[float]] = {}
    for series in findings.series:
        column, _, layer = series.name.partition(": ")
        times.setdefault(layer, [0.0] * len(columns))[columns.index(column)] = series.median
    whole = _sums(times.values())
    little = [layer for layer, row in times.items() if max(row) < _LITTLE]
    rest = _sums(times.pop(layer) for layer in little)
    rows = {**times, f"{OURS_IS}all else": rest, "**whole request**": whole}
    order = sorted(times, key=lambda layer: (layer.startswith(OURS_IS), -sum(times[layer])))
    return _table(
        ("µs in", *columns),
        ((layer, *map(_microseconds, rows[layer])) for layer in dict.fromkeys([*order, *rows])),
    )


def _sums(rows: Iterable[list[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _microseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Put each part in its place in a page, between ``<!-- name -->`` and ``<!-- /name -->``."""
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, after = page.partition(begin)
        assert end in after, f"the page has no place for {name}"
        page = f"{before}{begin}\n{part}\n\n{end}{after.partition(end)[2]}"
    return page
