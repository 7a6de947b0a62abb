"""Signals and log lines, and state that threads share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from flask import (
    g,
)
from werkzeug.test import TestResponse

from flask_idempotent import signals
from tests.support.clients import WayIn, post, recorded
from tests.support.faulty_store import FaultyStore
from tests.support.views import counting, gated

Background = Callable[..., Future[TestResponse]]


class TestSignals:
    def test_first_and_replay(self, way: WayIn) -> None:
        """A first request is claimed and completed, a duplicate replayed; the sender is the app."""
        app = way.app()
        counting(app, way)
        with recorded(app) as events:
            post(app)
            post(app)
        (claimed, claim), (completed, completion), (replayed, replay) = events
        assert (claimed, completed, replayed) == ("claimed", "completed", "replayed")
        name = claim["storage_key"]
        owner = claim.pop("owner")
        assert isinstance(owner, str)
        expected = {"key": "key-one", "storage_key": name, "attempt": 1, "took_over": False}
        assert claim == expected
        assert completion.pop("seconds") >= 0
        assert completion == {"key": "key-one", "storage_key": name, "status": 200, "kept": True}
        age = replay.pop("age")
        assert 0 <= age < 10
        assert replay == {"key": "key-one", "storage_key": name, "status": 200, "waited": 0.0}

    def test_not_kept(self, way: WayIn) -> None:
        """A response that is not kept says so."""
        app = way.app(max_body=0)
        counting(app, way)
        with recorded(app) as events:
            post(app)
            post(app)
        assert [name for name, _ in events] == ["claimed", "completed", "rejected"]
        assert events[1][1]["kept"] is False
        assert events[2][1]["problem"] == "response-not-kept"

    @pytest.mark.parametrize("reason", ["failed", "not-stored"])
    def test_released(self, way: WayIn, reason: str) -> None:
        """A release has its reason."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            if reason == "failed":
                raise ValueError
            return "", 503

        with recorded(app) as events:
            post(app)
        (_, claim), (name, data) = events
        assert name == "released"
        assert data == {"key": "key-one", "storage_key": claim["storage_key"], "reason": reason}

    def test_waited(self, way: WayIn, background: Background) -> None:
        """A duplicate that waited reports how long, then that it got a replay."""
        store = FaultyStore()
        app = way.app(store=store)
        gate = gated(app, way)
        with recorded(app) as events:
            first = background(post, app)
            gate.reached()
            duplicate = background(post, app)
            assert store.listening.acquire(timeout=10)
            gate.open()
            first.result()
            duplicate.result()
        data = dict(events)
        assert data["waited"].keys() == {"key", "storage_key", "seconds"}
        assert data["waited"]["seconds"] > 0
        assert data["replayed"]["waited"] > 0

    @pytest.mark.parametrize(
        ("sent", "slug", "status", "key"),
        [
            pytest.param({"key": None}, "key-missing", 400, None, id="W3"),
            pytest.param({"key": ","}, "key-invalid", 400, None, id="K5"),
            pytest.param({"data": b"other"}, "key-reused", 422, "key-one", id="F4"),
        ],
    )
    def test_rejected(
        self, way: WayIn, sent: dict[str, Any], slug: str, status: int, key: str | None
    ) -> None:
        """A problem is reported with its type and status, and the key where it was readable."""
        app = way.app(required=True)
        counting(app, way)
        post(app)
        with recorded(app) as events:
            assert post(app, **sent).status_code == status
        ((name, data),) = events
        assert name == "rejected"
        assert (data["problem"], data["status"], data["key"]) == (slug, status, key)
        assert (data["storage_key"] is None) == (key is None)

    @pytest.mark.parametrize("name", ["claimed", "completed", "replayed"])
    def test_failing_receiver_harms_nobody(
        self, way: WayIn, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A receiver that raises is logged, and the request goes on."""
        app = way.app()
        counting(app, way)

        def bad(sender: object, **data: object) -> None:
            raise ValueError

        with getattr(signals, name).connected_to(bad, sender=app):
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert f"a receiver of the signal {name} failed" in caplog.text

    def test_failing_receiver_hides_nothing_from_others(self, way: WayIn) -> None:
        """A receiver that raises keeps no other from hearing."""
        app, heard = way.app(), []
        counting(app, way)

        def receiver(name: str) -> Callable[..., None]:
            def receive(sender: object, **data: object) -> None:
                heard.append(name)
                raise ValueError

            return receive

        one, two = (signals.claimed.connected_to(receiver(n), sender=app) for n in ("a", "b"))
        with one, two:
            post(app)
        assert sorted(heard) == ["a", "b"]


class TestLog:
    def test_k8_replay(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """K8: a replay is one INFO line with the record's name, and never the whole key."""
        caplog.set_level(logging.INFO, "flask_idempotent")
        app, key = way.app(), "secret-0123456789-0123456789"
        counting(app, way)
        with recorded(app) as events:
            post(app, key)
            assert [r for r in caplog.records if r.levelno == logging.INFO] == []
            post(app, key)
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
        assert line.startswith("replay: ")
        assert key[:8] in line
        assert key[:9] not in line
        assert events[-1][1]["storage_key"] in line

    def test_first_request_says_nothing(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """A first request that goes well leaves no line."""
        caplog.set_level(logging.DEBUG, "flask_idempotent")
        app = way.app(store=FaultyStore())
        counting(app, way)
        post(app)
        assert [r for r in caplog.records if r.name.startswith("flask_idempotent")] == []


class TestGlobals:
    def test_g_is_the_requests_own(self, way: WayIn) -> None:
        """The library puts nothing on ``g``."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> list[str]:
            return sorted(g)

        assert post(app).json == []
