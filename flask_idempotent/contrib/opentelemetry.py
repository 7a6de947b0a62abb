"""OpenTelemetry: metrics, and what the running span should know (extra ``opentelemetry``)."""

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
from flask_idempotent.contrib.signal_receiver import Listener

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


class _Tracer(Listener):
    """Tells the running span; where none is recorded, and in a background thread, nobody."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app, "flask_idempotent.contrib.opentelemetry.spans")

    def claimed(self, app: Flask, storage_key: str, attempt: int, **_: Any) -> None:
        _tell("claimed", {"attempt": attempt})
        _describe(outcome="claimed", storage_key=storage_key, attempt=attempt)

    def replayed(
        self, app: Flask, storage_key: str, status: int, waited: float, age: float, **_: Any
    ) -> None:
        _tell("replayed", {"status": status, "age": age})
        _describe(outcome="replayed", storage_key=storage_key, waited=waited)

    def rejected(self, app: Flask, storage_key: str | None, problem: str, **_: Any) -> None:
        _tell("rejected", {"problem": problem})
        # A key that cannot be read names no record.
        known = {} if storage_key is None else {"storage_key": storage_key}
        _describe(outcome=problem, **known)

    def waited(self, app: Flask, seconds: float, **_: Any) -> None:
        _tell("waited", {"seconds": seconds})

    def completed(self, app: Flask, kept: bool, seconds: float, **_: Any) -> None:
        _tell("completed", {"kept": kept, "seconds": seconds})

    def released(self, app: Flask, reason: str, **_: Any) -> None:
        _tell("released", {"reason": reason})

    def lease_lost(self, app: Flask, attempt: int, **_: Any) -> None:
        _tell("lease_lost", {"attempt": attempt})

    def store_failed(self, app: Flask, operation: str, error: Exception, **_: Any) -> None:
        _tell("store_failed", {"operation": operation, "error": str(error)})


def _tell(event: str, data: dict[str, Any]) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(_PREFIX + event, _attributes(data))


def _describe(**attributes: Any) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(_attributes(attributes))


def instrument(app: Flask, *, meter_provider: MeterProvider | None = None) -> None:
    """Tell OpenTelemetry what the library does for an application.

    Attributes and events go to the span that is current while the request is served, such as
    that of opentelemetry-instrumentation-flask; clients' keys are in none of them.

    :param app: the application.
    :param meter_provider: where the metrics go; None for the global one.
    :raises SettingsError: on a second call for one application.
    """
    _Meter(app, meter_provider).begin(app)
    _Tracer(app)
