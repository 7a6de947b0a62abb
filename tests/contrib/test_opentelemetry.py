"""OpenTelemetry: the running span, and the metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_idempotent import SettingsError, signals
from flask_idempotent.contrib.metrics import COUNTERS, HISTOGRAMS
from flask_idempotent.contrib.opentelemetry import instrument
from flask_idempotent.errors import StoreUnavailable
from tests.conftest import MakeApp
from tests.support.clients import post

Traced = Callable[[Callable[[], object]], ReadableSpan]


@pytest.fixture(name="reader")
def _reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture(name="app")
def _app(make_app: MakeApp, reader: InMemoryMetricReader) -> Flask:
    app = make_app()
    app.add_url_rule("/orders/<name>", view_func=lambda name: "ran", methods=["POST"])
    instrument(app, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    return app


@pytest.fixture(name="traced")
def _traced() -> Traced:
    """Runs a function in a span, as an instrumentation of Flask does, and returns the span."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def run(function: Callable[[], object]) -> ReadableSpan:
        with provider.get_tracer("tests").start_as_current_span("request"):
            function()
        return exporter.get_finished_spans()[-1]

    return run


def attributes(thing: Any) -> dict[str, Any]:
    return {k.removeprefix("flask_idempotent."): v for k, v in thing.attributes.items()}


def events(span: ReadableSpan) -> list[str]:
    return [event.name.removeprefix("flask_idempotent.") for event in span.events]


class TestSpans:
    def test_run_and_replay(self, app: Flask, traced: Traced) -> None:
        """A span tells whether its request ran or was a replay, and of which record."""
        first, retry = (traced(lambda: post(app, path="/orders/mug")) for _ in "12")
        assert events(first) == ["claimed", "completed"]
        assert events(retry) == ["replayed"]
        first_attributes, retry_attributes = attributes(first), attributes(retry)
        assert (first_attributes["outcome"], first_attributes["attempt"]) == ("claimed", 1)
        assert (retry_attributes["outcome"], retry_attributes["waited"]) == ("replayed", 0.0)
        assert first_attributes["storage_key"] == retry_attributes["storage_key"]
        assert attributes(first.events[1])["kept"] is True

    def test_problem(self, app: Flask, traced: Traced) -> None:
        """The outcome of a request that is not served is its problem; no key, no record."""
        span = traced(lambda: post(app, path="/orders/mug", key="a,b"))
        assert attributes(span) == {"outcome": "key-invalid"}
        assert events(span) == ["rejected"]

    def test_keys_stay_secret(self, app: Flask, traced: Traced) -> None:
        """A trace shows no key that would replay the response."""
        spans = [traced(lambda: post(app, path="/orders/mug", key="very-secret")) for _ in "12"]
        assert all("very-secret" not in span.to_json() for span in spans)

    def test_everything_else_is_an_event(self, app: Flask, traced: Traced) -> None:
        """Waiting, releasing, lost leases and a failing store are events of the span."""

        def tell() -> None:
            keys = {"key": "k", "storage_key": "s"}
            signals.send(signals.waited, app, **keys, seconds=0.5)
            signals.send(signals.released, app, **keys, reason="failed")
            signals.send(signals.lease_lost, app, **keys, owner="o", attempt=2)
            error = StoreUnavailable("it is silent")
            signals.send(signals.store_failed, app, operation="renew", error=error)

        span = traced(tell)
        assert events(span) == ["waited", "released", "lease_lost", "store_failed"]
        assert [attributes(event) for event in span.events] == [
            {"seconds": 0.5},
            {"reason": "failed"},
            {"attempt": 2},
            {"operation": "renew", "error": "it is silent"},
        ]

    def test_without_a_span(self, app: Flask) -> None:
        """Without a trace nothing is recorded, and the request is served."""
        assert post(app, path="/orders/mug").status_code == 200


class TestMetrics:
    def test_requests(self, app: Flask, reader: InMemoryMetricReader) -> None:
        """Outcomes are counted by route, under OpenTelemetry's own names for it."""
        for _ in "12":
            post(app, path="/orders/mug")
        data = reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        found = {metric.name: metric for metric in scope.metrics}
        points = found["flask_idempotent.requests"].data.data_points
        assert [(dict(point.attributes or {}), point.value) for point in points] == [
            (
                {
                    "flask_idempotent.app": "tests",
                    "http.request.method": "POST",
                    "http.route": "/orders/<name>",
                    "flask_idempotent.outcome": outcome,
                },
                1,
            )
            for outcome in ("claimed", "replayed")
        ]
        store = found["flask_idempotent.store"]
        assert store.unit == "s"
        (point,) = store.data.data_points
        (measure,) = (m for m in HISTOGRAMS if m.name == "store_seconds")
        assert tuple(point.explicit_bounds) == measure.buckets
        assert set(found) <= {
            f"flask_idempotent.{m.name.removesuffix('_seconds')}" for m in (*COUNTERS, *HISTOGRAMS)
        }


class TestInstrument:
    def test_twice(self, app: Flask) -> None:
        """A second call for one application is a clear error."""
        with pytest.raises(SettingsError, match="Call instrument once"):
            instrument(app)
