"""The metrics: what is counted and timed, whatever tool they are exported to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import has_request_context, request

from flask_idempotent.contrib.signal_receiver import SignalReceiver

if TYPE_CHECKING:
    from flask import Flask

#: Methods of RFC 9110, 9 and RFC 5789. OpenTelemetry's name for all others is "_OTHER".
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_ROUTE = ("app", "method", "route")
#: The operations of a store that may fail.
OPERATIONS = ("claim", "step", "complete", "release", "renew")


@dataclass(frozen=True, slots=True)
class Counter:
    """A metric that is counted.

    :param name: its name, without the library's prefix.
    :param text: what it counts.
    :param labels: the names of its labels, each of which has few values.
    """

    name: str
    text: str
    labels: tuple[str, ...] = _ROUTE


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution of durations in seconds.

    :param buckets: upper bounds.
    """

    name: str
    text: str
    buckets: tuple[float, ...]
    labels: tuple[str, ...] = _ROUTE


COUNTERS = (
    Counter(
        "requests",
        "Requests with a key, or refused without one, by outcome.",
        (*_ROUTE, "outcome"),
    ),
    Counter("takeovers", "Runs of a view after an earlier owner died."),
    Counter("claims", "Claims, by how they ended.", (*_ROUTE, "end")),
    Counter("leases_lost", "Owners that overran their lease.", ("app",)),
    Counter("store_failures", "Failed operations of the store.", ("app", "operation")),
)
HISTOGRAMS = (
    # From one round trip to a long timeout.
    Histogram(
        "wait_seconds",
        "How long duplicates waited for the first request.",
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ),
    # From a local store to the two seconds after which one counts as dead.
    Histogram(
        "store_seconds",
        "How long the store took to accept a response.",
        (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2),
    ),
    # From a double click to a day.
    Histogram(
        "replay_age_seconds",
        "How old a response was when it was replayed.",
        (0.1, 0.5, 1, 5, 15, 60, 240, 900, 3600, 21600, 86400),
    ),
)


class Measures(SignalReceiver, ABC):
    """Turns the signals of an application into metrics."""

    def begin(self, app: Flask) -> None:
        """Start the counters of failures at 0: one that appears with 1 shows no increase."""
        self.count("leases_lost", 0, app=app.name)
        for operation in OPERATIONS:
            self.count("store_failures", 0, app=app.name, operation=operation)

    @abstractmethod
    def count(self, name: str, by: int = 1, /, **labels: str) -> None:
        """Add to a counter."""

    @abstractmethod
    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a time to a histogram."""

    def claimed(self, app: Flask, took_over: bool, **_: Any) -> None:
        self.count("requests", **_labels(app), outcome="claimed")
        self.count("takeovers", int(took_over), **_labels(app))

    def replayed(self, app: Flask, age: float, **_: Any) -> None:
        self.count("requests", **_labels(app), outcome="replayed")
        self.observe("replay_age_seconds", age, **_labels(app))

    def rejected(self, app: Flask, problem: str, **_: Any) -> None:
        self.count("requests", **_labels(app), outcome=problem)

    def waited(self, app: Flask, seconds: float, **_: Any) -> None:
        self.observe("wait_seconds", seconds, **_labels(app))

    def completed(self, app: Flask, kept: bool, seconds: float, **_: Any) -> None:
        self.count("claims", **_labels(app), end="completed" if kept else "not-kept")
        self.observe("store_seconds", seconds, **_labels(app))

    def released(self, app: Flask, reason: str, **_: Any) -> None:
        self.count("claims", **_labels(app), end=reason)

    def lease_lost(self, app: Flask, **_: Any) -> None:
        self.count("leases_lost", app=app.name)

    def store_failed(self, app: Flask, operation: str, **_: Any) -> None:
        self.count("store_failures", app=app.name, operation=operation)


def _labels(app: Flask) -> dict[str, str]:
    # The rule, not the path, and no invented method: a client could make up any number of them.
    if has_request_context() and (rule := request.url_rule) is not None:
        is_known = request.method in _METHODS or request.method in (rule.methods or ())
        method = request.method if is_known else "_OTHER"
        return {"app": app.name, "method": method, "route": rule.rule}
    return {"app": app.name, "method": "-", "route": "-"}
