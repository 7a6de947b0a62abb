"""Scenarios: views that are safe to send twice, and each way in which one is not."""

from __future__ import annotations

import io
from itertools import count
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Response, request, session
from flask.views import MethodView

from flask_idempotent import current_claim, idempotent
from flask_idempotent.testing import assert_idempotent
from tests.support.faulty_store import fail
from tests.support.transactions import MemoryTransaction
from tests.testing.apps import app_with, bare, wide
from tests.testing.faulty_apps import SERVER_SIDE, check, flashing, remembering, slow


class TestSafe:
    def test_runs(self) -> None:
        """The view runs once for each of three keys, and again for the owner that died."""
        runs = count()
        check(app_with(lambda: str(next(runs))))
        assert next(runs) == 4

    @pytest.mark.parametrize("on_crash", ["rerun", "hold"])
    def test_transaction(self, on_crash: Any) -> None:
        """A view with a transaction does not run again for the owner that died."""
        runs, db = count(), MemoryTransaction()
        check(app_with(lambda: str(next(runs)), transaction=db, on_crash=on_crash, expire=90))
        assert next(runs) == 3

    def test_checks_left_out(self) -> None:
        """Without race and crash the view runs once."""
        runs = count()
        check(app_with(lambda: str(next(runs))), threads=0, crash=False)
        assert next(runs) == 1

    def test_signals_stay_connected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No signal is disconnected: blinker fails if another thread adds a sender meanwhile."""
        app = app_with(lambda: "ran")
        app.test_client().get("/")  # An application's first request prepares it.
        monkeypatch.setattr(NamedSignal, "disconnect", fail(RuntimeError("changed size")))
        check(app)

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
        """A decorator that hides the one below it is not a fault: the view is protected."""
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
        """C1: with ``timeout=0`` a duplicate may get 409 "in-progress"."""
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
        """A message that is flashed is repeated."""
        check(flashing(**config))

    def test_cookies_of_every_answer(self) -> None:
        """A cookie that each answer sets, a replay too, is not a fault."""
        app = app_with()

        @app.after_request
        def remember(response: Response) -> Response:
            response.set_cookie("seen", "yes")
            return response

        check(app)

    def test_what_a_session_adds(self) -> None:
        """``Vary: Cookie`` of a view that looks at the session is not a difference."""
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
