"""Problem pages: what a person sees who sent a form, and what an application may replace."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask, request
from jinja2 import DictLoader

from flask_idempotent import idempotent, problems
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.problems import KeyReused, Problem
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.state import EXTENSION_KEY
from tests.support.clients import Gate, WayIn, post, recorded

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ALL = [pytest.param(kind, id=kind.slug) for kind in problems.ALL]


def shop(way: WayIn, **overrides: Any) -> Flask:
    """An application that takes an order by a form."""
    app = way.app(**overrides)

    @app.post("/")
    @way
    def order() -> tuple[str, int]:
        return "order placed", 201

    return app


def send(app: Flask, headers: dict[str, str] | None = None, **fields: str) -> str:
    """Send the form with the key ``k`` as a browser does, and return the page."""
    data = {"__idempotent_key": "k", **fields}
    return post(app, None, data=data, headers={**BROWSER, **(headers or {})}).text


class TestPage:
    def test_e6_form(self, way: WayIn) -> None:
        """Who sent a form reads words for a person, and neither the key nor a word on keys."""
        app = shop(way)
        assert send(app, cup="blue") == "order placed"
        page = send(app, cup="red")
        assert "<h1>This form was sent before</h1>" in page
        assert "key" not in page.replace("keys", "").lower()

    def test_e6_program(self, way: WayIn) -> None:
        """A program that posts a form and sends its key in a header reads words on keys."""
        app = shop(way)
        post(app, data={"cup": "blue"})
        page = post(app, data={"cup": "red"}, headers=BROWSER).text
        assert KeyReused.title in page
        assert KeyReused.form_title not in page

    def test_e6_json(self, way: WayIn) -> None:
        """Who sent JSON reads words on keys, whatever the answer's form."""
        app = shop(way)
        post(app, json={"cup": "blue"})
        assert KeyReused.title in post(app, json={"cup": "red"}, headers=BROWSER).text

    @pytest.mark.parametrize("kind", ALL)
    def test_e6_words(self, kind: type[Problem]) -> None:
        """Each problem has words for a person: whole sentences without a developer's terms."""
        words = f"{kind.form_title}. {kind.form_detail}"
        assert not re.search(r"idempot|\bkey|request|payload|store\b|record|retry", words, re.I)
        assert kind.form_detail.endswith(".")


class TestBack:
    @pytest.mark.parametrize(
        ("referrer", "link"),
        [
            pytest.param("http://localhost/cart?step=2", "/cart?step=2", id="same-site"),
            pytest.param("http://localhost//evil.example/", "/evil.example/", id="two-slashes"),
            pytest.param("http://localhost/a?x=%22%3E", "/a?x=%22%3E", id="query"),
        ],
    )
    def test_same_site(self, way: WayIn, referrer: str, link: str) -> None:
        """The page leads back to the form by its path on this site."""
        page = send(shop(way, required=True), {"Referer": referrer}, __idempotent_key=",")
        assert f'<a href="{link}">Back to the form</a>' in page

    @pytest.mark.parametrize(
        "referrer",
        [
            pytest.param("http://evil.example/cart", id="another-site"),
            pytest.param("javascript:alert(1)", id="script"),
            pytest.param("http://[", id="no-address"),
            pytest.param("", id="empty"),
        ],
    )
    def test_elsewhere(self, way: WayIn, referrer: str) -> None:
        """It leads nowhere where the header names no page of this site."""
        assert "<a " not in send(shop(way), {"Referer": referrer}, __idempotent_key=",")

    def test_escaped(self, way: WayIn) -> None:
        """What the header says is escaped."""
        page = send(shop(way), {"Referer": 'http://localhost/"><script>'}, __idempotent_key=",")
        assert "<script>" not in page


class TestOwnTemplate:
    def test_replaced(self, way: WayIn) -> None:
        """An application's own template wins, with its context processors and the problem."""
        app = shop(way)
        template = "{{ shop }}: {{ problem.slug }} {{ problem.form_title }} {{ request.path }}"
        app.jinja_loader = DictLoader({"idempotent/problem.html": template})  # type: ignore[misc]

        @app.context_processor
        def names() -> dict[str, str]:
            return {"shop": "Teapots"}

        page = send(app, __idempotent_key=",")
        assert page == f"Teapots: key-invalid {problems.KeyInvalid.form_title} /"


class TestStored:
    """The first answer, for a handler of ``KeyReused``."""

    @staticmethod
    def app(way: WayIn, **options: Any) -> Flask:
        app = shop(way, **options)

        @app.errorhandler(KeyReused)
        def lead_on(problem: KeyReused) -> tuple[str, int]:
            first = problem.stored
            return (f"first: {first.get_data(True)}" if first else "nothing", 422)

        return app

    def test_e6_stored(self, way: WayIn) -> None:
        """A handler finds the first answer, where the scope knows the caller."""
        app = self.app(way, scope=lambda request: "alice")
        post(app, data={"cup": "blue"})
        assert post(app, data={"cup": "red"}).text == "first: order placed"

    def test_e6_anonymous(self, way: WayIn) -> None:
        """In the anonymous scope there is none: it may be somebody else's."""
        app = self.app(way)
        post(app, data={"cup": "blue"})
        assert post(app, data={"cup": "red"}).text == "nothing"

    def test_e6_not_kept(self, way: WayIn) -> None:
        """There is none where the first response was not kept."""
        app = self.app(way, scope=lambda request: "alice", max_body=1)
        post(app, data={"cup": "blue"})
        assert post(app, data={"cup": "red"}).text == "nothing"

    def test_e6_running(self, way: WayIn, background: Callable[..., Future[Any]]) -> None:
        """There is none while the first request runs."""
        app, gate = way.app(scope=lambda request: "alice"), Gate()

        @app.post("/")
        @way
        def order() -> str:
            gate()
            return "order placed"

        @app.errorhandler(KeyReused)
        def lead_on(problem: KeyReused) -> tuple[str, int]:
            return str(problem.stored), 422

        first = background(post, app, data={"cup": "blue"})
        gate.reached()
        assert post(app, data={"cup": "red"}).text == "None"
        gate.open()
        assert first.result().text == "order placed"

    def test_e6_store_away(
        self, way: WayIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store that fails now is logged, and there is none."""

        def fail(key: str) -> None:
            raise StoreUnavailable("away")

        app = self.app(way, scope=lambda request: "alice", store=(store := MemoryStore()))
        post(app, data={"cup": "blue"})
        monkeypatch.setattr(store, "read", fail)
        assert post(app, data={"cup": "red"}).text == "nothing"
        assert "away" in caplog.text

    def test_by_hand(self) -> None:
        """A problem that an application raises by itself has none."""
        assert KeyReused().stored is None


class TestTold:
    def test_e6_log(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """The log line of a problem names it, its instance, the record and the endpoint."""
        app = shop(way)
        post(app, "a-long-key", data="a")
        with recorded(app) as events, caplog.at_level(logging.INFO, "flask_idempotent"):
            answer = post(app, "a-long-key", data="b")
        ((_, rejected),) = events
        instance = answer.get_json(force=True)["instance"]
        assert rejected["instance"] == instance
        (line,) = [r.getMessage() for r in caplog.records if "problem" in r.getMessage()]
        for part in (
            "key-reused",
            "key a-lon…",
            rejected["storage_key"],
            "endpoint order",
            instance,
        ):
            assert part in line
        assert "a-long-key" not in line

    def test_e6_no_key(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """Without a readable key the line names neither a key nor a record."""
        app = shop(way)
        with caplog.at_level(logging.INFO, "flask_idempotent"):
            post(app, ",")
        assert "problem key-invalid: key -, record -, endpoint order" in caplog.text


def test_only_decorated_views(make_app: Callable[..., Flask]) -> None:
    """An application without the extension, which knows no templates of ours, has the page too."""
    app = make_app(wide=False)

    @app.post("/")
    @idempotent
    def order() -> str:
        return request.form["cup"]

    send(app, cup="blue")
    assert EXTENSION_KEY in app.extensions
    assert "<h1>This form was sent before</h1>" in send(app, cup="red")
