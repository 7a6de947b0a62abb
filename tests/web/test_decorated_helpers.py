"""Decorated functions that a view calls, beside its own decorator or instead of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from flask import Flask, Response, request
from flask.views import MethodView

from flask_idempotent import idempotent
from flask_idempotent.web.state import EXTENSION_KEY
from tests.cli.harness import run
from tests.support.clients import post
from tests.support.faulty_store import FaultyStore
from tests.support.request_bodies import URLENCODED, with_length
from tests.support.retries import Deadlock, retrying, text


@pytest.fixture
def app(decorated_app: Flask) -> Flask:
    return decorated_app


class TestHelpers:
    """Decorated functions that a view calls, which no decorator protects itself."""

    @pytest.fixture
    def runs(self, app: Flask) -> list[str]:
        runs: list[str] = []

        @idempotent
        def reserve() -> str:
            runs.append("reserve")
            return f"reserved {runs.count('reserve')}"

        @idempotent
        def charge() -> str:
            runs.append("charge")
            if request.args.get("fail") == "yes" and runs.count("charge") == 1:
                raise Deadlock
            return f"charged {runs.count('charge')}"

        @app.post("/")
        def view() -> str:
            first = text(reserve()) if request.args.get("reserve") != "no" else "-"
            return f"{first}, {text(charge())}"

        return runs

    def test_each_has_its_own_answer(self, app: Flask, runs: list[str]) -> None:
        """Each runs once and gets its own answer, in the first request and in a retry."""
        assert [post(app).text for _ in range(2)] == ["reserved 1, charged 1"] * 2
        assert runs == ["reserve", "charge"]

    @pytest.mark.parametrize(
        "options",
        [
            {"key": lambda request: request.form["id"]},
            {"scope": lambda request: request.form["id"]},
            {"fingerprint": lambda request: request.get_data()},
            {"ignore_fields": ["other"]},
        ],
        ids=lambda options: next(iter(options)),
    )
    @pytest.mark.parametrize("order", [[0, 1], [1, 0]])
    def test_f8_other_settings(self, app: Flask, options: dict[str, Any], order: list[int]) -> None:
        """F8: one with another key, caller or fingerprint compares the whole body too, which
        those before it have read."""
        runs: list[bytes] = []

        def spend() -> str:
            runs.append(request.stream.read())
            return f"run {len(runs)}"

        helpers = [idempotent(spend), idempotent(**options)(lambda: spend())]
        app.post("/")(lambda: ", ".join(text(helpers[number]()) for number in order))
        for amount, status in ((b"1", 200), (b"1000000", 422), (b"1", 200)):
            environ = {"CONTENT_TYPE": URLENCODED, **with_length(b"id=4&pay=" + amount)}
            answer = post(app, environ_overrides=environ)
            assert answer.status_code == status
        assert answer.text == "run 1, run 2"
        assert runs == [b"id=4&pay=1", b""]

    def test_without_a_key(self, app: Flask, runs: list[str]) -> None:
        """Without a key each runs each time, and returns what it returns with one."""
        texts = [post(app, None).text for _ in range(2)]
        assert texts == ["reserved 1, charged 1", "reserved 2, charged 2"]

    def test_goes_on_where_it_failed(self, app: Flask, runs: list[str]) -> None:
        """A retry gets what was done already and runs what was not."""
        assert post(app, path="/?fail=yes").status_code == 500
        assert post(app, path="/?fail=yes").text == "reserved 1, charged 2"
        assert runs == ["reserve", "charge", "charge"]

    def test_order_does_not_matter(self, app: Flask, runs: list[str]) -> None:
        """One that is called first in a retry does not get the answer of another.

        Another path is another request, so the fingerprint is left out here.
        """
        app.extensions[EXTENSION_KEY].hooks.override("fingerprint", lambda request: "same")
        assert post(app, path="/?fail=yes").status_code == 500
        assert post(app, path="/?reserve=no").text == "-, charged 2"

    def test_alone(self, app: Flask) -> None:
        """One alone is protected too."""
        runs = count(1)
        helper = idempotent(lambda: f"run {next(runs)}")
        app.add_url_rule("/", "view", lambda: text(helper()), methods=["POST"])
        assert [post(app).text for _ in range(2)] == ["run 1", "run 1"]

    def test_streamed_answer(self, app: Flask) -> None:
        """What one streams is its own answer, though it is stored when all have run."""
        runs = count(1)

        @idempotent
        def export() -> Response:
            run = next(runs)

            def rows() -> Iterator[str]:
                yield f"export {run}"

            return Response(rows())

        @idempotent
        def note() -> str:
            return f"note {next(runs)}"

        @app.post("/")
        def view() -> Response:
            exported = export()
            exported.headers["X-Note"] = text(note())
            return exported

        answers = [post(app) for _ in range(2)]
        assert [(a.text, a.headers["X-Note"]) for a in answers] == [("export 1", "note 2")] * 2

    def test_inside_a_protected_view(self, app: Flask, store: FaultyStore) -> None:
        """One that a protected view calls is a part of it, and makes no claim."""
        helper = idempotent(lambda: "helper")
        app.add_url_rule("/", "view", idempotent(lambda: helper() + helper()), methods=["POST"])
        assert [post(app).text for _ in range(2)] == ["helperhelper"] * 2
        assert store.calls == ["claim", "complete", "claim"]

    def test_views_keep_the_keys_own_record(self, app: Flask, store: FaultyStore) -> None:
        """A method, and a view below another decorator, are the views themselves."""

        class Orders(MethodView):
            @idempotent
            def post(self) -> str:
                return "method"

        app.add_url_rule("/method", view_func=Orders.as_view("method"))
        app.add_url_rule("/below", "below", retrying(idempotent(lambda: "b")), methods=["POST"])
        app.add_url_rule("/plain", "plain", idempotent(lambda: "p"), methods=["POST"])
        for path in ("/method", "/below", "/plain"):
            post(app, path=path)
            (name,) = store.scan("")
            assert name in run(app, "show", "key-one").stdout, path
            store.delete([name])
