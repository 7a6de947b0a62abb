"""Views that are not safe to send twice, and what is said of each."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from flask import Flask, redirect, session

from flask_idempotent import SettingsError, idempotent
from flask_idempotent.testing import NotIdempotent, assert_idempotent
from tests.testing.apps import app_with, bare, wide
from tests.testing.faulty_apps import (
    SERVER_SIDE,
    add_to_session,
    asking,
    changing,
    check,
    exempt,
    failing,
    faulty,
    flashing,
    forgetful,
    grow_in_session,
    of_a_class,
    refusing,
    remembering,
    slashed,
    slow,
    streaming,
    unique_keys,
    unlike,
    unprotected,
    without_key,
)

FAULTS: dict[str, tuple[Callable[[], Flask], dict[str, Any], str, str]] = {
    "unprotected": (
        unprotected, {},
        "the view is not protected", "Put @idempotent on the view",
    ),
    "class unprotected": (
        of_a_class, {}, "the view is not protected", "Give the class decorators = [idempotent]",
    ),
    "cookie": (
        remembering, {}, "the first response sets the cookie session, and its replay does not",
        "cookies=False skips this check",
    ),
    "exempt": (exempt, {}, "the view is exempt", "Remove idempotent.exempt from the view."),
    "untracked": (
        lambda: app_with(methods=("PUT", "PATCH")), {},
        "the method is not tracked, only PATCH, PUT", "Add POST to methods=",
    ),
    "never tracked": (
        lambda: app_with(), {"method": "OPTIONS"}, "OPTIONS is not tracked", "Send a method",
    ),
    "static": (
        lambda: Flask("shop"), {"path": "/static/a", "method": "GET"},
        "static files are never tracked", "Use a route",
    ),
    "no route": (bare, {}, "no view answers it: 404", "Use the path of a route"),
    "another method": (
        app_with, {"method": "PUT"}, "the path allows OPTIONS, POST, not PUT", "Use a method",
    ),
    "redirected": (
        slashed, {}, "it is redirected to http://localhost/orders/", "a slash at its end",
    ),
    "refused": (
        lambda: refusing(lambda number: True), {},
        "it was answered 429 TOO MANY REQUESTS before its key was checked", "Give the client",
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
        "its response 503 SERVICE UNAVAILABLE is not stored", "Make the view succeed",
    ),
    "raises": (
        failing, {}, "its response 500 INTERNAL SERVER ERROR is not stored",
        "Set app.testing = True",
    ),
    "a part": (
        lambda: app_with(lambda: ("part", 206)), {}, "its response 206", "Ask for the whole",
    ),
    "sent elsewhere": (
        lambda: app_with(lambda: ("", 307)), {}, "its response 307", "Name the path",
    ),
    "too large": (
        lambda: app_with(lambda: "x" * 9, max_body=8), {},
        "larger than the 8 bytes of max_body", "allow more with max_body=",
    ),
    "stream replaced": (
        lambda: streaming("stream"), {},
        "its response was not stored when the request had ended", "Let that function return",
    ),
    "marked": (
        lambda: changing("false mark"), {},
        "its first response has the header Idempotent-Replayed", "Only the library may set it",
    ),
    "another caller": (
        lambda: app_with(scope=unlike()), {},
        "a retry ran the view again, because it belongs to another caller", "scope= and key= must",
    ),
    "record deleted": (
        forgetful, {}, "the record of the first is gone", "Nothing may delete records while",
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
        "the first response is 200 OK, its replay 201 CREATED", "Give a replay the same status",
    ),
    "other header": (
        lambda: changing("header"), {},
        "the header X-Number is ['0'] in the first response and ['1'] in its replay",
        "drop_headers=('X-Number',)",
    ),
    "other body": (
        lambda: changing("body"), {},
        "the body of the first response has b'ran0' at byte 3, its replay b'ran1'",
        "in the view or below @idempotent",
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
        "a changed request with the same key got the first one's response",
        "because of fingerprint=False",
    ),
    "blind fingerprint": (
        lambda: app_with(fingerprint=lambda request: request.json["a"]), {"json": {"a": "1"}},
        "a changed request with the same key got the first one's response",
        "Say what it should see: changed=",
    ),
    "no change": (
        app_with, {"json": {"a": 1}, "changed": {"json": {"a": 1}}},
        "a changed request with the same key got the first one's response",
        "not part of the fingerprint",
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
        lambda: app_with(on_crash="hold", lease=30, expire=30, hold_for=30), {},
        "the view ran again after its owner crashed, despite on_crash='hold'", "be longer than",
    ),
    "not safe to run again": (
        unique_keys, {}, "the view answered 409 CONFLICT instead of 201 CREATED",
        "current_claim.attempt is above 1",
    ),
}  # fmt: skip


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    def test_each(self, name: str) -> None:
        """Each failure is shown with the request, what is wrong, and how to fix it."""
        make, options, what, fix = FAULTS[name]
        with pytest.raises(NotIdempotent) as caught:
            check(make(), **options)
        text = re.sub(r"\s+", " ", str(caught.value))
        assert text.startswith(f"{options.get('method', 'POST')} {options.get('path', '/orders')}:")
        assert what in text
        assert fix in text.partition("How to fix it: ")[2]

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
        said = text.partition("The response: ")[2].partition(" How to fix it:")[0]
        assert said.endswith(shown)
        assert len(said) <= 200

    def test_all_at_once(self) -> None:
        """All failures of a view are shown in one round, each once, with how to fix it."""
        with pytest.raises(NotIdempotent) as caught:
            check(faulty())
        text = re.sub(r"\s+", " ", str(caught.value))
        assert text.startswith(
            "POST /orders failed 5 checks. The view: tests.testing.faulty_apps.faulty"
        )
        parts = re.split(r" \d\. ", text)[1:]
        starts = (
            "The header X-Number is", "The body of the first", "The first response sets",
            "A changed request with the same key", "Run again after its owner crashed",
        )  # fmt: skip
        assert [part.startswith(what) for part, what in zip(parts, starts, strict=True)] == [
            True
        ] * 5
        assert all(part.count("How to fix it: ") == 1 for part in parts)

    @pytest.mark.parametrize("number", [1, 2])
    def test_first_things_first(self, number: int) -> None:
        """Where no retry got a replay, nothing else can be said about the view."""
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
            assert_idempotent(client, "POST", "/orders", threads=0, crash=False)

    def test_above_the_route(self) -> None:
        """A view that was decorated above its route is reported with the error of its requests."""
        app = wide(lambda: "ran")
        idempotent(app.view_functions["orders"])
        with pytest.raises(SettingsError, match=r"Put @idempotent below @app\.post"):
            check(app)
