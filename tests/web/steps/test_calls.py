"""Calls of ``step()``: with what, where nothing is claimed, and after a release."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask, Response

from flask_idempotent import current_claim, idempotent, step
from flask_idempotent.errors import StoreUnavailable
from tests.conftest import MakeApp
from tests.support.clients import post
from tests.support.faulty_store import FaultyStore, fail
from tests.support.stepped import Work
from tests.support.transactions import MemoryTransaction


class TestArguments:
    def test_passed_on(self, app: Flask, work: Work) -> None:
        """Arguments are passed on, also those whose names are those of ``step()`` itself."""

        @app.post("/")
        def view() -> Any:
            return step("reserve", work, 1, 2, name="a", function="b", once=True)

        assert post(app).get_json() == [1, [1, 2], {"name": "a", "function": "b"}]

    @pytest.mark.parametrize("key", ["key-one", None])
    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            (("", str), ValueError, "a name that is not empty"),
            (("\ud800", str), ValueError, "has no lone surrogates"),
            ((1, str), TypeError, "a str such as 'charge', not 1"),
            ((str, "charge"), TypeError, "a str such as 'charge', not <class 'str'>"),
            (("charge", "paid"), TypeError, r"takes the function itself .* not 'paid'"),
        ],
    )
    def test_wrong(
        self, app: Flask, key: str | None, arguments: Any, error: type[Exception], text: str
    ) -> None:
        """A wrong name or function is an error that says what is wanted, without a claim too."""
        seen: list[Exception] = []

        @app.post("/")
        def view() -> str:
            with pytest.raises(error, match=text) as raised:
                step(*arguments)
            seen.append(raised.value)
            return ""

        assert post(app, key).status_code == 200
        assert len(seen) == 1

    def test_used_twice(self, app: Flask, work: Work) -> None:
        """A name used twice in a run is an error that names it."""

        @app.post("/")
        def view() -> str:
            step("reserve", work)
            with pytest.raises(ValueError, match="the step 'reserve' was called before"):
                step("reserve", work)
            return ""

        assert post(app).status_code == 200
        assert work.calls == 1

    def test_unsupported_value(self, app: Flask) -> None:
        """What cannot be recorded is an error that names the step and says what to return."""

        @app.post("/")
        def view() -> str:
            with pytest.raises(TypeError, match=r"'reserve' returned .* builtins\.object"):
                step("reserve", object)
            return ""

        assert post(app).status_code == 200


class TestWithoutClaim:
    """Where nothing is claimed the function is just called."""

    def test_outside_a_request(self, app: Flask, work: Work) -> None:
        """In a script, a task or an application's context."""
        assert step("reserve", work, 1) == [1, [1], {}]
        with app.app_context():
            assert step("reserve", work, once=True) == [2, [], {}]

    @pytest.mark.parametrize("once", [True, False])
    def test_without_a_key(self, app: Flask, store: FaultyStore, work: Work, once: bool) -> None:
        """In a request without a key, which costs the store nothing."""

        @app.post("/")
        def view() -> Any:
            return step("reserve", work, once=once)

        assert [post(app, None).get_json()[0] for _ in range(2)] == [1, 2]
        assert store.calls == []

    def test_unprotected(self, make_app: MakeApp, store: FaultyStore, work: Work) -> None:
        """In an exempt view, whatever key it is sent."""
        app = make_app(store=store)

        @app.post("/")
        @idempotent.exempt
        def view() -> Any:
            return step("reserve", work)

        assert [post(app).get_json()[0] for _ in range(2)] == [1, 2]
        assert store.calls == []

    def test_without_the_store(self, make_app: MakeApp, store: FaultyStore, work: Work) -> None:
        """Under ``on_store_error="run"`` while the store fails."""
        for transaction in (None, MemoryTransaction()):
            app = make_app(store=store, on_store_error="run", transaction=transaction)
            store.before["claim"] = [fail(StoreUnavailable("away"))]

            @app.post("/")
            def view() -> Any:
                return step("reserve", work, once=True)

            assert post(app).status_code == 200
        assert "step" not in store.calls

    def test_after_the_view(self, app: Flask, store: FaultyStore, work: Work) -> None:
        """After the response is stored, and in a replay."""
        seen: list[bool] = []

        @app.after_request
        def after(response: Response) -> Response:
            seen.append(bool(current_claim))
            step("reserve", work, once=True)
            return response

        @app.post("/")
        def view() -> str:
            return ""

        for _ in range(2):
            post(app)
        assert (work.calls, seen) == (2, [False, False])
        assert "step" not in store.calls

    def test_in_another_thread(self, app: Flask, work: Work, store: FaultyStore) -> None:
        """In a thread that does not have the request's context."""

        @app.post("/")
        def view() -> str:
            thread = threading.Thread(target=step, args=("reserve", work))
            thread.start()
            thread.join()
            return ""

        post(app)
        assert work.calls == 1
        assert "step" not in store.calls

    def test_key_of_another_get(self, make_app: MakeApp, work: Work) -> None:
        """In a GET that carries the key of another request, which runs without a claim."""
        app = make_app(methods=["GET"], timeout=0)

        @app.get("/<int:number>")
        def view(number: int) -> Any:
            return step("look", work, number)

        calls = [post(app, path=f"/{n}", method="GET").get_json()[0] for n in (1, 2, 2)]
        assert calls == [1, 2, 3]


class TestFunctions:
    """What a step's function may do itself."""

    def test_nested(self, app: Flask) -> None:
        """It may have steps of its own: they are recorded where it fails after them."""
        inner, outer = Work(), Work(failures=1)

        def place() -> Any:
            number = step("inner", inner)[0]
            return [number, outer()[0]]

        @app.post("/")
        def view() -> Any:
            return step("outer", place)

        assert post(app).status_code == 500
        assert post(app).get_json() == [1, 2]

    def test_nested_names(self, app: Flask, work: Work) -> None:
        """The names are those of the whole run."""

        @app.post("/")
        def view() -> str:
            with pytest.raises(ValueError, match="was called before"):
                step("outer", lambda: [step("inner", work), step("inner", work)])
            return ""

        assert post(app).status_code == 200

    def test_calls_a_protected_view(self, app: Flask, work: Work) -> None:
        """It may send a request to a protected view, which has a claim and steps of its own."""

        @app.post("/inner")
        def inner() -> Any:
            return step("reserve", work)

        @app.post("/")
        def view() -> Any:
            first = step("reserve", lambda: post(app, "inner-key", "/inner").get_json())
            return [first, step("again", lambda: post(app, "inner-key", "/inner").get_json())]

        assert post(app).get_json() == [[1, [], {}]] * 2
        assert post(app).headers["Idempotent-Replayed"] == "true"

    def test_waits_for_its_own_key(self, app: Flask) -> None:
        """Where it sends its own key it is a duplicate of itself, and gets 409."""

        @app.post("/")
        def view() -> Any:
            return str(step("self", lambda: post(app).status_code, once=True))

        assert post(app).text == "409"


class TestRelease:
    def test_step_after_release(self, app: Flask) -> None:
        """A step after ``current_claim.release()`` is recorded: the next run has it."""
        work, runs = Work(), []

        @app.post("/")
        def view() -> str:
            runs.append(1)
            if len(runs) == 1:
                current_claim.release()
            return str(step("charge", work, once=True)[0])

        assert [post(app).text for _ in range(3)] == ["1"] * 3
        assert (work.calls, len(runs)) == (1, 2)
