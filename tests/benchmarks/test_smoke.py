"""The benchmarks run, if only for a moment: what `make bench` measures, prints and draws."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from tests.benchmarks.__main__ import MEASURES, run
from tests.benchmarks.bench import TINY, Bench
from tests.benchmarks.charts import charts
from tests.benchmarks.contestants import STAND_IN
from tests.benchmarks.report import as_json, as_markdown, as_text, filled
from tests.support.redis_servers import Server, valkey_binary
from tests.support.web_servers import ROOT


def test_every_measure_is_taken_printed_and_drawn(clean_valkey: Server) -> None:
    """Each measure finds figures, and each has its place in the print, the page and the charts."""
    found = run(Bench(clean_valkey, valkey_binary(), TINY, STAND_IN))
    assert list(found.findings) == list(MEASURES)
    printed, written = as_text(found), json.loads(as_json(found))
    for name, findings in found.findings.items():
        assert findings.series, name
        assert all(series.name in printed for series in findings.series)
        assert len(written["findings"][name]["series"]) == len(findings.series)
    assert all(target.name in printed for target in found.targets)
    page = (ROOT / "docs" / "performance.md").read_text()
    parts = as_markdown(found)
    assert all(part in filled(page, parts) for part in parts.values())
    for name, chart in charts(found.findings, STAND_IN).items():
        ElementTree.fromstring(chart)
        assert f"_static/{name}.svg" in page
