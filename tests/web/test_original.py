"""What the library of 2015 did, and this one still does."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask, Request, render_template_string
from jinja2 import StrictUndefined

from flask_idempotent import Idempotent, SettingsError
from tests.conftest import MakeApp
from tests.support.clients import Gate, post, problem
from tests.support.redis_servers import Server

INPUT = re.compile(r'<input type="hidden" name="__idempotent_key" value="([^"]+)">')


@pytest.fixture
def app(make_app: MakeApp, clean_valkey: Server) -> Flask:
    app = make_app(wide=False, config={"REDIS_URL": clean_valkey.url})
    runs = count(1)

    @app.route("/", methods=["GET", "POST"])
    def view() -> str:
        return f"run {next(runs)}"

    return app


@pytest.fixture
def extension(app: Flask) -> Idempotent:
    return Idempotent(app)


@pytest.mark.usefixtures("extension")
class TestParallelRequests:
    @pytest.fixture
    def send(self, app: Flask, background: Callable[..., Any]) -> Callable[..., list[str]]:
        """Sends requests with these keys at the same moment."""

        def send(*keys: str | None) -> list[str]:
            barrier = threading.Barrier(len(keys))

            def one(key: str | None) -> str:
                barrier.wait()
                return post(app, key).text

            return [future.result() for future in [background(one, key) for key in keys]]

        return send

    def test_one_key(self, send: Callable[..., list[str]]) -> None:
        """Four requests with one key get one body."""
        assert send("a", "a", "a", "a") == ["run 1"] * 4

    def test_two_keys(self, send: Callable[..., list[str]]) -> None:
        """Requests with two keys get two bodies, one for each key."""
        answers = send("a", "b", "a", "b")
        assert answers[0] == answers[2] != answers[1] == answers[3]

    def test_no_key(self, send: Callable[..., list[str]]) -> None:
        """Five requests without a key get five bodies."""
        assert len(set(send(None, None, None, None, None))) == 5


@pytest.mark.usefixtures("extension")
class TestPlacesOfTheKey:
    @pytest.mark.parametrize(
        "sent",
        [
            {"query_string": {"__idempotent_key": "key"}},
            {"data": {"__idempotent_key": "key"}},
            {"headers": {"X-Idempotent-Key": "key"}},
            {"headers": {"x-idempotent-key": "key"}},
        ],
        ids=["query", "form", "header", "header-K1-lower-case"],
    )
    def test_each(self, app: Flask, sent: dict[str, Any]) -> None:
        """The key is found in the query, the form and the header, on any tracked method."""
        assert [post(app, None, **sent).text for _ in range(2)] == ["run 1"] * 2


class TestConfig:
    def test_defaults(self) -> None:
        """The original's three settings are in the config, with its defaults."""
        app = Flask("tests")
        Idempotent(app)
        assert app.config["REDIS_URL"] == "redis://localhost:6379/0"
        assert app.config["IDEMPOTENT_TIMEOUT"] == 60
        assert app.config["IDEMPOTENT_EXPIRE"] == 240

    def test_own_values_stay(self, make_app: MakeApp) -> None:
        """What the application has set is not replaced."""
        app = make_app(config={"IDEMPOTENT_TIMEOUT": 5, "IDEMPOTENT_EXPIRE": 6})
        assert app.config["REDIS_URL"] == "memory://"
        assert (app.config["IDEMPOTENT_TIMEOUT"], app.config["IDEMPOTENT_EXPIRE"]) == (5, 6)

    def test_set_after_the_extension(
        self, app: Flask, extension: Idempotent, clean_valkey: Server
    ) -> None:
        """What is set after ``Idempotent(app)`` and before the first request counts."""
        app.config["IDEMPOTENT_EXPIRE"] = 1000
        post(app)
        (name,) = clean_valkey.client.keys()
        assert 990 < clean_valkey.client.ttl(name) <= 1000


class TestKeyFinder:
    def test_decorator(self, app: Flask, extension: Idempotent) -> None:
        """A function under ``key_finder`` gets the request and finds the key."""

        @extension.key_finder
        def find(request: Request) -> str | None:
            return request.headers.get("X-Request-Token")

        sent = {"X-Request-Token": "token"}
        assert [post(app, None, headers=sent).text for _ in range(2)] == ["run 1"] * 2
        assert [post(app, None).text for _ in range(2)] == ["run 2", "run 3"]


class TestGeneratedKeys:
    def test_key(self, extension: Idempotent) -> None:
        """``generate_idempotent_key`` makes another usable key each time."""
        keys = {extension.generate_idempotent_key() for _ in range(100)}
        assert len(keys) == 100
        assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)

    def test_input(self, app: Flask, extension: Idempotent) -> None:
        """``make_idempotent_input`` writes a hidden field with a fresh key."""
        with app.test_request_context():
            inputs = {str(extension.make_idempotent_input()) for _ in range(10)}
        assert len(inputs) == 10
        assert all(INPUT.fullmatch(text) for text in inputs)

    def test_own_keys(self, app: Flask) -> None:
        """A subclass that overrides ``generate_idempotent_key`` has its keys in templates."""

        class Own(Idempotent):
            def generate_idempotent_key(self) -> str:
                return '"><b>own & key'

        Own(app)
        with app.test_request_context():
            assert render_template_string("{{ idempotent_key() }}") == (
                "&#34;&gt;&lt;b&gt;own &amp; key"
            )
            assert render_template_string("{{ idempotent_input() }}") == (
                '<input type="hidden" name="__idempotent_key" '
                'value="&#34;&gt;&lt;b&gt;own &amp; key">'
            )


@pytest.mark.usefixtures("extension")
class TestTemplates:
    @pytest.fixture(autouse=True)
    def _strict(self, app: Flask) -> None:
        app.jinja_env.undefined = StrictUndefined

    def render(self, app: Flask, template: str) -> str:
        with app.test_request_context():
            return render_template_string(template)

    def test_input(self, app: Flask) -> None:
        """``{{ idempotent_input() }}`` writes a hidden field, another key at every call."""
        page = self.render(app, "{{ idempotent_input() }}{{ idempotent_input() }}")
        assert len(set(INPUT.findall(page))) == 2
        assert INPUT.sub("", page) == ""

    def test_key(self, app: Flask) -> None:
        """``{{ idempotent_key() }}`` writes a fresh key."""
        assert re.fullmatch("[0-9a-f]{32}", self.render(app, "{{ idempotent_key() }}"))

    @pytest.mark.parametrize("context", ["", " with context", " without context"])
    def test_macro(self, app: Flask, context: str) -> None:
        """The macro is imported with or without context."""
        statement = '{% from "idempotent/macros.html" import idempotent_input' + context + " %}"
        page = self.render(app, statement + "{{ idempotent_input() }}")
        assert INPUT.fullmatch(page.strip())

    def test_inside_an_imported_macro(self, app: Flask) -> None:
        """The helpers are there inside an application's own macros, which have no context."""
        page = self.render(
            app, "{% macro form() %}{{ idempotent_input() }}{% endmacro %}{{ form() }}"
        )
        assert INPUT.fullmatch(page)

    def test_field_name(self, app: Flask) -> None:
        """The field has the name of the setting."""
        app.config["IDEMPOTENT_FIELD"] = "once"
        assert 'name="once"' in self.render(app, "{{ idempotent_input() }}")

    def test_a_form_works(self, app: Flask) -> None:
        """The field of a rendered form, sent twice, runs the view once."""
        (key,) = INPUT.findall(self.render(app, "{{ idempotent_input() }}"))
        form = {"__idempotent_key": key, "item": "book"}
        assert [post(app, None, data=form).text for _ in range(2)] == ["run 1"] * 2


class TestWhatChanged:
    @pytest.mark.parametrize("name", ["response_serializer", "response_unserializer"])
    def test_no_pickle(self, extension: Idempotent, name: str) -> None:
        """The serializer hooks, which carried pickle, raise a clear error."""
        with pytest.raises(SettingsError, match="are gone"):
            getattr(extension, name)(lambda value: value)

    def test_get(self, app: Flask, extension: Idempotent) -> None:
        """A GET is served as if it carried no key, unless ``methods`` names it."""
        sent = {"headers": {"X-Idempotent-Key": "key"}, "method": "GET"}
        assert [post(app, None, **sent).text for _ in range(2)] == ["run 1", "run 2"]

    def test_get_again(self, app: Flask) -> None:
        """A GET that ``methods`` names has its key in a header, because no link sets one."""
        app.config["IDEMPOTENT_METHODS"] = ["GET", "POST"]
        Idempotent(app)
        in_header = {"headers": {"X-Idempotent-Key": "key"}, "method": "GET"}
        assert [post(app, None, **in_header).text for _ in range(2)] == ["run 1", "run 1"]
        in_query = {"query_string": {"__idempotent_key": "other"}, "method": "GET"}
        assert [post(app, None, **in_query).text for _ in range(2)] == ["run 2", "run 3"]

    def test_timeout_is_409(self, make_app: MakeApp, background: Callable[..., Any]) -> None:
        """A timeout answers 409 where it answered 408."""
        app, gate = make_app(config={"IDEMPOTENT_TIMEOUT": 0.05}), Gate()

        @app.post("/")
        def view() -> str:
            gate()
            return "ran"

        first = background(post, app)
        gate.reached()
        assert problem(post(app)) == (409, "in-progress")
        gate.open()
        assert first.result().text == "ran"
