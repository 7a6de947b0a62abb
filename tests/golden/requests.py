"""Requests whose storage keys, scopes and fingerprints no release but a major one changes."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Flask, request, session
from werkzeug.test import EnvironBuilder

from flask_idempotent import Idempotent
from flask_idempotent.settings import resolve
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.scopes import default_scope
from flask_idempotent.web.state import EXTENSION_KEY

KEY = {"Idempotency-Key": '"5d3b6a1e"'}
BODY = b'{"product": "teapot", "quantity": 2}'
JSON: dict[str, Any] = {"data": BODY, "content_type": "application/json"}
FORM: dict[str, Any] = {
    "data": b"product=teapot&note=zwei+T%C3%A4%C3%9Fchen&__idempotent_key=k&csrf_token=changes",
    "content_type": "application/x-www-form-urlencoded",
}
MULTIPART = b'--b\r\nContent-Disposition: form-data; name="product"\r\n\r\nteapot\r\n--b--\r\n'
NOTHING: dict[str, Any] = {}
NAME_SECRET = "a secret that never rotates"


class GoldenRequest(NamedTuple):
    """A request, and the configuration of the application that gets it.

    :param arguments: of Werkzeug's ``EnvironBuilder``.
    :param session: the entries of the session that it comes with.
    """

    arguments: dict[str, Any] = JSON
    headers: dict[str, str] = KEY
    config: dict[str, Any] = NOTHING
    session: dict[str, Any] = NOTHING


REQUESTS = {
    "json": GoldenRequest(),
    "no body": GoldenRequest({}),
    "key without quotes": GoldenRequest(headers={"Idempotency-Key": "5d3b6a1e"}),
    "older header": GoldenRequest(headers={"X-Idempotent-Key": "5d3b6a1e"}),
    "query": GoldenRequest(JSON | {"query_string": "currency=EUR&page=2"}),
    "key in the query": GoldenRequest({"query_string": "a=1&__idempotent_key=k&b=2"}, {}),
    "another path": GoldenRequest(JSON | {"path": "/shops/17/orders"}),
    "under a prefix": GoldenRequest(JSON | {"base_url": "http://localhost/api"}),
    "patch": GoldenRequest(JSON | {"method": "PATCH"}),
    "form": GoldenRequest(FORM, headers={}),
    "multipart": GoldenRequest(
        {"data": MULTIPART, "content_type": "multipart/form-data; boundary=b"}
    ),
    "bearer": GoldenRequest(headers=KEY | {"Authorization": "Bearer a-token"}),
    "basic": GoldenRequest(headers=KEY | {"Authorization": "Basic YWRhOnB3"}),
    "signed": GoldenRequest(
        headers=KEY
        | {"Authorization": "AWS4-HMAC-SHA256 Credential=ADA/20260101/x/y, Signature=changes"}
    ),
    "api key": GoldenRequest(headers=KEY | {"X-API-Key": "ada", "Authorization": "Bearer t"}),
    "Flask-Login": GoldenRequest(session={"_user_id": "17"}),
    "Flask's tutorial": GoldenRequest(session={"user_id": "17"}),
    "namespace": GoldenRequest(config={"IDEMPOTENT_NAMESPACE": "shop"}),
    "prefix": GoldenRequest(config={"IDEMPOTENT_PREFIX": "SHOP_"}),
    "ignored field": GoldenRequest(FORM, {}, {"IDEMPOTENT_IGNORE_FIELDS": ["note"]}),
    "no fingerprint": GoldenRequest(config={"IDEMPOTENT_FINGERPRINT": False}),
    "name secret": GoldenRequest(config={"IDEMPOTENT_NAME_SECRET": NAME_SECRET}),
    "name secret, bearer": GoldenRequest(
        headers=KEY | {"Authorization": "Bearer t"}, config={"IDEMPOTENT_NAME_SECRET": NAME_SECRET}
    ),
}


def identity(golden: GoldenRequest) -> dict[str, str | None]:
    """Send a request, and return what it is known by: storage key, scope and fingerprint."""
    app, store, scopes = Flask("golden"), MemoryStore(), []
    app.config.update(SECRET_KEY="only for tests", **golden.config)

    @app.before_request
    def log_in() -> None:
        session.update(golden.session)

    @app.route("/orders", methods=["POST", "PATCH"])
    @app.post("/shops/<shop>/orders")
    def order(shop: str = "") -> str:
        scopes.append(default_scope(request, resolve(app.config)))
        return "ordered"

    Idempotent(app, store=store)
    arguments = {"path": "/orders", "method": "POST"} | golden.arguments
    environ = EnvironBuilder(headers=golden.headers, **arguments).get_environ()
    assert app.test_client().open(environ).text == "ordered"
    app.extensions[EXTENSION_KEY].engine.close()
    (storage_key,), (scope,) = store.scan(""), scopes
    record = store.read(storage_key)
    assert record is not None
    return {"storage_key": storage_key, "scope": scope, "fingerprint": record.fingerprint.hex()}
