"""Keys that can be used again: corrected requests, and answers that are not kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from flask import Flask, Response, request, stream_with_context

from flask_idempotent import _timing, current_claim, signals
from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.stores.memory import MemoryStore
from tests.stores.harness import lapse
from tests.support.clients import Gate, WayIn, post, problem, recorded
from tests.support.faulty_store import Clock, FaultyStore

Background = Callable[..., Future[Any]]


def validating(app: Flask, way: WayIn) -> None:
    """Make a view that takes an amount, and refuses one that is none with the status it is told."""
    runs = count(1)

    @app.route("/orders/<int:customer>", methods=["POST", "PUT"])
    @way
    def view(customer: int) -> tuple[str, int]:
        run, amount = next(runs), request.form["amount"]
        if amount.isdecimal():
            return f"run {run}: {amount}, attempt {current_claim.attempt}", 201
        return f"run {run}: no amount", int(request.form.get("status", 422))


def order(app: Flask, amount: str, *, path: str = "/orders/1", **options: Any) -> Any:
    status = options.pop("status", "422")
    return post(app, path=path, data={"amount": amount, "status": status}, **options)


class TestCorrected:
    @pytest.mark.parametrize("status", ["400", "413", "415", "422"])
    def test_c7_corrected_request_runs(self, way: WayIn, status: str) -> None:
        """C7: after a failed validation the corrected request runs, as the next attempt."""
        app = way.app()
        validating(app, way)
        for _ in "12":
            refused = order(app, "x", status=status)
            assert (refused.status_code, refused.text) == (int(status), "run 1: no amount")
        for _ in "12":
            accepted = order(app, "5")
            assert (accepted.status_code, accepted.text) == (201, "run 2: 5, attempt 2")
        assert problem(order(app, "x", status=status)) == (422, "key-reused")

    @pytest.mark.parametrize("status", ["404", "409", "200"])
    def test_f4_other_answers_bind(self, way: WayIn, status: str) -> None:
        """F4: any other answer binds the key, and stays as it is."""
        app = way.app()
        validating(app, way)
        order(app, "x", status=status)
        assert problem(order(app, "5")) == (422, "key-reused")
        assert order(app, "x", status=status).text == "run 1: no amount"

    @pytest.mark.parametrize("other", [{"path": "/orders/2"}, {"method": "PUT"}])
    def test_f5_other_operation(self, way: WayIn, other: dict[str, str]) -> None:
        """F5: another path of the same view, and another method, is no correction."""
        app = way.app()
        validating(app, way)
        order(app, "x")
        assert problem(order(app, "5", **other)) == (422, "key-reused")

    @pytest.mark.parametrize(
        ("correctable", "status", "runs"),
        [((409,), "409", True), ((409,), "422", False), (False, "422", False)],
    )
    def test_setting(self, way: WayIn, correctable: object, status: str, runs: bool) -> None:
        """C7: ``correctable`` names other statuses, or none."""
        app = way.app(correctable=correctable)
        validating(app, way)
        order(app, "x", status=status)
        assert (order(app, "5").status_code == 201) is runs

    def test_c7_who_waited_gets_422(
        self, way: WayIn, background: Background, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C7: who was waiting for the answer that was replaced gets 422, as F4 has it."""
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.1)
        store = FaultyStore()
        app, gate = way.app(store=store), Gate()

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            gate()
            return "no", 422

        first = background(post, app, data="one")
        gate.reached()
        waiting = background(post, app, data="one")
        assert store.listening.acquire(timeout=10)
        store.is_silent = True
        gate.open()
        assert first.result().status_code == 422
        assert post(app, data="two").text == "no"
        assert problem(waiting.result()) == (422, "key-reused")

    def test_replaced_record(self, way: WayIn) -> None:
        """The record of a corrected request is as any other's, and tells what it is for."""
        store = FaultyStore()
        app = way.app(store=store)
        validating(app, way)
        order(app, "x")
        (name,) = store.scan("")
        first = store.read(name)
        assert isinstance(first, CompletedRecord)
        assert (first.method, first.endpoint, len(first.operation)) == ("POST", "view", 16)
        order(app, "5")
        second = store.read(name)
        assert isinstance(second, CompletedRecord)
        assert (second.attempt, second.operation) == (2, b"")


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
        app, gate, runs = way.app(lease=0.15, max_run=0.2), Gate(), count(1)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            run = next(runs)
            if run == 1:
                gate()
            return f"run {run}, attempt {current_claim.attempt}", 200 if run == 1 else 503

        first = background(post, app)
        gate.reached()
        assert post(app).text == "run 2, attempt 2"
        assert "no longer renewed" in caplog.text
        gate.open()
        assert first.result().text == "run 1, attempt 1"
        assert post(app).text == "run 1, attempt 1"

    def test_c9_streams_are_renewed(self, way: WayIn) -> None:
        """C9: it counts until the view returns: a response that streams is renewed as ever."""
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
        monkeypatch.setattr("flask_idempotent.web.running.was_accessed", self.receiver)
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

        def give_back(sender: object, **data: object) -> None:
            seen.append((sender, request.path, data.keys()))
            assert store.listening.acquire(blocking=False) is False

        first = background(post, app, path="/a")
        gate.reached()
        with signals.before_wait.connected_to(give_back, app):
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
        app, gate, runs = way.app(store=store, timeout=0.3, on_crash=on_crash), Gate(), count(1)

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
