"""Flask-WTF: CSRF protection comes first, and its token is not part of the fingerprint."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from itertools import count

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect, FlaskForm
from flask_wtf.csrf import generate_csrf
from itsdangerous import TimestampSigner
from wtforms import StringField
from wtforms.validators import InputRequired

from flask_idempotent.forms import IdempotentForm
from tests.neighbours.client import replayed, send, summary
from tests.support.clients import WayIn, problem
from tests.support.faulty_store import FaultyStore

Shop = tuple[Flask, FlaskClient, FaultyStore]


def protected(way: WayIn) -> Shop:
    """An application behind CSRFProtect, one client of it, and its store."""
    store = FaultyStore()
    app = way.app(store=store)
    CSRFProtect(app)
    runs = count(1)

    @app.post("/")
    @way
    def order() -> str:
        return f"run {next(runs)}"

    app.add_url_rule("/token", view_func=lambda: generate_csrf())
    return app, app.test_client(), store


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Callable[[FlaskClient], str]:
    """Fetches tokens of one session, each another text than those before."""
    moments = count(int(time.time()) - 100)

    def fetch(client: FlaskClient) -> str:
        with monkeypatch.context() as patch:
            moment = next(moments)
            patch.setattr(TimestampSigner, "get_timestamp", lambda self: moment)
            return client.get("/token").text

    return fetch


def test_c3_missing_token_never_claims(way: WayIn, token: Callable[[FlaskClient], str]) -> None:
    """C3: a request without a token is refused before any claim, and its key stays new."""
    _, client, store = protected(way)
    good = token(client)
    assert send(client, data={"a": "1"}).status_code == 400
    assert store.calls == []
    assert summary(send(client, data={"a": "1", "csrf_token": good})) == (200, "run 1", False)


def test_missing_token_gets_no_replay(way: WayIn, token: Callable[[FlaskClient], str]) -> None:
    """What is stored stays behind CSRF protection: a forged retry gets 400, never the replay."""
    _, client, _ = protected(way)
    send(client, data={"csrf_token": token(client)})
    assert send(client).status_code == 400
    assert send(client, data={"csrf_token": "forged"}).status_code == 400


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_f2_token_may_change(way: WayIn, kind: str, token: Callable[[FlaskClient], str]) -> None:
    """F2: the token's field may change between retries; any other field may not."""
    _, client, _ = protected(way)
    tokens = [token(client) for _ in range(3)]
    assert len(set(tokens)) == 3
    for number, fresh in enumerate(tokens[:2]):
        answer = send(client, data={"a": "1", "csrf_token": fresh}, content_type=kind)
        assert summary(answer) == (200, "run 1", bool(number))
    other = send(client, data={"a": "2", "csrf_token": tokens[2]}, content_type=kind)
    assert problem(other) == (422, "key-reused")


def test_f1_token_in_the_header(way: WayIn, token: Callable[[FlaskClient], str]) -> None:
    """F1: X-CSRFToken is a header, so it may change between retries of a JSON request."""
    _, client, _ = protected(way)
    for again in (False, True):
        answer = send(client, json={"a": 1}, headers={"X-CSRFToken": token(client)})
        assert summary(answer) == (200, "run 1", again)


def test_f2_token_under_another_name(way: WayIn, token: Callable[[FlaskClient], str]) -> None:
    """F2: a form's prefix renames the token's field; ``ignore_fields`` takes the new name."""
    app = way.app(ignore_fields=("order-csrf_token",))
    CSRFProtect(app)
    app.add_url_rule("/token", view_func=lambda: generate_csrf())

    class OrderForm(FlaskForm):
        product = StringField()

    @app.post("/")
    @way
    def order() -> str:
        form = OrderForm(prefix="order")
        assert form.validate_on_submit()
        return str(form.product.data)

    client = app.test_client()
    for again in (False, True):
        data = {"order-csrf_token": token(client), "order-product": "teapot"}
        assert summary(send(client, data=data)) == (200, "teapot", again)


def test_w4_half_a_form_claims_nothing(way: WayIn, token: Callable[[FlaskClient], str]) -> None:
    """W4: a form that breaks off gets 400 and claims nothing, though CSRF protection read it."""
    _, client, store = protected(way)
    answer = send(
        client,
        headers={"X-CSRFToken": token(client)},
        content_type="application/x-www-form-urlencoded",
        environ_overrides={"wsgi.input": io.BytesIO(b"a=1"), "CONTENT_LENGTH": "100"},
    )
    assert answer.status_code == 400
    assert store.calls == []


def test_f3_upload_stays_readable(way: WayIn, token: Callable[[FlaskClient], str]) -> None:
    """F3: the view reads an upload whole, after CSRF protection and the fingerprint read it."""
    app, client, _ = protected(way)

    @app.post("/upload")
    @way
    def upload() -> bytes:
        return request.files["file"].read()

    content = b"\x00\xff" * 100_000

    def put(content: bytes) -> object:
        data = {"file": (io.BytesIO(content), "a.bin"), "csrf_token": token(client)}
        return send(client, "/upload", data=data)

    first, retry, other = put(content), put(content), put(b"other")
    assert first.data == retry.data == content
    assert replayed(retry)
    assert problem(other) == (422, "key-reused")


def test_csrf_exempt(way: WayIn) -> None:
    """``csrf.exempt`` finds a protected view as it finds any other."""
    app = way.app()
    csrf = CSRFProtect(app)

    @app.post("/")
    @csrf.exempt
    @way
    def webhook() -> str:
        return "run"

    client = app.test_client()
    assert [summary(send(client)) for _ in range(2)] == [(200, "run", False), (200, "run", True)]


class OrderForm(IdempotentForm, FlaskForm):
    """A form that carries its own key."""

    product = StringField(validators=[InputRequired()])


class TestIdempotentForm:
    """A form of Flask-WTF with a field for the key."""

    @staticmethod
    def shop(way: WayIn) -> FlaskClient:
        app, runs = way.app(), count(1)
        CSRFProtect(app)

        @app.route("/", methods=["GET", "POST"])
        @way
        def order() -> dict[str, object]:
            form = OrderForm()
            if form.validate_on_submit():
                return {"run": next(runs), "product": form.product.data}
            fields = {"csrf_token": generate_csrf(), "key": form.idempotent_key._value()}
            return {**fields, "errors": sorted(form.errors)}

        return app.test_client()

    def test_double_click(self, way: WayIn) -> None:
        """A form that is sent twice is one order."""
        client = self.shop(way)
        shown = client.get("/").json
        data = {
            "csrf_token": shown["csrf_token"],
            "__idempotent_key": shown["key"],
            "product": "teapot",
        }
        answers = [send(client, key=None, data=data) for _ in range(2)]
        assert [answer.json["run"] for answer in answers] == [1, 1]
        assert [replayed(answer) for answer in answers] == [False, True]

    def test_invalid_form_comes_with_a_fresh_key(self, way: WayIn) -> None:
        """A form that did not validate is shown with a fresh key, which the next try uses."""
        client = self.shop(way)
        shown = client.get("/").json
        data = {"csrf_token": shown["csrf_token"], "__idempotent_key": shown["key"]}
        again = send(client, key=None, data={**data, "product": ""}).json
        assert again["errors"] == ["product"]
        assert again["key"] != shown["key"]
        data["__idempotent_key"] = again["key"]
        assert send(client, key=None, data={**data, "product": "mug"}).json["run"] == 1
