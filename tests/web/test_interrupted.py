"""Requests that are interrupted, and what comes before a wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import request

from flask_idempotent import _timing, signals
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.memory import MemoryStore
from tests.stores.harness import lapse
from tests.support.clients import Gate, WayIn, post, recorded
from tests.support.faulty_store import Clock, FaultyStore

Background = Callable[..., Future[Any]]


class Stop(BaseException):
    """What a worker's timeout or a greenlet's raises, at any moment."""


class TestInterrupted:
    """An exception between claim and run leaves no claim that is renewed for ever."""

    def receiver(self, *_: object, **__: object) -> None:
        raise Stop

    def test_receiver_of_claimed(self, way: WayIn) -> None:
        """A receiver that is interrupted frees the key."""
        app = way.app(timeout=0)
        app.add_url_rule("/", "view", way(lambda: "ran"), methods=["POST"])
        with signals.claimed.connected_to(self.receiver, app), pytest.raises(Stop):
            post(app)
        assert post(app).text == "ran"

    @pytest.mark.parametrize("signal", ["before_wait", "waited"])
    def test_receiver_of_a_waiter(self, way: WayIn, background: Background, signal: str) -> None:
        """A waiter that is interrupted, also when it is the owner already, frees the key."""
        store = MemoryStore()
        app, gate, runs = way.app(store=store), Gate(), count(1)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            if next(runs) == 1:
                gate()
                return "", 503
            return "ran", 200

        first = background(post, app)
        gate.reached()
        waits = threading.Event()
        with (
            signals.before_wait.connected_to(lambda *_, **__: waits.set(), app),
            getattr(signals, signal).connected_to(self.receiver, app),
        ):
            waiter = background(post, app)
            assert waits.wait(5)
            gate.open()
            first.result()
            with pytest.raises(Stop):
                waiter.result()
        assert post(app).text == "ran"
        (name,) = store.scan("")
        assert not isinstance(store.read(name), RunningRecord | ReleasedRecord)

    def test_before_the_view_begins(self, way: WayIn, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever comes between the claim and the view, and wherever, frees the key."""
        app = way.app(timeout=0)
        app.add_url_rule("/", "view", way(lambda: "ran"), methods=["POST"])
        post(app, "another")
        monkeypatch.setattr("flask_idempotent.web.handler.SessionUse", self.receiver)
        with pytest.raises(Stop):
            post(app)
        monkeypatch.undo()
        assert post(app).text == "ran"


class TestBeforeWait:
    def test_c10_is_sent_before_a_duplicate_waits(self, way: WayIn, background: Background) -> None:
        """C10: a receiver runs in the request that is about to wait, and only there."""
        store = FaultyStore()
        app, gate, seen = way.app(store=store), Gate(), []

        @app.post("/<name>")
        @way
        def view(name: str) -> str:
            gate()
            return name

        def return_connection(sender: object, **data: object) -> None:
            seen.append((sender, request.path, data.keys()))
            assert store.listening.acquire(blocking=False) is False

        first = background(post, app, path="/a")
        gate.reached()
        with signals.before_wait.connected_to(return_connection, app):
            waiter = background(post, app, path="/a")
            assert store.listening.acquire(timeout=5)
        gate.open()
        assert first.result().text == waiter.result().text == "a"
        assert seen == [(app, "/a", {"key", "storage_key"})]

    @pytest.mark.parametrize("end", ["owner", "mismatch", "in-progress", "outcome-unknown"])
    def test_waited_is_told_of_every_waiter(
        self, way: WayIn, background: Background, monkeypatch: pytest.MonkeyPatch, end: str
    ) -> None:
        """``waited`` tells of each that waited, whatever came of it."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.1)
        clock = Clock()
        store = FaultyStore(clock)
        on_crash = "hold" if end == "outcome-unknown" else "rerun"
        timeout = 0.3 if end == "in-progress" else 30
        app, gate, runs = way.app(store=store, timeout=timeout, on_crash=on_crash), Gate(), count(1)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            if next(runs) > 1:
                return "ran", 200
            gate()
            return "", 503 if end == "owner" else 422

        first = background(post, app, data="one")
        gate.reached()
        with recorded(app) as events:
            waiter = background(post, app, data="one")
            assert store.listening.acquire(timeout=5)
            (name,) = store.scan("")
            if end == "mismatch":
                store.is_silent = True
            if end == "outcome-unknown":
                lapse(store, name)
                store.wake(name)
            elif end != "in-progress":
                gate.open()
                first.result()
            if end == "mismatch":
                assert post(app, data="two").status_code == 200
            waiter.result()
        gate.open()
        names = [name for name, data in events if "seconds" in data and name == "waited"]
        assert names == ["waited"]
