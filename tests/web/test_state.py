"""The state of an application: one engine, and settings resolved once."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request_started
from flask import request as flask_request

from flask_idempotent import idempotent
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web import decorator
from flask_idempotent.web.first_requests import FirstRequests
from flask_idempotent.web.state import EXTENSION_KEY, AppState, state_of
from tests.conftest import MakeApp
from tests.support.clients import post
from tests.support.request_bodies import chunked, with_length


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(wide=False)


class TestEngine:
    def test_made_once_by_many_threads(self, app: Flask, background: Callable[..., Any]) -> None:
        """Threads that race for the engine get one."""
        state, barrier = state_of(app), threading.Barrier(8)

        def get() -> object:
            barrier.wait()
            return state.engine

        engines = {id(future.result()) for future in [background(get) for _ in range(8)]}
        assert engines == {id(state.engine)}

    def test_takes_the_store_it_is_given(self, app: Flask) -> None:
        """A store that was given is the engine's."""
        store = MemoryStore()
        state = AppState(app, store=store)
        app.extensions[EXTENSION_KEY] = state
        assert state.engine.store is store

    def test_opens_the_store_of_the_config(self, app: Flask) -> None:
        """Else the engine has the store of REDIS_URL."""
        assert isinstance(state_of(app).engine.store, MemoryStore)


class TestStateOf:
    def test_made_for_an_app_without_the_extension(self, app: Flask) -> None:
        """An application that has only decorated views gets a state, and keeps it."""
        state = state_of(app)
        assert state.app is app
        assert app.extensions[EXTENSION_KEY] is state
        assert state_of(app) is state

    def test_one_for_many_threads(self, app: Flask, background: Callable[..., Any]) -> None:
        """Threads that race for the first request find one state."""
        barrier = threading.Barrier(8)

        def get() -> AppState:
            barrier.wait()
            return state_of(app)

        assert {future.result() for future in [background(get) for _ in range(8)]} == {
            state_of(app)
        }

    def test_the_extensions_own(self, make_app: MakeApp) -> None:
        """With the extension its state is the one."""
        app = make_app()
        assert state_of(app) is app.extensions[EXTENSION_KEY]


class TestPrepare:
    """What happens at the first request, so that later ones need not pay for it."""

    @pytest.fixture(autouse=True)
    def _alone(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        # The decorated views of other tests have no application here.
        decorator.first_requests.stop_listening()
        first_requests = FirstRequests()
        monkeypatch.setattr(decorator, "first_requests", first_requests)
        monkeypatch.setattr(FirstRequests, "PATIENCE", 5)
        yield
        first_requests.stop_listening()

    @pytest.fixture
    def others(self) -> set[object]:
        """Who listens to the signal for other tests' applications."""
        return set(request_started.receivers)

    @pytest.fixture(params=["decorator", "extension"])
    def app(self, request: pytest.FixtureRequest, make_app: MakeApp, others: set[object]) -> Flask:
        app = make_app(wide=request.param == "extension")

        def view() -> str:
            return type(flask_request.environ["wsgi.input"]).__name__

        protected = view if request.param == "extension" else idempotent(view)
        app.add_url_rule("/", "view", protected, methods=["POST"])
        return app

    def seen_before(self, app: Flask) -> list[str]:
        """What stands in the place of the server's stream before the view is called."""
        seen: list[str] = []
        app.before_request(lambda: seen.append(type(flask_request.environ["wsgi.input"]).__name__))
        return seen

    def test_f8_bodies_are_tracked(self, app: Flask) -> None:
        """F8: a body that may need a fingerprint is tracked, from the first request on."""
        seen = self.seen_before(app)
        for _ in range(2):
            app.test_client().post("/", headers={"Idempotency-Key": "k"})
        assert seen == ["TrackedInput", "TrackedInput"]

    def test_w7_others_are_not(self, app: Flask) -> None:
        """W7: a request that cannot carry a key has the server's own stream."""
        seen = self.seen_before(app)
        for _ in range(2):
            assert app.test_client().post("/", json={"a": 1}).text == "BytesIO"
        assert seen == ["BytesIO", "BytesIO"]

    def test_signal_is_let_go(self, app: Flask, others: set[object]) -> None:
        """Every request would pay for its receiver, so the signal is soon listened to no more."""
        for _ in range(5):
            app.test_client().post("/")
        assert request_started.receivers.keys() <= others

    def test_application_that_is_added_meanwhile(
        self, app: Flask, others: set[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No request notices that another thread adds an application when the signal is let go."""
        disconnect, failures = request_started.disconnect, [RuntimeError("changed size")]

        def disturbed(receiver: Callable[..., None]) -> None:
            if failures:
                raise failures.pop()
            disconnect(receiver)

        monkeypatch.setattr(request_started, "disconnect", disturbed)
        for _ in range(5):
            assert app.test_client().post("/").status_code == 200
        assert failures == []
        assert request_started.receivers.keys() <= others

    def test_f8_each_application_of_a_process(self, make_app: MakeApp) -> None:
        """F8: every application is prepared at its own first request, also for a shared view."""

        @idempotent
        def view() -> str:
            return "done"

        for app in [make_app(wide=False) for _ in range(3)]:
            seen = self.seen_before(app)
            app.add_url_rule("/", "view", view, methods=["POST"])
            make_app(wide=True).test_client().get("/nothing")
            app.test_client().post("/", headers={"Idempotency-Key": "k"})
            assert seen == ["TrackedInput"]

    def test_late_application(self, make_app: MakeApp, others: set[object]) -> None:
        """An application that comes when none was expected is prepared at its second request,
        and the next late one at its first."""
        view = idempotent(lambda: "done")
        seen = []
        for _ in range(3):
            app = make_app(wide=False)
            seen.append(self.seen_before(app))
            app.add_url_rule("/", "view", view, methods=["POST"])
            for _ in range(5):
                app.test_client().post("/", headers={"Idempotency-Key": "k"})
        tracked = ["TrackedInput"] * 5
        assert seen == [tracked, ["BytesIO", *tracked[1:]], tracked]
        assert not request_started.receivers.keys() <= others

    @pytest.mark.parametrize("framing", [with_length, chunked])
    def test_f8_body_read_in_a_late_application(
        self, make_app: MakeApp, others: set[object], framing: Callable[[bytes], dict[str, Any]]
    ) -> None:
        """F8: a body that was read in the first request of such an application is refused, and
        from the second request on it is compared."""
        view = idempotent(lambda: "done")
        answers = []
        for _ in range(2):
            app = make_app(wide=False)
            app.before_request(lambda: flask_request.get_data(cache=False) and None)
            app.add_url_rule("/", "view", view, methods=["POST"])
            for body in [b"pay=1", b"pay=1", b"pay=1000000", b"pay=1", b"pay=1"]:
                environ = {**framing(body), "wsgi.input": io.BytesIO(body)}
                answers.append(post(app, environ_overrides=environ).status_code)
        assert answers == [200, 200, 422, 200, 200, 500, 200, 422, 200, 200]

    def test_prepared_by_the_extension(self, make_app: MakeApp, others: set[object]) -> None:
        """It makes no difference who prepares an application: its views are known afterwards."""
        app = make_app(wide=True)
        app.add_url_rule("/", "view", idempotent(lambda: "done"), methods=["POST"])
        state_of(app).prepare(app)
        assert app.test_client().post("/").text == "done"

    def test_unused_function(self, make_app: MakeApp, others: set[object]) -> None:
        """A decorated function that no application has does not cost every request for ever."""
        app = make_app(wide=False)
        used, _unused = [idempotent(lambda: "used") for _ in "12"]
        app.add_url_rule("/", "view", used, methods=["POST"])
        for _ in range(4):
            assert app.test_client().post("/").text == "used"
        assert not request_started.receivers.keys() <= others
        app.test_client().post("/")
        assert request_started.receivers.keys() <= others

    def test_known_before(self, app: Flask) -> None:
        """It makes no difference that somebody asked for the state before the first request."""
        state_of(app)
        seen = self.seen_before(app)
        app.test_client().post("/", headers={"Idempotency-Key": "k"})
        assert seen == ["TrackedInput"]

    def test_once(self, app: Flask) -> None:
        """Nothing is wrapped twice."""
        state = state_of(app)
        state.prepare(app)
        wrapped = app.full_dispatch_request
        state.prepare(app)
        assert app.full_dispatch_request is wrapped

    def test_f8_receivers_of_the_signal(self, app: Flask) -> None:
        """F8: what a receiver of ``request_started`` reads is tracked too."""
        bodies: list[bytes] = []

        def receive(_: Flask, **__: object) -> None:
            bodies.append(flask_request.get_data(cache=False))

        client, headers = app.test_client(), {"Idempotency-Key": "k"}
        client.post("/", data=b"warm up")
        with request_started.connected_to(receive, app):
            assert client.post("/", data=b"one", headers=headers).status_code == 200
            assert client.post("/", data=b"other", headers=headers).status_code == 422
        assert bodies == [b"one", b"other"]

    def test_w7_other_views_are_left_alone(self, app: Flask) -> None:
        """W7: the body of a view that is exempt is the server's."""
        seen = self.seen_before(app)
        view = app.view_functions["view"]
        exempt = idempotent.exempt(getattr(view, "__wrapped__", view))
        app.add_url_rule("/exempt", "exempt", exempt, methods=["POST"])
        app.test_client().post("/exempt", headers={"Idempotency-Key": "k"})
        assert seen == ["BytesIO"]


class TestOnStore:
    def test_for_a_while(self, app: Flask) -> None:
        """The engine works on another store, and the former engine comes back."""
        state, store = AppState(app), MemoryStore()
        before = state.engine
        with state.using_store(store):
            assert state.engine.store is store
        assert state.engine is before
        before.close()
