"""werkzeug.middleware.proxy_fix: the address as the client wrote it."""

from __future__ import annotations

from itertools import count

from flask import Flask, request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from tests.neighbours.client import send, summary
from tests.support.clients import WayIn, problem

PROXY = {
    "X-Forwarded-Host": "shop.example",
    "X-Forwarded-Prefix": "/shop",
    "X-Forwarded-Proto": "https",
}


def behind_a_proxy(app: Flask, way: WayIn) -> Flask:
    runs = count(1)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1)  # type: ignore[method-assign]

    @app.post("/orders", endpoint="orders")
    @way
    def create() -> str:
        return f"run {next(runs)} for {url_for('orders', _external=True)} ({request.root_path})"

    return app


def test_c2_behind_a_prefix(way: WayIn) -> None:
    """C2: behind a proxy's prefix a retry gets the first answer, the proxy's addresses in it."""
    client = behind_a_proxy(way.app(), way).test_client()
    first, retry = (summary(send(client, "/orders", headers=PROXY)) for _ in range(2))
    assert first == (200, "run 1 for https://shop.example/shop/orders (/shop)", False)
    assert retry == (*first[:2], True)


def test_f1_prefix_is_part_of_the_path(way: WayIn) -> None:
    """F1, F5: the same path under another prefix is another operation."""
    client = behind_a_proxy(way.app(), way).test_client()
    send(client, "/orders", headers=PROXY)
    other = send(client, "/orders", headers={**PROXY, "X-Forwarded-Prefix": "/other"})
    assert problem(other) == (422, "key-reused")


def test_f1_host_does_not_matter(way: WayIn) -> None:
    """F1: where the application does not match hosts, a retry may come by another one."""
    client = behind_a_proxy(way.app(), way).test_client()
    send(client, "/orders", headers=PROXY)
    answer = send(client, "/orders", headers={**PROXY, "X-Forwarded-Host": "www.shop.example"})
    assert answer.headers["Idempotent-Replayed"] == "true"


def test_f1_host_matters_where_hosts_are_matched(way: WayIn) -> None:
    """F1: where subdomains are matched, the host that the proxy names is compared."""
    app = way.app(config={"SERVER_NAME": "shop.example"})
    app.subdomain_matching = True
    app.url_map.default_subdomain = ""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]

    @app.post("/", subdomain="<tenant>")
    @way
    def create(tenant: str) -> str:
        return tenant

    client = app.test_client()

    def ask(tenant: str) -> TestResponse:
        host = f"{tenant}.shop.example"
        return send(client, headers={"X-Forwarded-Host": host})

    assert [summary(ask("one")) for _ in range(2)] == [(200, "one", False), (200, "one", True)]
    assert problem(ask("two")) == (422, "key-reused")
