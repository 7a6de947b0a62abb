"""The script that gives forms that stay on their page new keys, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.browsed_forms import (
    FETCHING,
    button,
    click_twice,
    is_settling,
    key_of,
    let_time_pass,
    reset,
    send,
    type_s,
    until,
)
from tests.support.browsers import chromium
from tests.support.form_pages import FormServer, form_server

FORM = """
<form id="order" action="/orders" method="post">
  {{ idempotent_input() }} <input name="product" value="teapot"> <button>Order</button>
</form>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FormServer]:
    with form_server() as server:
        yield server


@pytest.fixture(scope="module")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(_browser: webdriver.Chrome, server: FormServer) -> webdriver.Chrome:
    """One browser for all tests."""
    server.clear()
    return _browser


class TestAnswered:
    """A form whose request has been answered gets a new key."""

    WAYS = (
        "fetch of FormData", "fetch of URLSearchParams", "fetch of text", "fetch with a header",
        "fetch of a Request", "fetch of an address", "XMLHttpRequest of FormData",
        "XMLHttpRequest of text", "XMLHttpRequest with a header", "XMLHttpRequest of an address",
    )  # fmt: skip

    def test_however_it_was_sent(self, browser: webdriver.Chrome, server: FormServer) -> None:
        """It does not matter how the page sent the key; each new one is a valid key."""
        browser.get(server.page(FORM))
        for way in self.WAYS:
            before, end, after = send(browser, way)
            assert (end, server.keys[-1]) == ("answered", before), way
            assert after != before, way
        assert len(set(server.keys)) == len(server.orders) == len(self.WAYS)

    def test_only_the_form_that_was_sent(
        self, browser: webdriver.Chrome, server: FormServer
    ) -> None:
        """Other forms of the page, and a request without a key, change nothing."""
        browser.get(server.page(FORM + FORM))
        script = "return [...document.getElementsByName('__idempotent_key')].map((i) => i.value)"
        first, second = browser.execute_script(script)
        assert send(browser)[0] == first
        replaced, unchanged = browser.execute_script(script)
        assert replaced != first
        assert unchanged == second
        browser.execute_async_script("fetch('/orders', { method: 'POST' }).then(arguments[0])")
        assert browser.execute_script(script) == [replaced, second]

    @pytest.mark.parametrize("way", ["fetch of FormData", "XMLHttpRequest of FormData"])
    def test_final_or_not(self, browser: webdriver.Chrome, server: FormServer, way: str) -> None:
        """A refusal is an answer; 409, 425, 429, 5xx and Retry-After are not, and keep the key."""
        browser.get(server.page(FORM))
        for fault in (400, 403, 422):
            server.faults.append(fault)
            before, _, after = send(browser, way)
            assert before != after, fault
        for fault in (409, 425, 429, 500, 502, 503, 504, "403 later"):
            server.faults.append(fault)
            before, _, after = send(browser, way)
            assert before == after, fault

    @pytest.mark.parametrize("way", ["fetch of FormData", "XMLHttpRequest of FormData"])
    def test_broken_connection(
        self, browser: webdriver.Chrome, server: FormServer, way: str
    ) -> None:
        """An answer that does not arrive whole is no answer: the retry sends the same key."""
        browser.get(server.page(FORM))
        server.faults.extend(["half", "half"])
        tries = [send(browser, way) for _ in range(3)]
        assert [end for _, end, _ in tries] == ["failed", "failed", "answered"]
        assert len({before for before, _, _ in tries}) == 1
        assert len(set(server.keys)) == 1
        assert key_of(browser) != server.keys[0]

    def test_later_request_under_way(self, browser: webdriver.Chrome, server: FormServer) -> None:
        """An answer to a check of the fields replaces no key that was sent again since."""
        browser.get(server.page(FORM))
        server.faults.append("held")
        script = """
            const done = arguments[0];
            const body = new FormData(document.querySelector("form"));
            const check = fetch("/check", { method: "POST", body });
            fetch("/orders", { method: "POST", body }).then(() => (document.title = "answered"));
            check.then((response) => response.text()).then(() => setTimeout(done, 20));
        """
        key = key_of(browser)
        browser.execute_async_script(script)
        server.gate.reached()
        assert key_of(browser) == key
        server.gate.open()
        until(browser, lambda: key_of(browser) != key, "a new key")
        assert server.keys == [key]


class TestEdited:
    """A form that is edited after it was sent gets a new key."""

    def test_after_a_failure(self, browser: webdriver.Chrome, server: FormServer) -> None:
        """Typing and resetting are edits; a form that was never sent keeps its key."""
        browser.get(server.page(FORM + '<form><input name="search"></form>'))
        loaded = key_of(browser)
        browser.find_element(By.NAME, "product").send_keys("x")
        assert key_of(browser) == loaded
        server.faults.extend([503, 503])
        for edit in (lambda: type_s(browser), lambda: reset(browser)):
            failed = send(browser)[0]
            browser.find_element(By.NAME, "search").send_keys("x")
            assert key_of(browser) == failed
            edit()
            assert key_of(browser) != failed
        send(browser)
        assert server.orders == ["teapot"]
        assert len(set(server.keys)) == 3


class TestDoubleClick:
    """The second click of a double click sends the key of the first."""

    def test_fast_answer(self, browser: webdriver.Chrome, server: FormServer) -> None:
        """That holds when the first has been answered; a later click is another operation.

        A field may have the name of any member of the form.
        """
        fields = '<input name="elements"> <input name="cloneNode"> </form>'
        browser.get(server.page(FORM.replace("</form>", fields) + FETCHING))
        key = key_of(browser)
        click_twice(browser, lambda: browser.title == "ordered")
        until(browser, lambda: len(server.keys) == 2, "two requests")
        assert server.keys == [key, key]
        let_time_pass(browser)
        until(browser, lambda: key_of(browser) != key, "a new key")
        button(browser).click()
        until(browser, lambda: server.orders == ["teapot", "teapot"], "a second order")

    @pytest.mark.parametrize("kept", [True, False], ids=["kept", "loaded again"])
    def test_page_is_replaced(
        self, browser: webdriver.Chrome, server: FormServer, kept: bool
    ) -> None:
        """A form that leaves its page keeps its key, and going back and sending it is a replay."""
        # A page with such a listener is not kept in the back-forward cache.
        unload = "" if kept else "<script>addEventListener('unload', () => {})</script>"
        shown = "<script>addEventListener('pageshow', (e) => (window.kept = e.persisted))</script>"
        browser.get(server.page(FORM + unload + shown))
        key = key_of(browser)
        type_s(browser)
        for _ in range(2):
            button(browser).click()
            until(browser, lambda: "ordered" in browser.page_source, "the answer")
            browser.back()
            assert browser.execute_script("return kept") is kept
        assert server.keys == [key, key]
        assert server.orders == ["teapots"]
        type_s(browser)
        button(browser).click()
        until(browser, lambda: server.orders == ["teapots", "teapotss"], "another order")
        assert server.keys[-1] != key


@pytest.mark.parametrize("htmx", [2, 4])
class TestHtmx:
    """Forms that htmx sends."""

    def test_stays(self, browser: webdriver.Chrome, server: FormServer, htmx: int) -> None:
        """A form outside of the swapped part gets a new key when it is answered."""
        form = FORM.replace('action="/orders"', 'hx-post="/orders" hx-target="#answer"')
        browser.get(server.page(form + "<p id=answer></p>", htmx=htmx))
        let_time_pass(browser)
        server.faults.append(503)
        for number in range(1, 3):
            button(browser).click()
            until(browser, lambda: len(server.keys) == number, "a request")  # noqa: B023
        until(browser, lambda: "ordered" in browser.page_source, "the answer")
        first, second = server.keys
        assert first == second
        until(browser, lambda: key_of(browser) != first, "a new key")

    def test_is_swapped(self, browser: webdriver.Chrome, server: FormServer, htmx: int) -> None:
        """A double click on a form that its own answer replaces is one order."""
        server.answer = FORM.replace('action="/orders"', 'hx-post="/orders" hx-swap="outerHTML"')
        browser.get(server.page(server.answer, htmx=htmx))
        key = key_of(browser)
        # htmx 2 listens to a new form 20 ms after it was swapped in.
        click_twice(browser, lambda: key_of(browser) != key and not is_settling(browser))
        until(browser, lambda: len(server.keys) == 2, "two requests")
        assert server.keys == [key, key]
        let_time_pass(browser)
        until(browser, lambda: key_of(browser) != key and not is_settling(browser), "a new key")
        button(browser).click()
        until(browser, lambda: server.orders == ["teapot", "teapot"], "a second order")

    def test_button_elsewhere(
        self, browser: webdriver.Chrome, server: FormServer, htmx: int
    ) -> None:
        """A button of a swapped part may send the form around it, or one that it includes."""
        inside = '<p><button hx-post="/orders" hx-target="closest p">Order</button></p>'
        outside = inside.replace("hx-post", 'hx-include="#order" hx-post')
        around = FORM.replace("<button>Order</button>", inside)
        beside = FORM.replace("<button>Order</button>", "") + outside
        for body in (around, beside):
            server.clear()
            browser.get(server.page(body, htmx=htmx))
            let_time_pass(browser)
            key = key_of(browser)
            button(browser).click()
            until(browser, lambda: server.orders == ["teapot"], "an order")
            assert server.keys == [key]
            until(browser, lambda: key_of(browser) != key, "a new key")  # noqa: B023

    def test_boosted(self, browser: webdriver.Chrome, server: FormServer, htmx: int) -> None:
        """A boosted form is replaced with its page, which may load the script once more."""
        server.answer = "<body>{{ idempotent_script() }}" + FORM + "</body>"
        browser.get(server.page(f'<div hx-boost="true">{FORM}</div>', htmx=htmx))
        key = key_of(browser)
        button(browser).click()
        until(browser, lambda: key_of(browser) != key, "the answer's form")
        assert server.keys == [key]
        second = send(browser)
        assert second[0] != second[2]
        assert server.orders == ["teapot", "teapot"]


class TestPolicy:
    """Pages with a Content-Security-Policy."""

    @pytest.mark.parametrize("sources", ["'self'", "'nonce-of-this-page'"])
    def test_strict(self, browser: webdriver.Chrome, server: FormServer, sources: str) -> None:
        """The script runs where only files of the application may, and with a nonce."""
        browser.get(server.page(FORM, policy=sources))
        before, _, after = send(browser)
        assert before != after


class TestDocs:
    """The examples of the page "Forms", as they stand there."""

    FETCH, HTMX = re.findall(
        r"```html\+jinja\n(.*?)```",
        (Path(__file__).parents[2] / "docs/forms.md")
        .read_text()
        .partition("## A form that stays on its page")[2],
        re.DOTALL,
    )

    def order(self, browser: webdriver.Chrome, server: FormServer, page: str, field: str) -> None:
        browser.get(server.page(page, layout="<!doctype html>{{ body }}"))
        for number in range(1, 3):
            browser.find_element(By.NAME, field).send_keys("x")
            key = key_of(browser)
            button(browser).click()
            until(browser, lambda: len(server.orders) == number, "an order")  # noqa: B023
            assert server.keys[-1] == key
            until(browser, lambda: "ordered" in browser.page_source, "the answer")
        assert len(set(server.keys)) == 2

    def test_fetch(self, browser: webdriver.Chrome, server: FormServer) -> None:
        """A form that a script sends with fetch."""
        self.order(browser, server, self.FETCH, "product")

    @pytest.mark.parametrize("version", [2, 4])
    def test_htmx(self, browser: webdriver.Chrome, server: FormServer, version: int) -> None:
        """A form that htmx sends."""
        page = self.HTMX.replace("{{ url_for('static', filename='htmx.js') }}", f"/htmx/{version}")
        self.order(browser, server, page.replace('"/comments"', '"/orders"'), "text")
