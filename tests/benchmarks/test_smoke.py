"""All that `make bench` measures, prints and draws, with the smallest sizes."""

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
    """Each measure has figures, and each is in the printed text, on the page and in the charts."""
    result = run(Bench(clean_valkey, valkey_binary(), TINY, STAND_IN))
    assert list(result.findings) == list(MEASURES)
    printed, written = as_text(result), json.loads(as_json(result))
    for name, findings in result.findings.items():
        assert findings.series, name
        assert all(series.name in printed for series in findings.series)
        assert len(written["findings"][name]["series"]) == len(findings.series)
    assert all(target.name in printed for target in result.targets)
    page = (ROOT / "docs" / "performance.md").read_text()
    parts = as_markdown(result)
    assert all(part in filled(page, parts) for part in parts.values())
    for name, chart in charts(result.findings, STAND_IN).items():
        ElementTree.fromstring(chart)
        assert f"_static/{name}.svg" in page
