"""Sessions that a replay leaves alone, and what nobody sees of what is kept of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask, Response, flash, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface

from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.memory import MemoryStore
from tests.neighbours.client import replayed, send
from tests.support.clients import Gate, WayIn, problem, recorded
from tests.support.sessions import (
    MakeShop,
    entries,
    log_in,
    lose_answer,
    messages,
    order,
    serve,
    twin,
    with_server_sessions,
)
from tests.support.views import Background


class TestServerSide:
    def test_saved_meanwhile(self, way: WayIn, background: Background) -> None:
        """A duplicate that was read before the first request's session was saved does not save the
        old state over it."""
        app = serve(with_server_sessions(way.app()), way, log_in)
        gate = Gate()
        app.before_request(lambda: gate() if request.headers.get("X-Late") else None)
        client = app.test_client()
        client.get("/set/cart/mug")
        late = background(send, twin(client), headers={"X-Late": "yes"})
        gate.reached()
        lose_answer(client)
        gate.open()
        assert replayed(late.result())
        assert entries(client) == {
            "cart": "mug", "user": "ann", "_flashes": [["message", "Welcome"]]
        }  # fmt: skip

    def test_saved_while_the_first_is(self, way: WayIn, background: Background) -> None:
        """What is not prevented: a replay that has read the session before the first request saved
        it, and saves it afterwards, overwrites what the first one changed in other entries."""
        app = serve(with_server_sessions(way.app()), way, log_in)
        gates = {"first": Gate(), "replay": Gate()}

        @app.after_request
        def wait(answer: Response) -> Response:
            if name := request.headers.get("X-Gate"):
                gates[name]()
            return answer

        client = app.test_client()
        client.get("/set/cart/mug")
        answers = {}
        for name, gate in gates.items():
            answers[name] = background(send, twin(client), headers={"X-Gate": name})
            gate.reached()
        for name, gate in gates.items():
            gate.open()
            assert replayed(answers[name].result()) is (name == "replay")
        assert entries(client) == {"cart": "mug", "_flashes": [["message", "Welcome"]]}

    def test_changed_before_the_view(self, way: WayIn, background: Background) -> None:
        """What a before_request function has changed in the session is saved on a replay too."""
        app = serve(with_server_sessions(way.app()), way, order)
        app.before_request(lambda: session.update(path=request.path))
        client = app.test_client()
        client.get("/set/cart/mug")
        lose_answer(client)
        send(client)
        shown = entries(client)
        assert (shown["cart"], shown["path"]) == ("mug", "/session")
        assert len(shown["_flashes"]) == 1


class TestHarmless:
    """Where a session cannot be kept or repeated, the responses are as without it."""

    def test_too_large(self, make_shop: MakeShop, caplog: pytest.LogCaptureFixture) -> None:
        """What is larger than ``max_body`` is not kept, and a WARNING says so."""

        def view() -> str:
            flash("x" * 3000)
            return "small"

        client = make_shop(view, max_body=1000).test_client()
        lose_answer(client)
        assert send(client).text == "small"
        assert messages(client) == []
        assert "takes 30" in caplog.text
        assert "which is more than max_body" in caplog.text
        assert "xxx" not in caplog.text

    def test_value_that_no_cookie_carries(
        self, way: WayIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A value that only a server's session can have is not kept, and an ERROR says so."""

        def view() -> str:
            session["cart"] = {"secret"}
            return "ran"

        app = serve(with_server_sessions(way.app(replay_session=["cart"])), way, view)
        client = app.test_client()
        assert [send(client).text for _ in range(2)] == ["ran", "ran"]
        assert "repeat nothing of the session: TypeError" in caplog.text
        assert "secret" not in caplog.text

    def test_found_value_that_cannot_be_copied(
        self, way: WayIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A value that cannot be copied does not keep a view from running."""

        class Odd:
            def __deepcopy__(self, memo: object) -> object:
                raise RuntimeError("with a secret")

        app = serve(way.app(replay_session=["odd", "_flashes"]), way, order)
        app.before_request(lambda: session.update(odd=Odd()))
        app.after_request(lambda answer: (session.pop("odd"), answer)[1])
        client = app.test_client()
        lose_answer(client)
        assert send(client).status_code == 303
        assert "repeat nothing of the session: RuntimeError" in caplog.text
        assert "secret" not in caplog.text

    def test_session_cannot_be_read_again(
        self, way: WayIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A replay goes out where the server of the sessions fails, and an ERROR says so."""
        app = serve(with_server_sessions(way.app()), way, order)
        client = app.test_client()
        client.get("/set/cart/mug")
        lose_answer(client)
        reads = iter([app.session_interface.open_session])

        def fail_at_second_read(*arguments: Any) -> Any:
            for read in reads:
                return read(*arguments)
            raise ConnectionError("of the sessions")

        monkeypatch.setattr(app.session_interface, "open_session", fail_at_second_read)
        assert replayed(send(client))
        assert "because that failed: ConnectionError" in caplog.text

    def test_no_secret_key(self, way: WayIn) -> None:
        """Where there is no session any more, the replay repeats the rest."""
        app = serve(way.app(), way, order)
        lose_answer(app.test_client())
        app.secret_key = None
        replay = send(app.test_client())
        assert replayed(replay)
        assert "Set-Cookie" not in replay.headers

    def test_session_without_flags(self, way: WayIn) -> None:
        """A session class that does not say whether it is used or modified works too."""

        class Plain(SecureCookieSession):
            accessed = modified = True

        class Interface(SecureCookieSessionInterface):
            session_class = Plain

        app = way.app()
        app.session_interface = Interface()
        client = serve(app, way, order).test_client()
        lose_answer(client)
        send(client)
        assert messages(client) == ["Order placed"]

    def test_permanent(self, make_shop: MakeShop) -> None:
        """A permanent session, whose cookie is sent with each answer, has the message once."""

        def view() -> Any:
            session.permanent = True
            return order()

        client = make_shop(view).test_client()
        lose_answer(client)
        send(client)
        assert [messages(client) for _ in range(2)] == [["Order placed"], []]

    def test_after_request(self, make_shop: MakeShop) -> None:
        """What ``after_request`` writes is written for each answer by itself, and once."""
        app = make_shop(lambda: "")
        app.after_request(lambda answer: (request.method == "POST" and flash("Bye"), answer)[1])
        client = app.test_client()
        lose_answer(client)
        send(client)
        assert messages(client) == ["Bye"]


def with_part(way: WayIn, part: bytes) -> Flask:
    """An application that has answered a request, whose record has this part."""
    store = MemoryStore()
    app = serve(way.app(store=store), way, lambda: "ran")
    send(app.test_client())
    (storage_key,) = store.scan("")
    record = store.read(storage_key)
    assert isinstance(record, CompletedRecord)
    store.delete([storage_key])
    store.complete(storage_key, record._replace(session=part), ttl_ms=60_000)
    return app


class TestPrivate:
    SECRET = "a message for Ann"

    def test_neither_logged_nor_sent(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """No log line, no signal and no ``repr`` has what the record repeats of a session."""
        caplog.set_level(logging.DEBUG)
        store = MemoryStore()
        app = serve(way.app(store=store), way, lambda: flash(self.SECRET) or "")
        with recorded(app) as events:
            for _ in range(2):
                send(app.test_client())
        assert [name for name, _ in events] == ["claimed", "completed", "replayed"]
        (record,) = map(store.read, store.scan(""))
        assert isinstance(record, CompletedRecord)
        assert self.SECRET.encode() in record.session
        assert self.SECRET not in f"{caplog.text} {events} {record!r}"

    @pytest.mark.parametrize("part", [b"\xff", b"[]", b'{"appended": {"_flashes": 1}}'])
    def test_r12_damaged(self, way: WayIn, part: bytes, caplog: pytest.LogCaptureFixture) -> None:
        """R12: a damaged part is a record that cannot be read: 503, and the view does not run."""
        answer = send(with_part(way, part).test_client())
        assert problem(answer) == (503, "record-unreadable")
        assert "Set-Cookie" not in answer.headers
        assert "its session part is damaged" in caplog.text

    def test_names_are_checked_again(self, way: WayIn) -> None:
        """A record that somebody else wrote changes no entry that is not named."""
        part = b'{"appended": {"_flashes": [1], "x": [1]}, "written": {"user": {" t": [null, 7]}}}'
        client = with_part(way, part).test_client()
        assert replayed(send(client))
        assert entries(client) == {"_flashes": [1]}
