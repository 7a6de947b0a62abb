"""Metrics for Prometheus (extra ``prometheus``)."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

try:
    import prometheus_client
except ImportError as error:  # pragma: no cover - proved by a test in a process of its own
    raise ImportError(
        "flask_idempotent.contrib.prometheus needs prometheus-client: "
        "pip install 'flask-idempotent[prometheus]'"
    ) from error

from flask_idempotent.contrib.metrics import COUNTERS, HISTOGRAMS, Measures

if TYPE_CHECKING:
    from flask import Flask
    from prometheus_client import CollectorRegistry

_PREFIX = "flask_idempotent_"


class _Metrics:
    """The metrics of one registry, which all its applications share.

    :param registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counters = {
            measure.name: prometheus_client.Counter(
                _PREFIX + measure.name, measure.text, measure.labels, registry=registry
            )
            for measure in COUNTERS
        }
        self.histograms = {
            measure.name: prometheus_client.Histogram(
                _PREFIX + measure.name,
                measure.text,
                measure.labels,
                registry=registry,
                buckets=measure.buckets,
            )
            for measure in HISTOGRAMS
        }


_made: weakref.WeakKeyDictionary[CollectorRegistry, _Metrics] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _metrics(registry: CollectorRegistry) -> _Metrics:
    # A registry accepts each name only once.
    with _making:
        if registry not in _made:
            _made[registry] = _Metrics(registry)
        return _made[registry]


class _Instrument(Measures):
    def __init__(self, app: Flask, registry: CollectorRegistry) -> None:
        self._metrics = _metrics(registry)
        super().__init__(app, "flask_idempotent.contrib.prometheus")

    def count(self, name: str, by: int = 1, /, **labels: str) -> None:
        self._metrics.counters[name].labels(**labels).inc(by)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        self._metrics.histograms[name].labels(**labels).observe(seconds)


def instrument(app: Flask, *, registry: CollectorRegistry = prometheus_client.REGISTRY) -> None:
    """Export an application's metrics to Prometheus.

    :param app: the application. Several may share a registry.
    :param registry: where the metrics are registered.
    :raises SettingsError: on a second call for one application.
    """
    _Instrument(app, registry).begin(app)
