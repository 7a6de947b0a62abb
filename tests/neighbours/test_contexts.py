"""Flask's contexts: streams and threads that keep them, and the test client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count
from typing import Any

from flask import (
    Flask,
    Response,
    after_this_request,
    copy_current_request_context,
    flash,
    g,
    get_flashed_messages,
    request,
    session,
    stream_with_context,
)

from flask_idempotent import current_claim
from tests.neighbours.client import replayed, send, summary
from tests.support.clients import WayIn
from tests.support.flask_versions import call_in_context

Background = Callable[..., Future[Any]]


def test_r3_stream_with_context(way: WayIn) -> None:
    """R3: a stream sees its own request and session, and its replay runs nothing."""
    app, runs = way.app(), count(1)

    @app.post("/")
    @way
    def view() -> Response:
        session["name"] = "alice"
        g.word = "hello"

        @stream_with_context
        def words() -> Iterator[str]:
            yield f"run {next(runs)}: "
            yield f"{g.word} {session['name']}, {request.headers['X-Word']}"

        return Response(words())

    client = app.test_client()
    first = send(client, headers={"X-Word": "one"})
    retry = send(client, headers={"X-Word": "two"})
    assert summary(first) == (200, "run 1: hello alice, one", False)
    assert summary(retry) == (200, "run 1: hello alice, one", True)


def test_copied_context(way: WayIn, background: Background) -> None:
    """A thread with a copy of the context works for the first request alone."""
    app, threads = way.app(), count(1)

    @app.post("/")
    @way
    def view() -> str:
        @copy_current_request_context
        def work() -> str:
            return f"thread {next(threads)} of {request.path}, claim {current_claim.key}"

        return background(work).result(10)

    client = app.test_client()
    answer = "thread 1 of /, claim key-one"
    assert [summary(send(client)) for _ in range(2)] == [(200, answer, False), (200, answer, True)]


def test_copied_context_that_outlives_the_answer(way: WayIn, background: Background) -> None:
    """A thread that goes on after the answer reads its own request, which holds no claim then."""
    app = way.app()
    late: list[Future[tuple[str, bool]]] = []

    @app.post("/<name>")
    @way
    def view(name: str) -> str:
        @copy_current_request_context
        def work() -> tuple[str, bool]:
            answered.result(10)
            return request.path, bool(current_claim)

        late.append(background(work))
        return name

    answered: Future[None] = Future()
    client = app.test_client()
    assert [summary(send(client, "/alice"))[2] for _ in range(2)] == [False, True]
    answered.set_result(None)
    assert [thread.result(10) for thread in late] == [("/alice", False)]


def test_after_this_request(way: WayIn) -> None:
    """R4: what a view defers with ``after_this_request`` is not part of what is stored."""
    app = way.app()

    @app.post("/")
    @way
    def view() -> str:
        @after_this_request
        def sign(response: Response) -> Response:
            response.headers["X-Signed"] = "yes"
            return response

        return "run"

    client = app.test_client()
    first, retry = send(client), send(client)
    assert first.headers["X-Signed"] == "yes"
    assert summary(retry) == (200, "run", True)
    assert "X-Signed" not in retry.headers


def test_session_transaction(way: WayIn) -> None:
    """F6: a user whom a test puts into the session with ``session_transaction`` is the scope."""
    app, runs = way.app(), count(1)
    app.post("/")(way(lambda: f"run {next(runs)}"))
    client = app.test_client()
    texts = []
    for name in ("alice", "bob", "alice"):
        with client.session_transaction() as transaction:
            transaction["_user_id"] = name
        texts.append(send(client).text)
    assert texts == ["run 1", "run 2", "run 1"]


def test_session_after_a_replay(way: WayIn) -> None:
    """R1: a replay leaves the session as the browser has it, and brings flashed messages alone."""
    app = way.app()

    @app.post("/")
    @way
    def view() -> str:
        session["cart"] = 7
        flash("ordered")
        return "run"

    app.get("/messages")(lambda: {"messages": get_flashed_messages()})
    client, other = app.test_client(), app.test_client()
    for browser in (client, other):
        send(browser)
    assert client.get("/messages").json == {"messages": ["ordered"]}
    assert other.get("/messages").json == {"messages": ["ordered"]}
    with client.session_transaction() as first, other.session_transaction() as second:
        assert (first.get("cart"), second.get("cart")) == (7, None)


def test_client_that_keeps_its_context(way: WayIn) -> None:
    """``with client:`` keeps the context of a first answer and of a replay for the test to see."""
    app = way.app()
    app.before_request(lambda: setattr(g, "seen", request.path))
    app.post("/")(way(lambda: "run"))
    with app.test_client() as client:
        for again in (False, True):
            assert replayed(send(client)) == again
            assert (g.seen, request.method) == ("/", "POST")


def test_request_context_of_a_test(make_app: Callable[..., Flask]) -> None:
    """``app.test_request_context`` and ``full_dispatch_request`` serve and replay as a server."""
    app = make_app()
    app.post("/")(lambda: "run")
    headers = {"Idempotency-Key": "key-one"}
    marks = []
    for _ in range(2):
        with app.test_request_context("/", method="POST", headers=headers) as context:
            response = call_in_context(app, "full_dispatch_request", context)
            marks.append(response.headers.get("Idempotent-Replayed"))
    assert marks == [None, "true"]
