"""Keys that can be used again: corrected requests, and answers that are not kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import Response, stream_with_context

from flask_idempotent import current_claim
from tests.stores.harness import lapse
from tests.support.clients import Gate, WayIn, post, recorded
from tests.support.faulty_store import Clock, FaultyStore
from tests.support.orders import order, validating
from tests.support.polling import until

Background = Callable[..., Future[Any]]


class TestDontKeep:
    def test_c8_statuses(self, way: WayIn) -> None:
        """C8: a status in ``dont_keep`` is not kept, and the next request runs."""
        app = way.app(dont_keep=(404,))
        validating(app, way)
        assert order(app, "x", status="404").text.startswith("run 1")
        assert order(app, "x", status="404").text.startswith("run 2")
        assert order(app, "x", status="409").text.startswith("run 3")
        assert order(app, "x", status="409").text.startswith("run 3")

    def test_beside_store_if(self, way: WayIn) -> None:
        """It counts beside a ``store_if`` of the application's own."""
        app = way.app(dont_keep=[404], store_if=lambda response: True)
        validating(app, way)
        assert [order(app, "x", status="404").text[:5] for _ in "12"] == ["run 1", "run 2"]


class TestRelease:
    """C8: ``current_claim.release()``."""

    def test_c8_answer_is_not_stored(self, way: WayIn) -> None:
        """The answer goes out and is not stored, and the next request runs."""
        app, runs = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> str:
            run = next(runs)
            if run == 1:
                current_claim.release()
                assert current_claim, "it is ours until the view has ended"
            return f"run {run}"

        with recorded(app) as events:
            texts = [post(app).text for _ in range(3)]
        assert texts == ["run 1", "run 2", "run 2"]
        assert [name for name, _ in events][:2] == ["claimed", "released"]
        assert events[1][1]["reason"] == "by-view"

    def test_nobody_runs_beside_it(self, way: WayIn, background: Background) -> None:
        """The key is free when the view has ended, not before: a duplicate waits."""
        app, gate, runs = way.app(), Gate(), count(1)

        @app.post("/")
        @way
        def view() -> str:
            run = next(runs)
            if run == 1:
                current_claim.release()
                gate()
            return f"run {run}"

        first = background(post, app)
        gate.reached()
        second = background(post, app)
        gate.open()
        assert (first.result().text, second.result().text) == ("run 1", "run 2")

    @pytest.mark.parametrize("when", ["view", "stream"])
    def test_streamed(self, way: WayIn, when: str) -> None:
        """What a view streams is not stored either, be it released before or meanwhile."""
        app, runs = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> Response:
            run = next(runs)
            if when == "view":
                current_claim.release()

            @stream_with_context
            def stream() -> Iterator[str]:
                yield f"run {run}"
                if when == "stream":
                    current_claim.release()

            return Response(stream())

        assert [post(app).text for _ in range(2)] == ["run 1", "run 2"]

    def test_failing_view(self, way: WayIn) -> None:
        """A view that fails after it gave up its claim releases it as failed, once."""
        app = way.app()

        @app.post("/")
        @way
        def view() -> str:
            current_claim.release()
            raise ValueError

        with recorded(app) as events:
            post(app)
        assert [data.get("reason") for name, data in events if name == "released"] == ["failed"]

    def test_of_a_second_attempt(self, way: WayIn) -> None:
        """After a crash it leaves a tombstone: the attempt number goes on."""
        store = FaultyStore()
        app, runs = way.app(store=store), []

        @app.post("/")
        @way
        def view() -> str:
            runs.append(current_claim.attempt)
            if runs == [1]:
                lapse(store, next(iter(store.scan(""))))
                post(app)
            current_claim.release()
            return ""

        for _ in "12":
            post(app)
        assert runs == [1, 2, 3]


class TestNoClaim:
    def test_says_what_to_test(self) -> None:
        """Without a claim its attributes are an error that says what to test for."""
        for name in ("key", "owner", "attempt", "held"):
            with pytest.raises(AttributeError, match=rf"no {name} here.*if current_claim: "):
                getattr(current_claim, name)
        with pytest.raises(AttributeError, match="nothing is claimed"):
            current_claim.release()
        assert repr(current_claim) == "<no claim>"
        assert getattr(current_claim, "key", None) is None

    def test_in_a_view(self, way: WayIn) -> None:
        """So it is in a view whose request carries no key."""
        app = way.app(config={"PROPAGATE_EXCEPTIONS": True})
        app.add_url_rule("/", "view", way(lambda: current_claim.key), methods=["POST"])
        with pytest.raises(AttributeError, match="carries no key"):
            post(app, None)


class TestMaxRun:
    def test_c9_second_run(
        self, way: WayIn, background: Background, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C9: a view that runs longer than ``max_run`` is renewed no more, and then taken over.

        What it answers in the end is replayed where nothing else was answered.
        """
        store = FaultyStore()
        app, gate, runs = way.app(store=store, lease=0.15, max_run=0.2), Gate(), count(1)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            run = next(runs)
            if run == 1:
                gate()
            return f"run {run}, attempt {current_claim.attempt}", 200 if run == 1 else 503

        first = background(post, app)
        gate.reached()
        until(lambda: "no longer renewed" in caplog.text)
        (name,) = store.scan("")
        lapse(store, name)
        assert post(app).text == "run 2, attempt 2"
        gate.open()
        assert first.result().text == "run 1, attempt 1"
        assert post(app).text == "run 1, attempt 1"

    def test_c9_streams_are_renewed(self, way: WayIn) -> None:
        """C9: it counts until the view returns: a response that streams is still renewed."""
        clock = Clock()
        store = FaultyStore(clock)
        app = way.app(store=store, lease=0.1, max_run=0.01, timeout=0)

        @app.post("/")
        @way
        def view() -> Response:
            def stream() -> Iterator[str]:
                yield "a"
                for _ in range(3):
                    renewed.acquire(timeout=5)
                yield "b"

            return Response(stream())

        renewed = threading.Semaphore(0)
        store.before["renew"] = [renewed.release] * 10
        assert post(app).text == "ab"
        assert post(app).headers["Idempotent-Replayed"] == "true"
