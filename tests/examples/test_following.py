"""Clients that follow redirects carry the key along: it is never a reason to refuse them.

And what a browser does with a key of its own. All of them on a real server.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
from flask import Flask, redirect, request
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from flask_idempotent import Idempotent
from tests.support.browsers import chromium
from tests.support.redis_servers import missing

#: Sends a POST with a key, follows redirects, and gives the status and the text that come of it.
Client = Callable[[str, str], tuple[int, str]]
JSON = {"Content-Type": "application/json"}

PAGE = """<!doctype html><title>Shop</title>
<form method="post" action="form"><input type="hidden" name="__idempotent_key" value="the-form's">
<button>Order</button></form>"""
FETCH = """
const [url, key, done] = arguments;
const headers = {"Content-Type": "application/json", "Idempotency-Key": key};
fetch(url, {method: "POST", body: "{}", headers})
  .then(async answer => done([answer.status, await answer.text()]), error => done([0, `${error}`]));
"""


def shop(**options: Any) -> Flask:
    """Views that answer with a redirect, and the view that they lead to."""
    app, runs = Flask("shop"), dict[str, int]()
    app.config["REDIS_URL"] = "memory://"
    Idempotent(app, **options)

    def ran() -> str:
        name = f"{request.method} {request.path} {request.headers.get('Idempotency-Key')}"
        runs[name] = runs.get(name, 0) + 1
        return f"{request.method} {runs[name]}"

    @app.post("/orders/<int:code>")
    def order(code: int) -> Any:
        # One that runs twice leads to nowhere.
        return redirect("../done" if ran() == "POST 1" or code > 304 else "../twice", code)

    @app.route("/done", methods=["GET", "POST"])
    def done() -> str:
        return ran()

    @app.get("/page")
    def page() -> str:
        return PAGE

    @app.post("/form")
    def form() -> dict[str, Any]:
        return {"run": ran(), "headers": dict(request.headers)}

    return app


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The address of an application, and below ``/gets`` of one that tracks GET, too."""
    apps = [shop(), shop(methods=["GET", "POST"])]
    served = DispatcherMiddleware(apps[0], {"/gets": apps[1]})
    server = make_server("127.0.0.1", 0, served, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for app in apps:
        # Its background thread is there before the first test, and after the last.
        app.test_client().post("/done", headers={"Idempotency-Key": "first"})
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    for app in apps:
        app.extensions["idempotent"].engine.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def with_requests(url: str, key: str) -> tuple[int, str]:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(url, b"{}", headers={**JSON, "Idempotency-Key": key})
        return answer.status_code, answer.text


def with_httpx(url: str, key: str) -> tuple[int, str]:
    with httpx.Client(follow_redirects=True, trust_env=False) as client:
        answer = client.post(url, content=b"{}", headers={**JSON, "Idempotency-Key": key})
        return answer.status_code, answer.text


def with_curl(url: str, key: str) -> tuple[int, str]:
    curl = shutil.which("curl") or missing("curl")
    headers = [f"Content-Type: {JSON['Content-Type']}", f"Idempotency-Key: {key}"]
    named = [part for header in headers for part in ("-H", header)]
    command = [str(curl), "-sSL", "--noproxy", "*", "-d", "{}", "-w", "\n%{http_code}", *named, url]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    text, _, status = output.rpartition("\n")
    return int(status), text


@pytest.fixture(params=["requests", "httpx", "curl", "fetch"])
def client(request: pytest.FixtureRequest, base: str) -> Client:
    """Each client in turn."""
    if request.param != "fetch":
        found: Client = globals()[f"with_{request.param}"]
        return found
    browser: webdriver.Chrome = request.getfixturevalue("browser")

    def with_fetch(url: str, key: str) -> tuple[int, str]:
        browser.get(f"{base}/page")
        status, text = browser.execute_async_script(FETCH, url, key)
        return status, text

    return with_fetch


class TestRedirects:
    @pytest.mark.parametrize("app", ["", "/gets"], ids=["default", "gets-tracked"])
    @pytest.mark.parametrize("code", [301, 302, 303])
    def test_w5_to_a_get(
        self, request: pytest.FixtureRequest, client: Client, base: str, app: str, code: int
    ) -> None:
        """W5: the GET that follows is served; so it is when the POST was a replay."""
        url, key = f"{base}{app}/orders/{code}", f"key-{request.node.callspec.id}"
        assert [client(url, key) for _ in range(2)] == [(200, "GET 1"), (200, "GET 2")]

    @pytest.mark.parametrize("code", [307, 308])
    def test_w6_elsewhere(
        self, request: pytest.FixtureRequest, client: Client, base: str, code: int
    ) -> None:
        """W6: the same request elsewhere runs there, once, under the key that it came with."""
        key = f"key-{request.node.callspec.id}"
        assert client(f"{base}/orders/{code}", key) == (200, "POST 1")
        assert client(f"{base}/done", key) == (200, "POST 1")


def test_k11_form_in_a_browser(browser: webdriver.Chrome, base: str) -> None:
    """K11: a key that the browser adds to a form makes no difference to the form's own."""
    browser.execute_cdp_cmd("Network.enable", {})
    try:
        for number in range(2):
            browser.get(f"{base}/page")
            headers = {"Idempotency-Key": f'"{number}234567890"'}
            browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": headers})
            browser.find_element(By.TAG_NAME, "button").click()
            WebDriverWait(browser, 20).until(lambda b: "Sec-Fetch-Mode" in b.page_source)
            shown = browser.find_element(By.TAG_NAME, "body").text
            assert '"run":"POST 1"' in shown
            assert '"Idempotency-Key":"\\"0234567890\\""' in shown
            assert '"Sec-Fetch-Mode":"navigate"' in shown
    finally:
        browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})
