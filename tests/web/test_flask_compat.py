"""What is private in Flask and Werkzeug, or differs between their versions, in one module each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from flask import Flask, Request, request, session

import flask_idempotent
from flask_idempotent.settings import resolve
from flask_idempotent.web.flask_compat import (
    body_limit,
    current_application,
    current_context,
    current_request,
    session_of,
    without_proxy,
)
from flask_idempotent.web.sessions import SessionUse
from tests.support.clients import WayIn

PACKAGE = Path(flask_idempotent.__file__).parent
COMPAT = {"web/flask_compat.py", "http/werkzeug_compat.py"}
PRIVATE_MODULES = {"flask.globals", "flask.ctx", "flask.app", "flask.sansio"}
PRIVATE_NAMES = {
    "_cached_data", "_get_current_object", "_get_session", "_max_content_length", "_session",
    "app_ctx", "request_ctx", "__dict__",
    # Methods that Flask calls, with other arguments in each version, and that can be replaced.
    "dispatch_request", "full_dispatch_request", "handle_user_exception", "preprocess_request",
    "process_response", "finalize_request",
}  # fmt: skip
#: Names in quotes, as ``getattr`` takes them; ``dispatch_request`` is a public method of a View.
QUOTED = PRIVATE_NAMES - {"dispatch_request", "__dict__"} | {"_stream"}


def private_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module)) if module in PRIVATE_MODULES:
                yield module
            case ast.Import(names=names):
                yield from PRIVATE_MODULES & {alias.name for alias in names}
            case ast.Attribute(attr=name) if name in PRIVATE_NAMES:
                yield name
            case ast.Constant(value=str(name)) if name in QUOTED:
                yield name
            case ast.Call(func=ast.Name(id="vars"), args=[ast.Name(id="request" | "current")]):
                yield "vars"


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


class TestPrivateNames:
    @pytest.mark.parametrize("folder", ["web", "http", "contrib", "cli", "doctor"])
    def test_one_module(self, folder: str) -> None:
        """No module but the two adapters touches what is private in Flask or Werkzeug."""
        uses = {
            (name, found)
            for path in (PACKAGE / folder).rglob("*.py")
            if (name := path.relative_to(PACKAGE).as_posix()) not in COMPAT
            for found in private_names(path.read_text())
        }
        assert not uses

    def test_adapters(self) -> None:
        """The adapters do touch them: the names above are those that are in use."""
        found = {name for path in COMPAT for name in private_names((PACKAGE / path).read_text())}
        assert found >= {"flask.globals", "_get_current_object", "vars", "_cached_data", "_stream"}


class TestCurrent:
    def test_in_a_request(self, app: Flask) -> None:
        """In a request its own objects are found, not the proxies that stand for them."""
        with app.test_request_context() as pushed:
            context = current_context()
            assert context is pushed
            assert context.app is current_application() is app
            assert context.request is current_request()
            assert type(current_request()) is Request

    def test_in_no_request(self, app: Flask) -> None:
        """Outside a request they are a RuntimeError, in the context of an application too."""
        for find in (current_context, current_request):
            with pytest.raises(RuntimeError):
                find()
            with app.app_context(), pytest.raises(RuntimeError):
                find()

    def test_proxy(self, app: Flask) -> None:
        """A proxy is looked through; what is none stays itself."""
        with app.app_context():
            assert without_proxy(flask.current_app) is app
        assert without_proxy(app) is app


class TestBodyLimit:
    @pytest.mark.parametrize("limit", [None, 0, 1000])
    def test_w4_of_the_application(self, app: Flask, limit: int | None) -> None:
        """W4: the limit is the application's."""
        app.config["MAX_CONTENT_LENGTH"] = limit
        with app.test_request_context():
            assert body_limit(app, current_request()) == request.max_content_length == limit

    def test_w4_of_a_class(self, app: Flask) -> None:
        """W4: a request class of the application's has the say."""

        class Limited(Request):
            max_content_length = 7

        app.request_class = Limited
        with app.test_request_context():
            assert body_limit(app, current_request()) == 7


class TestSessionOf:
    def test_looking_is_no_use(self, way: WayIn) -> None:
        """Getting at the session does not mark it; the public name does, or its methods."""
        app = way.app()
        with app.test_request_context() as context:
            assert session_of(context) is not None
            use = SessionUse(resolve({}))
            assert not use.adds_vary
            session.get("name")
            assert use.adds_vary

    def test_no_session(self, way: WayIn) -> None:
        """A session that cannot be used is not used."""
        app = way.app(config={"SECRET_KEY": None})
        with app.test_request_context():
            use = SessionUse(resolve({}))
            session.get("name")
            assert not use.adds_vary
