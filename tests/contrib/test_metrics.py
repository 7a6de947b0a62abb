"""Measures: which signal counts as what, in Prometheus and OpenTelemetry alike."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule

from flask_idempotent import signals
from flask_idempotent.contrib.metrics import COUNTERS, HISTOGRAMS, Measures
from flask_idempotent.errors import SettingsError

KEYS = {"key": "client-key", "storage_key": "IDEMPOTENT_{x}"}
PLACE = {"app": "shop", "method": "POST", "route": "/orders/<int:number>"}
NOWHERE = {"app": "shop", "method": "-", "route": "-"}


class Notes(Measures):
    """Records what it is given."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app, "notes")
        self.notes: list[tuple[Any, ...]] = []

    def count(self, name: str, by: int = 1, /, **labels: str) -> None:
        self.notes.extend([(name, labels)] * by or [(name, "from nothing", labels)])

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        self.notes.append((name, seconds, labels))


@pytest.fixture(name="app")
def _app() -> Flask:
    app = Flask("shop")
    app.add_url_rule("/orders/<int:number>", view_func=lambda number: "", methods=["POST"])
    return app


SIGNALS: list[tuple[Any, dict[str, Any], list[tuple[Any, ...]]]] = [
    (
        signals.claimed, {**KEYS, "attempt": 2, "owner": "o", "took_over": False},
        [("requests", {"outcome": "claimed"}), ("takeovers", "from nothing", {})],
    ),
    (
        signals.claimed, {**KEYS, "attempt": 2, "owner": "o", "took_over": True},
        [("requests", {"outcome": "claimed"}), ("takeovers", {})],
    ),
    (
        signals.replayed, {**KEYS, "status": 201, "waited": 0.5, "age": 7.0},
        [("requests", {"outcome": "replayed"}), ("replay_age_seconds", 7.0, {})],
    ),
    (
        signals.rejected, {"key": None, "storage_key": None, "problem": "key-missing",
        "status": 400}, [("requests", {"outcome": "key-missing"})],
    ),
    (signals.waited, {**KEYS, "seconds": 0.5}, [("wait_seconds", 0.5, {})]),
    (
        signals.completed, {**KEYS, "status": 201, "kept": True, "seconds": 0.01},
        [("claims", {"end": "completed"}), ("store_seconds", 0.01, {})],
    ),
    (
        signals.completed, {**KEYS, "status": 201, "kept": False, "seconds": 0.01},
        [("claims", {"end": "not-kept"}), ("store_seconds", 0.01, {})],
    ),
    (signals.released, {**KEYS, "reason": "failed"}, [("claims", {"end": "failed"})]),
]  # fmt: skip


class TestMeasures:
    @pytest.mark.parametrize(("signal", "data", "expected"), SIGNALS)
    def test_of_a_route(
        self, app: Flask, signal: Any, data: dict[str, Any], expected: list[tuple[Any, ...]]
    ) -> None:
        """A signal is counted under the route's rule, never under the path."""
        notes = Notes(app)
        with app.test_request_context("/orders/7?page=2", method="POST"):
            signals.send(signal, app, **data)
        assert notes.notes == [(*note[:-1], {**PLACE, **note[-1]}) for note in expected]

    def test_methods_are_few(self, app: Flask) -> None:
        """Methods that a client makes up share one label, also where a rule takes any method."""
        app.url_map.add(Rule("/any", endpoint="any"))
        app.url_map.add(Rule("/dav", endpoint="dav", methods=["PROPFIND"]))
        notes = Notes(app)
        made_up = [f"M{number}" for number in range(100)]
        for path, methods in {"/any": ["PUT", "get", *made_up], "/dav": ["PROPFIND"]}.items():
            for method in methods:
                with app.test_request_context(path, method=method):
                    signals.send(signals.waited, app, **KEYS, seconds=0.5)
        found = {(labels["route"], labels["method"]) for *_, labels in notes.notes}
        assert found == {("/any", "PUT"), ("/any", "GET"), ("/any", "_OTHER"), ("/dav", "PROPFIND")}

    @pytest.mark.parametrize(("signal", "data", "expected"), SIGNALS)
    def test_outside_a_request(
        self, app: Flask, signal: Any, data: dict[str, Any], expected: list[tuple[Any, ...]]
    ) -> None:
        """What comes from a background thread has no route."""
        notes = Notes(app)
        signals.send(signal, app, **data)
        assert notes.notes == [(*note[:-1], {**NOWHERE, **note[-1]}) for note in expected]

    def test_without_a_rule(self, app: Flask) -> None:
        """A request that no route matches makes no label of its path."""
        notes = Notes(app)
        with app.test_request_context("/anything"):
            signals.send(signals.waited, app, **KEYS, seconds=1.0)
        assert notes.notes == [("wait_seconds", 1.0, NOWHERE)]

    def test_of_an_application(self, app: Flask) -> None:
        """Lost leases and failures of the store belong to the application."""
        notes = Notes(app)
        signals.send(signals.lease_lost, app, **KEYS, owner="o", attempt=1)
        signals.send(signals.store_failed, app, operation="renew", error=OSError())
        assert notes.notes == [
            ("leases_lost", {"app": "shop"}),
            ("store_failures", {"app": "shop", "operation": "renew"}),
        ]

    def test_faults_begin_at_nothing(self, app: Flask) -> None:
        """What counts faults is there before the first, or no increase would show that."""
        notes = Notes(app)
        notes.begin(app)
        assert notes.notes == [
            ("leases_lost", "from nothing", {"app": "shop"}),
            *(
                ("store_failures", "from nothing", {"app": "shop", "operation": operation})
                for operation in ("claim", "step", "complete", "release", "renew")
            ),
        ]

    @pytest.mark.parametrize(("signal", "data", "expected"), SIGNALS)
    def test_what_is_told_is_declared(
        self, app: Flask, signal: Any, data: dict[str, Any], expected: list[tuple[Any, ...]]
    ) -> None:
        """Each number has a measure of that name, with just those labels."""
        notes = Notes(app)
        signals.send(signal, app, **data)
        labels = {measure.name: set(measure.labels) for measure in (*COUNTERS, *HISTOGRAMS)}
        assert all(labels[note[0]] == set(note[-1]) for note in notes.notes)


class TestListener:
    def test_hears_one_application(self, app: Flask) -> None:
        """Another application's signals are not counted."""
        notes = Notes(app)
        signals.send(signals.waited, Flask("other"), **KEYS, seconds=1.0)
        assert notes.notes == []

    def test_twice(self, app: Flask) -> None:
        """A second listener of one kind would count everything twice: a clear error."""
        Notes(app)
        with pytest.raises(SettingsError, match="already set up on the application 'shop'"):
            Notes(app)

    def test_lives_with_its_application(self, app: Flask) -> None:
        """Nobody has to keep it, and it does not outlive the application."""
        notes = weakref.ref(Notes(app))
        assert notes() is not None
        app.extensions.clear()
        assert notes() is None
