"""``current_claim``: what a view sees of its claim."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import (
    Response,
    copy_current_request_context,
)
from werkzeug.test import TestResponse

from flask_idempotent import current_claim
from flask_idempotent.stores.memory import MemoryStore
from tests.support.clients import Gate, WayIn, post, recorded
from tests.support.faulty_store import Clock, FaultyStore
from tests.support.views import counting

Background = Callable[..., Future[TestResponse]]


class TestCurrentClaim:
    def test_falsy_outside(self, way: WayIn) -> None:
        """Outside a request, without a key and in ``before_request`` nothing is claimed."""
        app, seen = way.app(), []
        app.before_request(lambda: seen.append(bool(current_claim)))

        @app.post("/")
        @way
        def view() -> str:
            return str(bool(current_claim))

        assert not current_claim
        assert post(app, None).text == "False"
        assert post(app).text == "True"
        assert seen == [False, False]
        assert not current_claim

    def test_attributes(self, way: WayIn) -> None:
        """In the view, a claim has its key, its owner, its attempt and says that it is held."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> list[Any]:
            return [
                current_claim.key,
                current_claim.attempt,
                current_claim.held,
                current_claim.owner,
            ]

        first, second = post(app, "a").get_json(), post(app, "b").get_json()
        assert (first[:3], second[:3]) == (["a", 1, True], ["b", 1, True])
        assert len({first[3], second[3]}) == 2

    def test_key_for(self, way: WayIn) -> None:
        """``key_for`` makes the same key in every run, without a command, and another per key."""
        store, runs = FaultyStore(), count(1)
        app = way.app(store=store)

        @app.post("/")
        @way
        def view() -> str:
            response = f"{current_claim.attempt} {current_claim.key_for('stripe')}"
            if next(runs) == 1:
                raise SystemExit(response)
            return response

        with pytest.raises(SystemExit) as died:
            post(app, "a")
        first = str(died.value).split()[1]
        assert post(app, "a").text.split()[1] == first
        assert post(app, "b").text.split()[1] != first
        assert store.calls == ["claim", "release", *["claim", "complete"] * 2]

    def test_over_when_the_view_has_answered(self, way: WayIn) -> None:
        """Once the response is stored, and on a replay, nothing is claimed any more."""
        app, seen = way.app(), []

        @app.after_request
        def look(response: Response) -> Response:
            seen.append(bool(current_claim))
            return response

        counting(app, way)
        post(app)
        post(app)
        assert seen == [False, False]

    def test_copied_request_context(self, way: WayIn) -> None:
        """A thread with a copy of the request's context sees the claim, and needs no other."""
        store = FaultyStore()
        app = way.app(store=store)
        inner = counting(app, way, "/inner")

        @app.post("/")
        @way
        def view() -> str:
            seen: list[str] = []

            @copy_current_request_context
            def work() -> None:
                seen.append(f"{current_claim.key} {inner()!r}")

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return seen[0]

        assert post(app).text.startswith("key-one ")
        assert store.calls == ["claim", "complete"]

    def test_lease_lost(
        self, way: WayIn, background: Background, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An owner that overran its lease can see it; both callers are served, one result is kept.

        The log has a WARNING, and ``lease_lost`` is sent.
        """
        clock, gate, held = Clock(), Gate(), []
        app = way.app(store=MemoryStore(clock), lease=30, expire=240)

        @app.post("/")
        @way
        def view() -> str:
            attempt = current_claim.attempt
            if attempt == 1:
                gate()
                held.append(current_claim.held)
            return f"attempt {attempt}"

        with recorded(app) as events:
            late = background(post, app)
            gate.reached()
            clock.now += 31
            assert post(app).text == "attempt 2"
            gate.open()
            assert late.result().text == "attempt 1"
        assert post(app).text == "attempt 2"
        lost = [data for name, data in events if name == "lease_lost"]
        assert [(data["key"], data["attempt"]) for data in lost] == [("key-one", 1)]
        assert set(lost[0]) == {"key", "storage_key", "owner", "attempt"}
        storage_key = lost[0]["storage_key"]
        assert re.search(
            rf"WARNING .*take-over: key key…, record {storage_key}, attempt 2, endpoint view; "
            rf"its owner died: \S+, process {os.getpid()}, which began \d+\.\d s ago",
            caplog.text,
        )
        records = [r for r in caplog.records if "lease lost" in r.getMessage()]
        assert [r.levelno for r in records] == [logging.WARNING]
