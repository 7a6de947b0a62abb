"""Prometheus: the metrics that a scrape sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from flask_idempotent import SettingsError, problems
from flask_idempotent.contrib.metrics import COUNTERS, HISTOGRAMS, OPERATIONS
from flask_idempotent.contrib.prometheus import instrument
from flask_idempotent.testing import Idempotency
from tests.conftest import MakeApp
from tests.support.clients import post

DASHBOARD = Path(__file__).parents[2] / "docs/examples/grafana/flask-idempotent.json"
ROUTE = {"app": "tests", "method": "POST", "route": "/orders/<name>"}

WORKERS = """
import os, sys
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from flask_idempotent import Idempotent
from flask_idempotent.contrib.prometheus import instrument

app = Flask("shop")
app.config["REDIS_URL"] = "memory://"
Idempotent(app)
instrument(app)
app.add_url_rule("/", view_func=lambda: "ran", methods=["POST"])
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        for _ in range(2):
            app.test_client().post("/", headers={"Idempotency-Key": "a"})
        os._exit(0)
    os.waitpid(pid, 0)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


@pytest.fixture(name="registry")
def _registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"flask_idempotent_{name}", labels)


class TestInstrument:
    def test_requests(self, make_app: MakeApp, registry: CollectorRegistry) -> None:
        """A run, its replay and a reuse are counted, and storing is timed."""
        app = make_app()
        app.add_url_rule("/orders/<name>", view_func=lambda name: "ran", methods=["POST"])
        instrument(app, registry=registry)
        for data in b"one", b"one", b"two":
            post(app, path="/orders/mug", data=data)
        for outcome in "claimed", "replayed", "key-reused":
            assert value(registry, "requests_total", **ROUTE, outcome=outcome) == 1
        assert value(registry, "claims_total", **ROUTE, end="completed") == 1
        assert value(registry, "takeovers_total", **ROUTE) == 0
        assert value(registry, "leases_lost_total", app="tests") == 0
        assert value(registry, "store_seconds_count", **ROUTE) == 1
        assert value(registry, "replay_age_seconds_count", **ROUTE) == 1

    def test_takeover(
        self, make_app: MakeApp, registry: CollectorRegistry, idempotency: Idempotency
    ) -> None:
        """A run after an owner's death is counted as such."""
        app = make_app()
        app.add_url_rule("/orders/<name>", view_func=lambda name: "ran", methods=["POST"])
        instrument(app, registry=registry)
        idempotency.use(app)
        with idempotency.crash():
            post(app, path="/orders/mug")
        idempotency.clock.advance(30)
        post(app, path="/orders/mug")
        assert value(registry, "takeovers_total", **ROUTE) == 1

    def test_several_applications(self, make_app: MakeApp, registry: CollectorRegistry) -> None:
        """Applications share a registry, and a label tells them apart."""
        for name in "shop", "desk":
            app = make_app(name=name)
            app.add_url_rule("/", view_func=lambda: "ran", methods=["POST"])
            instrument(app, registry=registry)
            post(app)
        for name in "shop", "desk":
            labels = {"app": name, "method": "POST", "route": "/", "outcome": "claimed"}
            assert value(registry, "requests_total", **labels) == 1

    def test_twice(self, make_app: MakeApp, registry: CollectorRegistry) -> None:
        """A second call for one application is a clear error."""
        app = make_app()
        instrument(app, registry=registry)
        with pytest.raises(SettingsError, match="Call instrument once"):
            instrument(app, registry=CollectorRegistry())

    def test_several_processes(self, tmp_path: Path) -> None:
        """In Prometheus's multiprocess mode the workers' counts are added up."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", WORKERS],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for outcome in "claimed", "replayed":
            labels = f'app="shop",method="POST",outcome="{outcome}",route="/"'
            assert f"flask_idempotent_requests_total{{{labels}}} 2.0" in done.stdout


def queries() -> list[str]:
    """Everything that the dashboard asks Prometheus, for its panels and its variables."""
    board = json.loads(DASHBOARD.read_text())
    shown = [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]
    chosen = [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    return [*shown, *(query if isinstance(query, str) else query["query"] for query in chosen)]


def labels_of() -> dict[str, set[str]]:
    """The labels of each name that a query may ask for."""
    counted = {f"{c.name}_total": set(c.labels) for c in COUNTERS}
    timed = {
        f"{h.name}_{part}": {*h.labels, *(("le",) if part == "bucket" else ())}
        for h in HISTOGRAMS
        for part in ("bucket", "count", "sum")
    }
    return counted | timed


#: What a label may be, where that is known beforehand.
VALUES = {
    "outcome": {"claimed", "replayed", *(kind.slug for kind in problems.ALL)},
    "end": {"completed", "not-kept", "failed", "not-stored"},
    "operation": set(OPERATIONS),
}


class TestDashboard:
    @pytest.mark.parametrize("query", queries())
    def test_asks_for_what_exists(self, query: str) -> None:
        """Each query of the Grafana dashboard names metrics, and labels and values of theirs."""
        known = labels_of()
        names = re.findall(r"flask_idempotent_(\w+)", query)
        assert names
        labels = set.intersection(*(known[name] for name in names))
        compared = re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', query)
        listed = re.findall(r"by \(([^)]*)\)", query) + re.findall(r", (\w+)\)$", query)
        assert {name.strip() for names in listed for name in names.split(",")} <= labels
        assert {name for name, _ in compared} <= labels
        for name, text in compared:
            assert text.startswith("$") or set(text.split("|")) <= VALUES[name]

    def test_names_are_those_of_the_samples(
        self, make_app: MakeApp, registry: CollectorRegistry
    ) -> None:
        """The names and labels that queries are compared with are those that a scrape sees."""
        app = make_app()
        app.add_url_rule("/orders/<name>", view_func=lambda name: "ran", methods=["POST"])
        instrument(app, registry=registry)
        for _ in "12":
            post(app, path="/orders/mug")
        found = {
            sample.name.removeprefix("flask_idempotent_"): set(sample.labels)
            for metric in registry.collect()
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }
        assert len(found) >= 9
        known = labels_of()
        assert all(known[name] == labels for name, labels in found.items())

    def test_shows_every_metric(self) -> None:
        """No metric is left out of the dashboard."""
        text = DASHBOARD.read_text()
        assert all(f"flask_idempotent_{m.name}" in text for m in (*COUNTERS, *HISTOGRAMS))
