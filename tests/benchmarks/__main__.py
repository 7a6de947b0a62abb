"""Runs the benchmarks, prints the figures, and writes them into the documentation."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.benchmarks import (
    commands,
    cost,
    exactly_once,
    fleets,
    growth,
    layers,
    load,
    memory,
    sealing,
    start,
    steps,
    uploads,
    waking,
)
from tests.benchmarks.bench import FULL, Bench, Findings
from tests.benchmarks.charts import charts
from tests.benchmarks.contestants import PEER
from tests.benchmarks.machine import facts
from tests.benchmarks.pinning import pin
from tests.benchmarks.report import Run, as_json, as_markdown, as_text, filled
from tests.support.redis_servers import Server, redis_binary, valkey_binary
from tests.support.web_servers import ROOT

MEASURES: dict[str, Callable[[Bench], Findings]] = {
    "cost": cost.measure,
    "commands": commands.measure,
    "exactly_once": exactly_once.measure,
    "statements": exactly_once.statements,
    "steps": steps.measure,
    "step_commands": steps.commands,
    "sealing": sealing.requests,
    "sealed_record": sealing.record,
    "confirmation": fleets.confirmation,
    "nodes": fleets.nodes,
    "memory": memory.measure,
    "compression": memory.compression,
    "waking": waking.measure,
    "records": growth.records,
    "claims": growth.claims,
    "waiters": growth.waiters,
    "load": load.measure,
    "uploads": uploads.measure,
    "start": start.measure,
    "layers": layers.measure,
}

_BINARIES = {"valkey": valkey_binary, "redis": redis_binary}


def run(bench: Bench, names: Iterable[str] = MEASURES) -> Run:
    """Take some measures, each on an empty server."""
    findings = {}
    for name in names:
        began = time.monotonic()
        bench.server.client.flushall()
        findings[name] = MEASURES[name](bench)
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return Run(facts(bench.server), findings)


def _write(run: Run, docs: Path) -> None:
    for name, chart in charts(run.findings, PEER).items():
        (docs / "_static" / f"{name}.svg").write_text(chart)
    page = docs / "performance.md"
    page.write_text(filled(page.read_text(), as_markdown(run)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASURES, metavar="NAME",
                        help=f"only these of {', '.join(MEASURES)}; writes no files")  # fmt: skip
    parser.add_argument("--server", choices=_BINARIES, default="valkey")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        binary = _BINARIES[arguments.server]()
        server = Server(binary, Path(folder)).start()
        pin(server.client.info("server")["process_id"])
        try:
            result = run(Bench(server, binary, FULL, PEER), arguments.only or MEASURES)
        finally:
            server.stop()
    print(as_text(result))
    if not arguments.only:
        build = ROOT / "build"
        build.mkdir(exist_ok=True)
        (build / "bench.json").write_text(as_json(result))
        _write(result, ROOT / "docs")


if __name__ == "__main__":
    main()
