"""Trials: views that are safe to send twice, and each way in which one is not."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
from cachelib import SimpleCache
from flask import Flask, Request, Response, flash, redirect, request, session
from flask.views import MethodView
from flask_session import Session

from flask_idempotent import Idempotent, SettingsError, current_claim, idempotent
from flask_idempotent.testing import NotIdempotent, assert_idempotent
from flask_idempotent.web.state import state_of
from tests.testing.apps import app_with, bare, wide

SERVER_SIDE = {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": SimpleCache()}


def check(app: Flask, method: str = "POST", path: str = "/orders", **options: Any) -> Any:
    options.setdefault("racers", 3)
    return assert_idempotent(app.test_client(), method, path, **options)


class TestSafe:
    def test_runs(self) -> None:
        """The view runs once for each of three keys, and again for the owner that died."""
        runs = count()
        check(app_with(lambda: str(next(runs))))
        assert next(runs) == 4

    def test_checks_left_out(self) -> None:
        """Without race and crash the view runs once."""
        runs = count()
        check(app_with(lambda: str(next(runs))), racers=0, crash=False)
        assert next(runs) == 1

    def test_app_wide(self) -> None:
        """A view that the extension protects is safe as a decorated one is."""
        check(wide(lambda: "ran"))

    def test_class_based(self) -> None:
        """One decorated method of a class is safe."""

        class Orders(MethodView):
            @idempotent(lease=5, expire=60)
            def put(self, number: int) -> str:
                return str(number)

        app = bare()
        app.add_url_rule("/orders/<int:number>", view_func=Orders.as_view("orders"))
        assert check(app, "PUT", "/orders/7").text == "7"

    def test_decorated_out_of_info(self) -> None:
        """A decorator that hides the one below it is no fault: the view is protected."""
        app = bare()
        inner = idempotent(lease=99, on_crash="hold")(lambda: "ran")
        app.add_url_rule("/orders", "orders", lambda: inner(), methods=["POST"])
        check(app)

    def test_for_a_user(self) -> None:
        """A client that is logged in stays so in every thread."""
        app = app_with(lambda: {"user": session["_user_id"]})
        client = app.test_client()
        with client.session_transaction() as cookie:
            cookie["_user_id"] = "ada"
        assert assert_idempotent(client, "POST", "/orders").json == {"user": "ada"}

    def test_uploads_and_streams(self) -> None:
        """An upload that is streamed back is safe."""

        def view() -> Response:
            return Response(iter([request.files["file"].read()]))

        data = {"file": (io.BytesIO(b"picture"), "mug.png")}
        assert check(app_with(view), data=data).data == b"picture"

    def test_key_elsewhere(self) -> None:
        """A key of the view's own is put where the test says."""
        app = app_with(key=lambda request: request.get_json()["order"])
        check(app, json={"price": 3}, with_key=lambda key: {"json": {"order": key, "price": 3}},
              changed=False)  # fmt: skip
        app = app_with(key=lambda request: request.headers["X-Order"])
        check(app, json={"price": 3}, with_key=lambda key: {"headers": {"X-Order": key}},
              changed={"json": {"price": 4}})  # fmt: skip

    def test_strict_keys(self) -> None:
        """K4: where only a quoted key is taken, one is sent."""
        app = app_with()
        app.config["IDEMPOTENT_STRICT_KEYS"] = True
        check(app)

    def test_duplicates_that_do_not_wait(self) -> None:
        """C1: with ``timeout=0`` a duplicate may be told that the first is in progress."""
        view = slow()
        check(app_with(view, timeout=0))

    def test_own_words_for_problems(self) -> None:
        """E3: an error handler of the application's own does not hide a reuse."""
        app = app_with()
        app.register_error_handler(422, lambda error: ("This was sent before.", 400))
        check(app)

    def test_cookies_that_do_no_harm(self) -> None:
        """With ``cookies=False`` a view may set cookies that its replay does not."""
        check(remembering(), cookies=False)

    @pytest.mark.parametrize("config", [{}, SERVER_SIDE], ids=["cookie", "server-side"])
    def test_flash(self, config: dict[str, Any]) -> None:
        """A message that is flashed is lost with its answer, which does no harm."""
        check(flashing(**config))

    def test_cookies_of_every_answer(self) -> None:
        """A cookie that each answer sets, a replay too, is no fault."""
        app = app_with()

        @app.after_request
        def remember(response: Response) -> Response:
            response.set_cookie("seen", "yes")
            return response

        check(app)

    def test_what_a_session_adds(self) -> None:
        """``Vary: Cookie`` of a view that looks at the session is no difference."""
        check(app_with(lambda: session.get("name", "nobody")))

    def test_a_rerun_that_finds_its_work(self) -> None:
        """A view that looks for what an earlier owner did is safe to run again."""
        orders: set[str] = set()

        def view() -> tuple[str, int]:
            if current_claim.attempt == 1 and current_claim.key in orders:
                return "known", 409
            orders.add(current_claim.key)
            return "ordered", 201

        check(app_with(view))


def slow() -> Callable[[], str]:
    def view() -> str:
        threading.Event().wait(0.1)
        return "ran"

    return view


def changing(name: str) -> Flask:
    """An application that changes every answer anew after its view."""
    app, answers = app_with(lambda: "ran"), count()

    @app.after_request
    def change(response: Response) -> Response:
        number = next(answers)
        if name == "status" and "Idempotent-Replayed" in response.headers:
            response.status_code = 201
        elif name == "header":
            response.headers["X-Number"] = str(number)
        elif name == "body":
            response.data += str(number).encode()
        elif name == "mark":
            response.headers.pop("Idempotent-Replayed", None)
        elif name == "false mark":
            response.headers["Idempotent-Replayed"] = "true"
        elif name == "stream":
            response.response = [b"another"]
        return response

    return app


def remembering() -> Flask:
    """An application that counts a visitor's orders in the session."""

    def view() -> dict[str, int]:
        session["orders"] = session.get("orders", 0) + 1
        return {"orders": session["orders"]}

    return app_with(view)


def flashing(change: Callable[[], None] = lambda: None, **config: Any) -> Flask:
    """An application that tells its visitor of the order on the next page."""

    def view() -> str:
        flash("Thank you.")
        change()
        return "ordered"

    app = app_with(view)
    app.config.update(config)
    if "SESSION_TYPE" in config:
        Session(app)
    return app


def add_to_session() -> None:
    session["orders"] = 1


def grow_in_session() -> None:
    session["basket"].append("mug")
    session.modified = True


def faulty() -> Flask:
    """An application with five faults, none of which hides another."""
    app, runs, answers = bare(), count(), count()

    @idempotent(fingerprint=False)
    def view() -> Any:
        session["orders"] = 1
        return "ordered", 409 if next(runs) == 3 else 201

    @app.after_request
    def change(response: Response) -> Response:
        number = next(answers)
        response.headers["X-Number"] = str(number)
        response.data += str(number).encode()
        return response

    app.add_url_rule("/orders", "orders", view, methods=["POST"])
    return app


def of_a_class() -> Flask:
    app = bare()
    app.add_url_rule("/orders", view_func=type("Orders", (MethodView,), {
        "post": lambda self: "ran",
    }).as_view("orders"))  # fmt: skip
    return app


def asking(answer: Any) -> Flask:
    """An application that asks every visitor for something first."""
    app = app_with()
    app.before_request(lambda: answer)
    return app


def exempt() -> Flask:
    return wide(idempotent.exempt(lambda: "ran"))


def unprotected() -> Flask:
    app = bare()
    app.add_url_rule("/orders", "orders", lambda: "ran", methods=["POST"])
    return app


def slashed() -> Flask:
    app = bare()
    app.add_url_rule("/orders/", "orders", idempotent(lambda: "ran"), methods=["POST"])
    return app


def refusing(when: Callable[[int], bool], **overrides: Any) -> Flask:
    """An application that refuses some requests before their key is looked at."""
    app, requests = app_with(**overrides), count(1)
    app.before_request(lambda: ("no", 429) if when(next(requests)) else None)
    return app


def failing() -> Flask:
    app = app_with(lambda: 1 / 0)
    app.testing = False
    return app


def forgetful() -> Flask:
    """An application that deletes its records before each request."""
    app = app_with()

    @app.before_request
    def forget() -> None:
        store = state_of(app).engine.store
        store.delete(list(store.scan("")))

    return app


def without_key(number: int) -> Flask:
    """An application that finds an empty key in one of its requests."""
    requests = count(1)

    def find(request: Request) -> str:
        return "" if next(requests) == number else request.headers["Idempotency-Key"]

    return app_with(key=find)


def unique_keys() -> Flask:
    known: set[str] = set()

    def view() -> tuple[str, int]:
        if current_claim.key in known:
            return "known", 409
        known.add(current_claim.key)
        return "ordered", 201

    return app_with(view)


def unlike() -> Callable[[object], str]:
    numbers = count()
    return lambda request: str(next(numbers))


FAULTS: dict[str, tuple[Callable[[], Flask], dict[str, Any], str, str]] = {
    "unprotected": (
        unprotected, {},
        "the view is not protected", "Put @idempotent on the view",
    ),
    "class unprotected": (
        of_a_class, {}, "the view is not protected", "Give the class decorators = [idempotent]",
    ),
    "cookie": (
        remembering, {}, "the first answer sets the cookie session, and its replay does not",
        "cookies=False leaves this check out",
    ),
    "exempt": (exempt, {}, "the view is exempt", "Take idempotent.exempt off the view."),
    "untracked": (
        lambda: app_with(methods=("PUT", "PATCH")), {},
        "the method is not tracked, only PATCH, PUT", "Add POST to methods=",
    ),
    "never tracked": (
        lambda: app_with(), {"method": "OPTIONS"}, "OPTIONS is not tracked", "Send a method",
    ),
    "static": (
        lambda: Flask("shop"), {"path": "/static/a", "method": "GET"},
        "static files are never tracked", "Name a route",
    ),
    "no route": (bare, {}, "no view answers it: 404", "Name the path of a route"),
    "another method": (
        app_with, {"method": "PUT"}, "the path takes OPTIONS, POST, not PUT", "Name a method",
    ),
    "redirected": (
        slashed, {}, "it is redirected to http://localhost/orders/", "a slash at its end",
    ),
    "refused": (
        lambda: refusing(lambda number: True), {},
        "it was answered 429 TOO MANY REQUESTS before its key was looked at", "Give the client",
    ),
    "no key of its own": (
        lambda: app_with(key=lambda request: None), {},
        "its key= function found no key", "with_key=lambda key",
    ),
    "another key": (
        lambda: app_with(key=lambda request: "mine"), {},
        "it ran under the key 'mine', not under the one that was sent", "with_key=lambda key",
    ),
    "two keys": (
        app_with, {"data": {"__idempotent_key": "mine"}},
        "it was answered with the problem 'key-invalid'", "leave others out of the request",
    ),
    "fails": (
        lambda: app_with(lambda: ("no", 503)), {},
        "its answer 503 SERVICE UNAVAILABLE is not stored", "Make the view succeed",
    ),
    "raises": (
        failing, {}, "its answer 500 INTERNAL SERVER ERROR is not stored",
        "Set app.testing = True",
    ),
    "a part": (
        lambda: app_with(lambda: ("part", 206)), {}, "its answer 206", "Ask for the whole",
    ),
    "sent elsewhere": (
        lambda: app_with(lambda: ("", 307)), {}, "its answer 307", "Name the path",
    ),
    "too large": (
        lambda: app_with(lambda: "x" * 9, max_body=8), {},
        "larger than the 8 octets of max_body", "allow more with max_body=",
    ),
    "stream replaced": (
        lambda: streaming("stream"), {},
        "its response was not stored when the request had ended", "Let that function return",
    ),
    "marked": (
        lambda: changing("false mark"), {},
        "its first answer has the header Idempotent-Replayed", "leave it to the library",
    ),
    "another caller": (
        lambda: app_with(scope=unlike()), {},
        "a retry ran the view again, because it belongs to another caller", "scope= and key= must",
    ),
    "record deleted": (
        forgetful, {}, "the record of the first is gone", "Nothing may delete records meanwhile",
    ),
    "retry of no key": (
        lambda: without_key(2), {},
        "a retry was answered with the problem 'key-invalid'", "with_key=lambda key",
    ),
    "change of no key": (
        lambda: without_key(3), {},
        "a changed request was answered with the problem 'key-invalid'", "with_key=lambda key",
    ),
    "unlike itself": (
        lambda: app_with(fingerprint=unlike()), {},
        "a retry has another fingerprint", "two equal requests the same value",
    ),
    "retry refused": (
        lambda: refusing(lambda number: number > 1), {},
        "a retry was answered 429", "must allow for retries",
    ),
    "unmarked": (
        lambda: changing("mark"), {}, "a replay lacks the header", "Let the header pass",
    ),
    "other status": (
        lambda: changing("status"), {},
        "the first answer is 200 OK, its replay 201 CREATED", "Give a replay the same status",
    ),
    "other header": (
        lambda: changing("header"), {},
        "the header X-Number is ['0'] in the first answer and ['1'] in its replay",
        "drop_headers=('X-Number',)",
    ),
    "other body": (
        lambda: changing("body"), {},
        "the body of the first answer has b'ran0' at octet 3, its replay b'ran1'",
        "made in the view or below @idempotent",
    ),
    "one run a thread": (
        lambda: app_with(scope=lambda request: str(threading.get_ident())), {},
        "3 requests at once with one key ran the view 3 times", "equal requests the same value",
    ),
    "race refused": (
        lambda: refusing(lambda number: number > 3), {}, "it was answered 429", "Give the client",
    ),
    "crash refused": (
        lambda: refusing(lambda number: number == 7), {}, "it was answered 429", "Give the client",
    ),
    "slower than its timeout": (
        lambda: app_with(slow(), timeout=0.01), {},
        "a duplicate waited for 0.01 s and got the problem 'in-progress'", "Allow more",
    ),
    "no fingerprint": (
        lambda: app_with(fingerprint=False), {"json": {}},
        "a changed request with the same key got the first one's answer",
        "because of fingerprint=False",
    ),
    "blind fingerprint": (
        lambda: app_with(fingerprint=lambda request: request.json["a"]), {"json": {"a": "1"}},
        "a changed request with the same key got the first one's answer",
        "Say what it should see: changed=",
    ),
    "no change": (
        app_with, {"json": {"a": 1}, "changed": {"json": {"a": 1}}},
        "a changed request with the same key got the first one's answer",
        "differs in nothing that counts",
    ),
    "scope of the payload": (
        lambda: app_with(scope=lambda request: request.get_data()), {"json": {}},
        "a changed request with the same key ran the view again", "must not depend on what is",
    ),
    "change refused": (
        lambda: refusing(lambda number: number == 3), {},
        "a changed request was answered 429", "changed={'json': {...}}",
    ),
    "forgotten with its lease": (
        lambda: app_with(on_crash="hold", lease=30, expire=30), {},
        "the view ran again after its owner died, in spite of on_crash='hold'", "be longer than",
    ),
    "not safe to run again": (
        unique_keys, {}, "the view answered 409 CONFLICT instead of 201 CREATED",
        "current_claim.attempt is above 1",
    ),
}  # fmt: skip


def streaming(name: str) -> Flask:
    app = changing(name)
    app.view_functions["orders"] = idempotent(lambda: Response(iter([b"slow"])))
    return app


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    def test_each(self, name: str) -> None:
        """Each fault is told with the request, what is wrong, and how to mend it."""
        make, options, what, mend = FAULTS[name]
        with pytest.raises(NotIdempotent) as caught:
            check(make(), **options)
        text = re.sub(r"\s+", " ", str(caught.value))
        assert text.startswith(f"{options.get('method', 'POST')} {options.get('path', '/orders')}:")
        assert what in text
        assert mend in text.partition("How to mend it: ")[2]

    @pytest.mark.parametrize(
        ("answer", "shown"),
        [
            (redirect("/login?next=/orders"), "go to /login?next=/orders"),
            (
                "<title>Oops</title><style>p { color: red }</style><p>The CSRF token&#39;s gone.",
                "The CSRF token's gone.",
            ),
            (b"\xff" * 9, "\ufffd" * 9),
            ("word " * 99, " ..."),
        ],
    )
    def test_shows_the_answer(self, answer: Any, shown: str) -> None:
        """What answered before the view is shown as a reader of the page sees it, in short."""
        with pytest.raises(NotIdempotent) as caught:
            check(asking(answer))
        text = re.sub(r"\s+", " ", str(caught.value))
        said = text.partition("The answer: ")[2].partition(" How to mend it:")[0]
        assert said.endswith(shown)
        assert len(said) <= 200

    def test_all_at_once(self) -> None:
        """All faults of a view are told in one round, each once, with how to mend it."""
        with pytest.raises(NotIdempotent) as caught:
            check(faulty())
        text = re.sub(r"\s+", " ", str(caught.value))
        assert text.startswith(
            "POST /orders has 5 faults. The view: tests.testing.test_scenarios.faulty"
        )
        parts = re.split(r" \d\. ", text)[1:]
        told = (
            "The header X-Number is", "The body of the first answer has", "The first answer sets",
            "A changed request with the same key", "Run again after its owner died",
        )  # fmt: skip
        assert [part.startswith(what) for part, what in zip(parts, told, strict=True)] == [True] * 5
        assert all(part.count("How to mend it: ") == 1 for part in parts)

    @pytest.mark.parametrize("number", [1, 2])
    def test_first_things_first(self, number: int) -> None:
        """Where no retry got a replay, nothing else can be told of the view."""
        app = faulty()
        requests = count(1)
        app.before_request(lambda: ("no", 429) if next(requests) == number else None)
        with pytest.raises(NotIdempotent, match=r"429\s+TOO\s+MANY") as caught:
            check(app)
        assert str(caught.value).startswith("POST /orders: ")

    @pytest.mark.parametrize(
        ("change", "basket", "entries"),
        [(add_to_session, [], "orders"), (grow_in_session, ["pen"], "basket")],
    )
    @pytest.mark.parametrize("config", [{}, SERVER_SIDE], ids=["cookie", "server-side"])
    def test_flash_and_more(
        self, change: Callable[[], None], basket: list[str], entries: str, config: dict[str, Any]
    ) -> None:
        """What else the view writes to the session is lost, and named; in place too."""
        app = flashing(change, **config)
        app.add_url_rule("/fill", "fill", lambda: session.update(basket=basket) or "")
        client = app.test_client()
        client.get("/fill")
        app.config["SESSION_REFRESH_EACH_REQUEST"] = False
        with pytest.raises(NotIdempotent, match=rf"session\s+\({entries}\)"):
            assert_idempotent(client, "POST", "/orders", racers=0, crash=False)

    def test_above_the_route(self) -> None:
        """A view that was decorated above its route is told of as its requests would tell."""
        app = wide(lambda: "ran")
        idempotent(app.view_functions["orders"])
        with pytest.raises(SettingsError, match=r"Put @idempotent below @app\.post"):
            check(app)

    def test_names_the_view(self) -> None:
        """The message names the function and its endpoint."""
        app = bare()
        app.add_url_rule("/orders", "order", slashed, methods=["POST"])
        with pytest.raises(NotIdempotent, match=r"test_scenarios\.slashed, endpoint 'order'"):
            check(app)

    def test_names_what_has_no_name(self) -> None:
        """A view without a name of its own is named by its kind."""
        app = bare()
        app.add_url_rule("/orders", "order", partial(str, "ran"), methods=["POST"])
        with pytest.raises(NotIdempotent, match=r"functools\.partial, endpoint 'order'"):
            check(app)

    def test_gives_the_store_back(self) -> None:
        """The store comes back after a failure too."""
        app = bare()
        Idempotent(app)
        engine = app.extensions["idempotent"].engine
        with pytest.raises(NotIdempotent):
            check(app)
        assert app.extensions["idempotent"].engine is engine
