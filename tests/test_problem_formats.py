"""Problems as JSON and as HTML, with and without a body."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from flask_idempotent import problems
from flask_idempotent.problems import Problem
from tests.support.problems import ALL, BROWSER, app_with, client_of


class Page(HTMLParser):
    """Collects a page's tags and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


class TestNegotiation:
    @pytest.mark.parametrize(
        ("accept", "html"),
        [
            pytest.param(None, False, id="E1-no-accept"),
            pytest.param("*/*", False, id="E1-curl"),
            pytest.param("", False, id="E1-empty"),
            pytest.param(BROWSER, True, id="E1-browser"),
            pytest.param("text/html", True, id="E1-html"),
            pytest.param("TEXT/HTML", True, id="E1-html-upper-case"),
            pytest.param("text/*", True, id="E1-any-text"),
            pytest.param("application/json", False, id="E1-json"),
            pytest.param("application/problem+json", False, id="E1-problem"),
            pytest.param("application/json, text/html;q=0.5", False, id="E1-rather-json"),
            pytest.param("text/html;q=0.5, application/json", False, id="E1-rather-json-behind"),
            pytest.param("application/json;q=0.5, text/html", True, id="E1-rather-html"),
            pytest.param("application/json, text/plain, */*", False, id="E1-axios"),
            pytest.param("image/png", False, id="E1-neither"),
            pytest.param("text/html;q=0", False, id="E1-html-refused"),
            pytest.param("nonsense;;;q=,,", False, id="E1-nonsense"),
        ],
    )
    def test_form(self, accept: str | None, html: bool) -> None:
        """The body is an HTML page only for a client that prefers HTML."""
        headers = {} if accept is None else {"Accept": accept}
        answer = client_of(problems.KeyMissing("x")).get("/", headers=headers)
        assert answer.content_type == (
            "text/html; charset=utf-8" if html else "application/problem+json"
        )
        assert answer.text.startswith("<!doctype html>" if html else '{"type": "urn:')
        assert answer.headers["Vary"] == "Accept"


class TestPage:
    @pytest.mark.parametrize("kind", ALL)
    def test_e1_says_the_same(self, kind: type[Problem]) -> None:
        """The page has the title, the detail and the key."""
        answer = client_of(kind("How to fix it.", key="k-1", retry_after=2)).get(
            "/", headers={"Accept": BROWSER}
        )
        page = Page(answer.text)
        assert answer.status_code == kind.code
        assert page.text.count(kind.title) == 2
        assert "How to fix it." in page.text
        assert "Request key: k-1" in page.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Retry-After"] == "2"

    def test_e1_without_key(self) -> None:
        """E1: without a key the page does not mention one."""
        page = client_of(problems.KeyMissing("x")).get("/", headers={"Accept": BROWSER}).text
        assert "Request key" not in page

    @pytest.mark.parametrize("kind", ALL)
    @pytest.mark.parametrize(
        "evil",
        [
            pytest.param("<script>alert(1)</script>", id="E5-tag"),
            pytest.param("</small></p><img/src=x/onerror=alert(1)>", id="E5-break-out"),
            pytest.param("&lt;b&gt;&amp;", id="E5-entities"),
            pytest.param("{title}{0}%s", id="E5-format"),
            pytest.param("\"'`", id="E5-quotes"),
        ],
    )
    def test_escaping(self, kind: type[Problem], evil: str) -> None:
        """What the client sent is shown as text, never as markup."""
        plain = Page(client_of(kind("x", key="y")).get("/", headers={"Accept": BROWSER}).text)
        page = Page(client_of(kind(evil, key=evil)).get("/", headers={"Accept": BROWSER}).text)
        assert page.tags == plain.tags
        assert f"Request key: {evil}" in page.text
        assert evil in page.text

    def test_e1_refers_to_nothing_outside(self) -> None:
        """The page loads nothing and runs no script."""
        answer = client_of(problems.KeyReused("x", key="k")).get("/", headers={"Accept": BROWSER})
        assert not {"script", "link", "img", "iframe"} & set(Page(answer.text).tags)


class TestBodiless:
    @pytest.mark.parametrize("kind", ALL)
    @pytest.mark.parametrize("accept", ["*/*", BROWSER])
    def test_e4_head(self, kind: type[Problem], accept: str) -> None:
        """An answer to HEAD has the headers and no body."""
        client = client_of(kind("x", key="k", retry_after=5))
        head = client.head("/", headers={"Accept": accept})
        get = client.get("/", headers={"Accept": accept})
        assert head.data == b""
        assert head.status == get.status
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        assert head.headers["Retry-After"] == "5"

    @pytest.mark.parametrize("status", [204, 304])
    def test_e4_status(self, status: int) -> None:
        """An error handler that answers 204 or 304 sends no body."""
        app = app_with(problems.KeyReused("x"))
        app.register_error_handler(problems.KeyReused, lambda error: ("body", status))
        answer = app.test_client().get("/")
        assert (answer.status_code, answer.data) == (status, b"")
        assert "Content-Length" not in answer.headers
