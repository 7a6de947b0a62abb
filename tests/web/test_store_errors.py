"""A store that fails at a claim, at a completion, or between."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count

import pytest
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.test import TestResponse

from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.records import CompressedBody
from tests.support.clients import WayIn, post, problem, recorded
from tests.support.faulty_store import FaultyStore, fail
from tests.support.pauses import within
from tests.support.redis_servers import free_port
from tests.support.views import counting, failing_once

Background = Callable[..., Future[TestResponse]]


class TestStoreErrors:
    @pytest.fixture
    def down(self) -> dict[str, str]:
        """The address of a server that is not there."""
        return {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}

    def test_r7_reject(
        self, way: WayIn, down: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R7: without its store a request gets 503 within 2 s, and its view does not run."""
        app, runs = way.app(config=down), count(1)

        @app.post("/")
        @way
        def view() -> str:
            return f"run {next(runs)}"

        with within(2), recorded(app) as events:
            answer = post(app)
        assert problem(answer) == (503, "store-unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json is not None
        assert answer.json["retryable"] is True
        assert [name for name, _ in events] == ["store_failed", "rejected"]
        assert ("flask_idempotent", logging.ERROR) in [r[:2] for r in caplog.record_tuples]
        assert next(runs) == 1

    def test_r7_run(
        self, way: WayIn, down: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """With ``on_store_error="run"`` the view runs, unprotected, and that is reported."""
        app = way.app(config=down, on_store_error="run")
        counting(app, way)
        with within(4), recorded(app) as events:
            answers = [post(app).text for _ in range(2)]
        assert answers == ["run 1", "run 2"]
        assert [(name, data["operation"]) for name, data in events] == [
            ("store_failed", "claim"),
            ("store_failed", "claim"),
        ]
        assert isinstance(events[0][1]["error"], StoreUnavailable)
        warnings = [r for r in caplog.records if r.name == "flask_idempotent"]
        assert {r.levelno for r in warnings} == {logging.WARNING}

    def test_no_key_needs_no_store(self, way: WayIn, down: dict[str, str]) -> None:
        """A request without a key does not notice that the store is down."""
        app = way.app(config=down)
        counting(app, way)
        assert post(app, None).text == "run 1"

    def test_r7_after_the_view(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """R7: a response that could not be stored goes out, is stored later, and runs no more."""
        store = FaultyStore()
        app = way.app(store=store)
        counting(app, way)
        store.before["complete"] = [fail(StoreUnavailable("down"))]
        with recorded(app) as events:
            assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        failures = [data for name, data in events if name == "store_failed"]
        assert [data["operation"] for data in failures] == ["complete"]
        assert "the store failed to complete" in caplog.text

    def test_failed_release_frees_the_key(self, way: WayIn) -> None:
        """A release that the store did not take is made good: the next request runs."""
        store = FaultyStore()
        app = way.app(store=store)
        failing_once(app, way)
        store.before["release"] = [fail(StoreUnavailable("down"))]
        assert post(app).status_code == 500
        assert post(app).text == "second run"

    def test_unreadable_record(self, way: WayIn) -> None:
        """A damaged record is a 503 without Retry-After, never a second run."""
        store = FaultyStore()
        app = way.app(store=store)
        counting(app, way)
        store.before["claim"] = [fail(RecordUnreadable("damaged"))]
        answer = post(app)
        assert problem(answer) == (503, "record-unreadable")
        assert "Retry-After" not in answer.headers

    def test_r12_unreadable_body(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """So is one whose body swells beyond what the view may keep."""
        store = FaultyStore()
        app = way.app(store=store, max_body=100)
        counting(app, way)
        post(app)
        (entry,) = store._entries.values()
        body = CompressedBody(zlib.compress(bytes(1000)), 1000)
        entry.record = entry.record._replace(body=body)  # type: ignore[call-arg]
        assert problem(post(app)) == (503, "record-unreadable")
        assert "its body of 1000 bytes is larger than max_body" in caplog.text

    @pytest.mark.parametrize("accept", ["application/json", "text/html"])
    @pytest.mark.parametrize("kind", [StoreUnavailable, RecordUnreadable])
    def test_r7_nothing_of_the_store(
        self, way: WayIn, kind: type[Exception], accept: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R7: a problem shows nothing of the store and of its error, which are in the log."""
        store = FaultyStore()
        app = way.app(store=store)
        counting(app, way)
        store.before["claim"] = [fail(kind("at store.internal"))]
        answer = post(app, headers={"Accept": accept})
        assert answer.status_code == 503
        assert answer.mimetype.endswith(("json", "html"))
        shown = f"{answer.headers} {answer.text}"
        assert not any(word in shown for word in ("internal", "redis", "IDEMPOTENT_"))
        assert "at store.internal" in caplog.text

    def test_e3_own_error_handler(self, way: WayIn, down: dict[str, str]) -> None:
        """E3: the application's handler of the werkzeug class answers in the library's place."""
        app = way.app(config=down)
        counting(app, way)
        app.register_error_handler(ServiceUnavailable, lambda error: ("later", 503))
        assert post(app).text == "later"
