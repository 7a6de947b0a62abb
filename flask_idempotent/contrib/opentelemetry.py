"""Metrics, span attributes and span events for OpenTelemetry (extra ``opentelemetry``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, trace
except ImportError as error:  # pragma: no cover - proved by a test in a process of its own
    raise ImportError(
        "flask_idempotent.contrib.opentelemetry needs opentelemetry-api: "
        "pip install 'flask-idempotent[opentelemetry]'"
    ) from error

from flask_idempotent.contrib.metrics import COUNTERS, HISTOGRAMS, Measures
from flask_idempotent.contrib.signal_receiver import SignalReceiver

if TYPE_CHECKING:
    from flask import Flask
    from opentelemetry.metrics import MeterProvider

_PREFIX = "flask_idempotent."
#: Labels for which OpenTelemetry has names of its own.
_NAMES = {"method": "http.request.method", "route": "http.route"}


class _Meter(Measures):
    def __init__(self, app: Flask, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("flask_idempotent", meter_provider=provider)
        self._counters = {
            measure.name: meter.create_counter(_PREFIX + measure.name, "1", measure.text)
            for measure in COUNTERS
        }
        self._histograms = {
            measure.name: meter.create_histogram(
                _PREFIX + measure.name.removesuffix("_seconds"),
                "s",
                measure.text,
                explicit_bucket_boundaries_advisory=measure.buckets,
            )
            for measure in HISTOGRAMS
        }
        super().__init__(app, "flask_idempotent.contrib.opentelemetry")

    def count(self, name: str, by: int = 1, /, **labels: str) -> None:
        self._counters[name].add(by, _attributes(labels))

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        self._histograms[name].record(seconds, _attributes(labels))


def _attributes(data: dict[str, Any]) -> dict[str, Any]:
    return {_NAMES.get(name, _PREFIX + name): value for name, value in data.items()}


class _Tracer(SignalReceiver):
    """Adds attributes and events to the current span, if one is being recorded."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app, "flask_idempotent.contrib.opentelemetry.spans")

    def claimed(self, app: Flask, storage_key: str, attempt: int, **_: Any) -> None:
        _add_event("claimed", {"attempt": attempt})
        _set_attributes(outcome="claimed", storage_key=storage_key, attempt=attempt)

    def replayed(
        self, app: Flask, storage_key: str, status: int, waited: float, age: float, **_: Any
    ) -> None:
        _add_event("replayed", {"status": status, "age": age})
        _set_attributes(outcome="replayed", storage_key=storage_key, waited=waited)

    def rejected(self, app: Flask, storage_key: str | None, problem: str, **_: Any) -> None:
        _add_event("rejected", {"problem": problem})
        # An invalid key has no record.
        attributes = {} if storage_key is None else {"storage_key": storage_key}
        _set_attributes(outcome=problem, **attributes)

    def waited(self, app: Flask, seconds: float, **_: Any) -> None:
        _add_event("waited", {"seconds": seconds})

    def completed(self, app: Flask, kept: bool, seconds: float, **_: Any) -> None:
        _add_event("completed", {"kept": kept, "seconds": seconds})

    def released(self, app: Flask, reason: str, **_: Any) -> None:
        _add_event("released", {"reason": reason})

    def lease_lost(self, app: Flask, attempt: int, **_: Any) -> None:
        _add_event("lease_lost", {"attempt": attempt})

    def store_failed(self, app: Flask, operation: str, error: Exception, **_: Any) -> None:
        _add_event("store_failed", {"operation": operation, "error": str(error)})


def _add_event(event: str, data: dict[str, Any]) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(_PREFIX + event, _attributes(data))


def _set_attributes(**attributes: Any) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(_attributes(attributes))


def instrument(app: Flask, *, meter_provider: MeterProvider | None = None) -> None:
    """Export an application's metrics to OpenTelemetry, and annotate the spans of its requests.

    Attributes and events are added to the span that is current during the request, such as that of
    opentelemetry-instrumentation-flask. They never contain a client's key.

    :param app: the application.
    :param meter_provider: where the metrics go. None for the global provider.
    :raises SettingsError: on a second call for one application.
    """
    _Meter(app, meter_provider).begin(app)
    _Tracer(app)
