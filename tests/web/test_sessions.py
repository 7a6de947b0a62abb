"""Sessions: looking at one unseen, and what a replay says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cachelib import SimpleCache
from flask import Flask, Response, session, stream_with_context
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_session import Session

from tests.neighbours.client import replayed, send
from tests.support.clients import WayIn


class Untracked(SecureCookieSession):
    """A session that does not know whether it is used, as ``SessionMixin`` has it."""

    accessed = True


class Interface(SecureCookieSessionInterface):
    """Saves such a session, and never says that a response varies by it."""

    session_class = Untracked

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        session.accessed = False
        super().save_session(app, session, response)


def vary(way: WayIn, view: Callable[[], Any], **options: Any) -> list[str | None]:
    """The header ``Vary`` of a first response and of its replay."""
    return vary_of(way, way.app(**options), view)


def vary_of(way: WayIn, app: Flask, view: Callable[[], Any]) -> list[str | None]:
    # Decorated for one application, a function may not stand undecorated in another.
    app.add_url_rule("/", "view", way(lambda: view()), methods=["POST"])
    client = app.test_client()
    answers = [send(client) for _ in range(2)]
    assert [replayed(answer) for answer in answers] == [False, True]
    return [answer.headers.get("Vary") for answer in answers]


def looking() -> str:
    return f"hello {session.get('name', 'nobody')}"


def writing() -> str:
    session["name"] = "alice"
    return "hello"


class TestReplay:
    @pytest.mark.parametrize("view", [looking, writing])
    def test_r9_view_used_the_session(self, way: WayIn, view: Callable[[], str]) -> None:
        """R9: a replay varies by the cookie, as its first response did."""
        assert vary(way, view) == ["Cookie", "Cookie"]

    @pytest.mark.parametrize("view", [looking, writing])
    def test_r9_server_side(self, way: WayIn, view: Callable[[], str]) -> None:
        """R9: so it does with a session that a server keeps."""
        config = {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": SimpleCache()}
        app = way.app(config=config)
        Session(app)
        assert vary_of(way, app, view) == ["Cookie", "Cookie"]

    def test_r9_beside_others(self, way: WayIn) -> None:
        """R9: what the view says of its own varying stays."""

        def view() -> Response:
            return Response(looking(), headers={"Vary": "Accept-Language"})

        assert vary(way, view) == ["Accept-Language, Cookie"] * 2

    def test_r9_nobody_looked(self, way: WayIn) -> None:
        """R9: where nobody looked, neither says so."""
        assert vary(way, lambda: "hello") == [None, None]

    def test_r9_before_the_view(self, way: WayIn) -> None:
        """R9: what looks at each request's session says so itself, and is not said twice."""
        app = way.app()
        app.before_request(lambda: session.get("name") and None)
        assert vary_of(way, app, looking) == ["Cookie", "Cookie"]

    def test_r9_scope_looked(self, way: WayIn) -> None:
        """R9: so does a scope function."""

        def scope(_: object) -> str:
            return str(session.get("name"))

        assert vary(way, lambda: "hello", scope=scope) == ["Cookie", "Cookie"]

    def test_r9_dropped(self, way: WayIn) -> None:
        """R9: an application that drops ``Vary`` from replays has none."""
        assert vary(way, looking, drop_headers=["Vary"]) == ["Cookie", None]

    @pytest.mark.parametrize("config", [{"SECRET_KEY": None}])
    def test_r9_no_session(self, way: WayIn, config: dict[str, Any]) -> None:
        """R9: without a secret key there is no session, and nothing varies by it."""
        assert vary(way, looking, config=config) == [None, None]

    def test_r9_session_that_cannot_tell(self, way: WayIn) -> None:
        """R9: of a session that counts as used always, its own interface alone says more."""
        app = way.app()
        app.session_interface = Interface()
        assert vary_of(way, app, looking) == [None, None]

    def test_r9_stream(self, way: WayIn) -> None:
        """R9: a stream looks at the session too late for its own headers, and for the replay's."""

        def view() -> Response:
            @stream_with_context
            def words() -> Iterator[str]:
                yield looking()

            return Response(words())

        first, replay = vary(way, view)
        assert first == replay
