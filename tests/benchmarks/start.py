"""What importing and setting up a library costs an application before its first request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial

from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import OURS, PEER
from tests.benchmarks.series import Series, in_turns
from tests.support.web_servers import ROOT

#: Runs in an interpreter of its own; each library is imported after Flask.
_PROGRAM = """
import json, sys, threading, time
import flask
from tests.benchmarks import contestants

calls = []
sys.addaudithook(lambda event, _: calls.append(event) if event == "socket.connect" else None)
app = contestants.make("bare", "redis://127.0.0.1:1")
began = time.perf_counter()
import {module}
imported = time.perf_counter()
{set_up}
done = time.perf_counter()
print(json.dumps([
    1e3 * (imported - began), 1e3 * (done - imported), len(calls), threading.active_count() - 1
]))
"""
_LIBRARIES = {
    OURS: ("flask_idempotent", "flask_idempotent.Idempotent(app)"),
    PEER: (
        "idemkit",
        "idemkit.WSGIIdempotencyMiddleware(app, backend="
        "idemkit.RedisBackend.from_url('redis://127.0.0.1:1'), "
        "config=idemkit.HttpConfig(scope_mode='single_tenant'))",
    ),
}
_FIGURES = {"import": "ms", "set-up": "ms", "connections": "", "threads": ""}


def _start(library: str, cache: str) -> list[float]:
    # As elsewhere, a library is compiled once, and the compiled files are kept.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
    module, set_up = _LIBRARIES[library]
    program = _PROGRAM.format(module=module, set_up=set_up)
    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=environment, capture_output=True, check=True,
    ).stdout  # fmt: skip
    figures: list[float] = json.loads(output)
    return figures


def measure(bench: Bench) -> Findings:
    """Measure in a new process each time."""
    names = [name for name in (OURS, bench.peer) if name in _LIBRARIES]
    with tempfile.TemporaryDirectory() as cache:
        turns = {name: partial(_start, name, cache) for name in names}
        for start in turns.values():
            start()
        measured = in_turns(turns, bench.size.starts)
    findings = Findings("Start, beyond Flask's own", [])
    for name, starts in measured.items():
        for (figure, unit), values in zip(_FIGURES.items(), zip(*starts, strict=True), strict=True):
            findings.series.append(Series(f"{name}, {figure}", unit, values))
    for figure in ("connections", "threads"):
        value = max(findings[f"{OURS}, {figure}"].values)
        findings.targets.append(Target(f"{figure} at start", value, 0, ""))
    return findings
