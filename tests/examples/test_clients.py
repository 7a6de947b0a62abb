"""The recipes for clients, on a real server behind a bad road."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from selenium import webdriver

from tests.examples.bad_road import CLIENTS, Shop, open_shop
from tests.support.browsers import chromium

ORDER = {"product": "teapot"}

#: Sends one operation to an address and gives status, body, and whether it is a replay.
Send = Callable[..., tuple[int, Any, bool]]


@pytest.fixture
def shop() -> Iterator[tuple[Shop, str]]:
    with open_shop() as opened:
        yield opened


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    monkeypatch.syspath_prepend(str(CLIENTS))
    yield importlib.import_module
    for name in "with_requests", "with_httpx":
        sys.modules.pop(name, None)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long a recipe for Python would have slept."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@contextmanager
def with_requests(recipe: Callable[[str], Any]) -> Iterator[Send]:
    module = recipe("with_requests")
    with module.keyed_session(5) as session:
        session.trust_env = False

        def send(url: str, **options: Any) -> tuple[int, Any, bool]:
            answer = module.send_once(session, "POST", url, **options)
            return answer.status_code, answer.json(), "Idempotent-Replayed" in answer.headers

        yield send


@contextmanager
def with_httpx(recipe: Callable[[str], Any]) -> Iterator[Send]:
    module = recipe("with_httpx")
    with httpx.Client(trust_env=False) as client:

        def send(url: str, **options: Any) -> tuple[int, Any, bool]:
            answer = module.send_once(client, "POST", url, tries=5, **options)
            return answer.status_code, answer.json(), "Idempotent-Replayed" in answer.headers

        yield send


@pytest.fixture(params=[with_requests, with_httpx])
def send(request: pytest.FixtureRequest, recipe: Callable[[str], Any]) -> Iterator[Send]:
    """Each recipe for Python in turn, with five tries."""
    with request.param(recipe) as send:
        yield send


class TestPython:
    def test_bad_road(self, send: Send, pauses: list[float], shop: tuple[Shop, str]) -> None:
        """Through 503, a broken connection and 409 one operation runs once, and is answered."""
        road, base = shop
        road.faults.extend(["away", "slow", "busy", "lost"])
        assert send(f"{base}/orders", json=ORDER) == (201, {"order": 1}, True)
        assert road.orders == ["teapot"]
        assert [status for _, _, status in road.seen] == [503, 0, 409, 201, 201]
        assert len({(key, body) for key, body, _ in road.seen}) == 1
        # The server's second, at least; a short pause of one's own otherwise.
        away, slow, busy, *_ = pauses
        assert min(away, busy) >= 1 >= slow

    def test_one_key_per_call(self, send: Send, shop: tuple[Shop, str]) -> None:
        """Two calls are two operations; a call with an earlier one's key is that operation."""
        road, base = shop
        for number, key in enumerate((None, None, "mine", "mine")):
            answer = send(f"{base}/orders", json=ORDER, key=key)
            assert answer == (201, {"order": min(number + 1, 3)}, number == 3)
        assert len({key for key, _, _ in road.seen}) == 3

    def test_final_answer(self, send: Send, pauses: list[float], shop: tuple[Shop, str]) -> None:
        """An answer that no retry can change is returned at once."""
        _, base = shop
        send(f"{base}/orders", json=ORDER, key="mine")
        status, problem, _ = send(f"{base}/orders", json={"product": "lamp"}, key="mine")
        assert (status, problem["type"].rpartition(":")[2]) == (422, "key-reused")
        assert pauses == []

    def test_last_try(self, send: Send, pauses: list[float], shop: tuple[Shop, str]) -> None:
        """After the last try the caller gets its answer, or the error."""
        road, base = shop
        road.faults.extend(["away"] * 5 + ["lost"] * 5)
        status, problem, _ = send(f"{base}/orders", json=ORDER)
        assert (status, problem["retryable"]) == (503, True)
        with pytest.raises((requests.ConnectionError, httpx.TransportError)):
            send(f"{base}/orders", json=ORDER)
        assert len(road.seen) == 10
        assert road.orders == ["teapot"]


class TestBrowser:
    @pytest.fixture
    def browser(self, tmp_path: Path) -> Iterator[webdriver.Chrome]:
        with chromium(tmp_path / "profile") as browser:
            yield browser

    @pytest.fixture
    def shop(self) -> Iterator[tuple[Shop, str]]:
        # A page waits in earnest.
        with open_shop(lease=2) as opened:
            yield opened

    def test_bad_road(self, browser: webdriver.Chrome, shop: tuple[Shop, str]) -> None:
        """A page's call, through the same road, runs once; another call is another operation."""
        road, base = shop
        road.faults.extend(["away", "slow", "busy"])
        browser.get(f"{base}/")
        call = """
            const done = arguments[arguments.length - 1];
            const { sendOnce } = await import("/with_fetch.js");
            const body = JSON.stringify({ product: arguments[0] });
            const headers = { "Content-Type": "application/json" };
            const answer = await sendOnce("/orders", { body, headers, ...arguments[1] });
            done([answer.status, await answer.text(), answer.headers.get("Idempotent-Replayed")]);
        """

        def send(product: str, **options: object) -> tuple[int, Any, bool]:
            status, text, replayed = browser.execute_async_script(call, product, options)
            return status, json.loads(text), replayed == "true"

        assert send("teapot") == (201, {"order": 1}, True)
        assert [status for _, _, status in road.seen] == [503, 0, 409, 201]
        assert len({(key, body) for key, body, _ in road.seen}) == 1
        assert send("teapot", key="mine") == (201, {"order": 2}, False)
        assert send("lamp", key="mine")[0] == 422
        assert road.orders == ["teapot", "teapot"]

    def test_a_caller_gives_up(self, browser: webdriver.Chrome, shop: tuple[Shop, str]) -> None:
        """A page may abort its call, which is then not tried again."""
        road, base = shop
        browser.get(f"{base}/")
        call = """
            const done = arguments[arguments.length - 1];
            const { sendOnce } = await import("/with_fetch.js");
            const begun = performance.now();
            const failed = await sendOnce("/orders", { signal: AbortSignal.abort() })
                .then(() => "answered", (error) => error.name);
            done([failed, performance.now() - begun]);
        """
        failed, milliseconds = browser.execute_async_script(call)
        assert failed == "AbortError"
        assert milliseconds < 400  # The first pause.
        assert road.seen == []
