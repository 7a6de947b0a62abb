"""flask-restx and Flask-RESTful: resources whose value the framework's own Api writes."""

from __future__ import annotations

from functools import wraps
from itertools import count
from typing import Any

import flask_restful
import flask_restful.fields
import pytest
from flask import Flask, g, make_response

from flask_idempotent import idempotent
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.neighbours.client import replayed, send
from tests.neighbours.resources.conftest import (
    DECORATOR,
    OWN,
    on_method,
    orders,
    shop,
)
from tests.support.faulty_store import FaultyStore
from tests.support.transactions import MemoryTransaction


class TestReplay:
    @pytest.mark.parametrize(
        ("accept", "written"),
        [
            (OWN, b'own {"run": %d, "secret": "cost price"}'),
            ("application/json", b'{"run": %d, "secret": "cost price"}'),
        ],
    )
    def test_r10_written_by_the_framework(self, app: Flask, accept: str, written: bytes) -> None:
        """R10: with a key and without, the Api writes the value, and the replay is equal."""
        client = app.test_client()
        answers = [
            send(client, key=key, headers={"Accept": accept}) for key in (None, "a", "a", "b")
        ]
        runs = [1, 2, 2, 3]
        for answer, run in zip(answers, runs, strict=True):
            assert answer.data.replace(b"\n", b"").replace(b"    ", b"") == written % run
            assert (answer.status_code, answer.mimetype) == (201, accept)
            assert answer.headers["X-Order"] == "7"
        assert [replayed(answer) for answer in answers] == [False, False, True, False]

    def test_one_claim_with_its_own_settings(self, app: Flask, place: str) -> None:
        """The decorator's keywords count, under the extension too, and one claim is made."""
        for key in "abc":
            send(app.test_client(), key=key)
        found = state_of(app).protections.of("orders", "POST")
        assert (found.source, found.decorated, found.dispatched) == ("view", True, False)
        assert found.settings.expire == (240 if place.startswith("bare") else 99)
        assert len(list(state_of(app).engine.store.scan(""))) == 3
        # Resources are decorated again for each request; nothing of that may be kept.
        assert len(state_of(app).protections.calls) == 1


def test_mapping_of_decorators(make_app: MakeApp) -> None:
    """Flask-RESTful takes decorators of single methods, too."""
    app = make_app()
    put = {"put": lambda self: "put"}
    resource = orders(flask_restful, method_decorators={"post": [DECORATOR]}, **put)
    shop(app, resource, flask_restful)
    protections = state_of(app).protections
    assert protections.of("orders", "POST").settings.expire == 99
    assert protections.of("orders", "PUT").source == "extension"
    assert [replayed(send(app.test_client())) for _ in range(2)] == [False, True]


def test_app_wide(make_app: MakeApp, rest: Any) -> None:
    """R10: a resource that the extension alone protects is written by its Api."""
    app = make_app()
    shop(app, orders(rest), rest)
    answers = [send(app.test_client(), headers={"Accept": OWN}) for _ in range(2)]
    assert [answer.mimetype for answer in answers] == [OWN, OWN]
    assert [replayed(answer) for answer in answers] == [False, True]


def test_helper_of_a_resource(make_app: MakeApp, rest: Any) -> None:
    """A decorated function that a resource calls returns a response, written by the Api."""
    app, runs = make_app(wide=False), count(1)

    @idempotent
    def helper() -> dict[str, int]:
        return {"run": next(runs)}

    shop(app, orders(rest, post=lambda self: helper()), rest)
    answers = [send(app.test_client(), headers={"Accept": OWN}) for _ in range(2)]
    assert [answer.text for answer in answers] == ['own {"run": 1}'] * 2


def let_in(view: Any) -> Any:
    """A guard, as an application has it above ``@idempotent``."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs) if g.get("user") else ({"error": "who?"}, 401)

    return guarded


def test_guard_above(make_app: MakeApp, rest: Any) -> None:
    """What a guard above refuses claims nothing, and no replay passes it."""
    store = FaultyStore()
    app = make_app(store=store)
    shop(app, orders(rest, method_decorators=[DECORATOR, let_in]), rest)
    users = iter([None, "ada", "ada", None])
    app.before_request(lambda: setattr(g, "user", next(users)))
    answers = [send(app.test_client(), headers={"Accept": OWN}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 201, 201, 401]
    assert [replayed(answer) for answer in answers] == [False, False, True, False]
    assert store.calls.count("claim") == 2


class TestMarshalling:
    def marshalled(self, rest: Any, where: str) -> type:
        marshal_with = rest.marshal_with({"run": rest.fields.Integer})
        inner_first = [DECORATOR, marshal_with] if "above" in where else [marshal_with, DECORATOR]
        if where.startswith("method_decorators"):
            return orders(rest, method_decorators=inner_first)
        resource: Any = orders(rest)
        for decorator in inner_first:
            resource.post = decorator(resource.post)
        return resource

    @pytest.mark.parametrize("where", ["below", "method_decorators below"])
    def test_below(self, make_app: MakeApp, rest: Any, where: str) -> None:
        """What ``marshal_with`` below leaves out is in no answer."""
        app = make_app(wide=False)
        shop(app, self.marshalled(rest, where), rest)
        answers = [send(app.test_client(), headers={"Accept": OWN}) for _ in range(2)]
        assert [answer.text for answer in answers] == ['own {"run": 1}'] * 2

    @pytest.mark.parametrize("where", ["above", "method_decorators above"])
    @pytest.mark.parametrize("key", [None, "key-one"])
    def test_r10_above(
        self, make_app: MakeApp, rest: Any, where: str, key: str | None,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """R10: above it would find nothing in a response: the first request says what to do."""
        app = make_app(wide=False)
        shop(app, self.marshalled(rest, where), rest)
        assert send(app.test_client(), key=key).status_code == 500
        assert "Put @idempotent above @marshal_with" in caplog.text


class TestOutOfSight:
    def test_r10_representations_of_a_resource(
        self, make_app: MakeApp, rest: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R10: a resource that writes its value itself does so above: the first request says so."""
        app = make_app(wide=False)
        own = {OWN: lambda data, code, headers=None: make_response("its own", code)}
        shop(app, orders(rest, method_decorators=[DECORATOR], representations=own), rest)
        assert send(app.test_client(), key=None).status_code == 500
        assert "Api(decorators=[idempotent])" in caplog.text

    @pytest.mark.parametrize("where", ["decorators", "Api"])
    def test_r10_representations_below(self, make_app: MakeApp, rest: Any, where: str) -> None:
        """R10: where that is below, its answer is kept as it wrote it."""
        app = make_app(wide=False)
        own = {OWN: lambda data, code, headers=None: make_response("its own", code)}
        decorators = [DECORATOR]
        members = {"decorators": decorators} if where == "decorators" else {}
        options = {"decorators": decorators} if where == "Api" else {}
        shop(app, orders(rest, representations=own, **members), rest, **options)
        answers = [send(app.test_client(), headers={"Accept": OWN}) for _ in range(2)]
        assert [answer.text for answer in answers] == ["its own"] * 2
        assert replayed(answers[1])

    def test_r10_api_that_hides(
        self, make_app: MakeApp, rest: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R10: where nothing shows how an Api writes, the first request says what to do."""

        class Hiding(rest.Api):  # type: ignore[misc]
            def output(self, resource: Any) -> Any:
                @wraps(resource)
                def wrapper(*args: Any, **kwargs: Any) -> Any:
                    return self.make_response(*rest.utils.unpack(resource(*args, **kwargs)))

                del wrapper.__wrapped__
                return wrapper

        app = make_app(wide=False)
        api = Hiding(app)
        api.add_resource(on_method(rest), "/")
        assert send(app.test_client(), key=None).status_code == 500
        assert "Api(decorators=[idempotent])" in caplog.text


def test_view_fails(make_app: MakeApp, rest: Any) -> None:
    """C4: what the Api makes of the view's own abort is stored, and of an exception is not."""
    app, runs = make_app(wide=False), count(1)

    def post(self: object) -> None:
        rest.abort(410 if next(runs) < 2 else 500)

    shop(app, orders(rest, post=post, method_decorators=[DECORATOR]), rest)
    assert [replayed(send(app.test_client(), key="a")) for _ in range(2)] == [False, True]
    assert [replayed(send(app.test_client(), key="b")) for _ in range(2)] == [False, False]


@pytest.mark.parametrize("key", [None, "a"])
def test_transaction(make_app: MakeApp, rest: Any, place: str, key: str | None) -> None:
    """R10: the Api's response is there before the commit: its status decides, with a key and
    without one, and the replay is what the Api wrote."""
    app, db, statuses = make_app(wide=False), MemoryTransaction(), iter([400, 503, 201, 201])

    def post(self: object) -> Any:
        db.write("order")
        status = next(statuses)
        return {"status": status}, status

    options = {"transaction": db, "correctable": False, "dont_keep": [400]}
    decorator = idempotent(**options)  # type: ignore[arg-type]
    members: dict[str, Any] = {"post": decorator(post) if place == "method" else post}
    if "decorators" in place:
        members[place.removeprefix("bare ")] = [decorator]
    on_api = {"decorators": [decorator]} if place == "Api" else {}
    shop(app, orders(rest, **members), rest, **on_api)
    headers = {"Accept": OWN}
    answers = [send(app.test_client(), key=key, headers=headers) for _ in range(4)]
    assert [answer.text for answer in answers] == [
        f'own {{"status": {status}}}' for status in (400, 503, 201, 201)
    ]
    assert db.rows == ["order"] * (1 if key else 2)
