"""What a replay repeats of the session: messages of ``flash()``, and entries that are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Response, flash, get_flashed_messages, session
from werkzeug.exceptions import Conflict

from tests.neighbours.client import replayed, send
from tests.support.clients import Gate, WayIn
from tests.support.payments import Payments
from tests.support.sessions import (
    MakeShop,
    entries,
    log_in,
    lose_answer,
    messages,
    order,
    serve,
    twin,
)
from tests.support.shop import Shop
from tests.support.views import Background

SCRIPT = {"Sec-Fetch-Mode": "cors"}


class TestMessages:
    def test_first_answer_is_lost(self, make_shop: MakeShop) -> None:
        """The browser that has only the replay shows the message, once."""
        client = make_shop(order).test_client()
        lose_answer(client)
        replay = send(client)
        assert replayed(replay)
        assert (replay.location, replay.headers["Vary"]) == ("/thanks", "Cookie")
        assert [messages(client) for _ in range(2)] == [["Order placed"], []]

    def test_first_answer_arrived(self, make_shop: MakeShop) -> None:
        """The browser that has both answers shows the message once."""
        client = make_shop(order).test_client()
        assert [replayed(send(client)) for _ in range(3)] == [False, True, True]
        assert [messages(client) for _ in range(2)] == [["Order placed"], []]

    def test_session_exists(self, make_shop: MakeShop) -> None:
        """The message is shown beside other messages, and the other entries stay."""
        client = make_shop(order).test_client()
        client.get("/set/cart/mug")
        lose_answer(client)
        send(client)
        assert entries(client)["cart"] == "mug"
        assert messages(client) == ["Order placed"]

    def test_sent_again_later(self, make_shop: MakeShop) -> None:
        """Who goes back and sends the form again sees the message again, as the first time."""
        client = make_shop(order).test_client()
        for _ in range(2):
            send(client)
            assert messages(client) == ["Order placed"]

    def test_concurrent(self, make_shop: MakeShop, background: Background) -> None:
        """The duplicate that waits gets the message, whichever answer reaches the browser last."""
        gate = Gate()

        def view() -> Any:
            gate()
            return order()

        app = make_shop(view)
        first = app.test_client()
        first.get("/set/cart/mug")
        second = twin(first)
        answers = [background(send, first)]
        gate.reached()
        answers.append(background(send, second))
        gate.open()
        assert [replayed(answer.result()) for answer in answers] == [False, True]
        shown = messages(second)
        assert shown == ["Order placed"]
        # A server's session is the same one.
        assert messages(first) == ([] if app.config.get("SESSION_TYPE") else shown)

    def test_message_of_an_error_handler(self, make_shop: MakeShop) -> None:
        """An error answer that is kept has its message, too."""

        def view() -> None:
            raise Conflict

        app = make_shop(view)

        @app.errorhandler(Conflict)
        def refuse(error: Conflict) -> tuple[str, int]:
            flash("Sold out")
            return "", 409

        client = app.test_client()
        lose_answer(client)
        assert send(client).status_code == 409
        assert messages(client) == ["Sold out"]

    def test_page_that_shows_messages(self, make_shop: MakeShop) -> None:
        """A page that shows the messages itself shows them in its replay, and no later page."""
        app = make_shop(lambda: get_flashed_messages())
        app.add_url_rule("/flash", "flash", lambda: flash("Hello") or "")
        client = app.test_client()
        client.get("/flash")
        lose_answer(client)
        assert send(client).get_json() == ["Hello"]
        assert messages(client) == []


class TestOtherEntries:
    def test_not_named(self, make_shop: MakeShop) -> None:
        """Other entries, such as a login, belong to the first answer alone."""
        client = make_shop(log_in).test_client()
        lose_answer(client)
        send(client)
        assert entries(client).keys() == {"_flashes"}

    def test_named(self, make_shop: MakeShop) -> None:
        """Entries that are named are repeated, and those of the default only where named."""
        client = make_shop(log_in, replay_session=("user",)).test_client()
        lose_answer(client)
        send(client)
        assert entries(client) == {"user": "ann"}

    def test_none(self, make_shop: MakeShop) -> None:
        """With an empty tuple nothing is repeated."""
        client = make_shop(log_in, replay_session=()).test_client()
        lose_answer(client)
        send(client)
        assert entries(client) == {}

    def test_removed(self, make_shop: MakeShop) -> None:
        """A cart that the view emptied is emptied, unless it has been filled in another way."""

        def view() -> str:
            session.pop("cart")
            return ""

        client = make_shop(view, replay_session=["cart"]).test_client()
        client.get("/set/cart/mug")
        lose_answer(client)
        send(client)
        assert entries(client) == {}
        client.get("/set/cart/lamp")
        send(client)
        assert entries(client) == {"cart": "lamp"}

    def test_session_cleared(self, make_shop: MakeShop) -> None:
        """A view that clears the session and says goodbye has the message in its replay."""

        def view() -> str:
            session.clear()
            flash("Goodbye")
            return ""

        app = make_shop(view)
        app.add_url_rule("/flash", "flash", lambda: flash("Hello") or "")
        client = app.test_client()
        client.get("/flash")
        client.get("/set/cart/mug")
        lose_answer(client)
        send(client)
        assert messages(client) == ["Goodbye"]

    def test_changed_in_place(self, make_shop: MakeShop) -> None:
        """A list that the view changes in place counts, where the view says so as Flask asks."""

        def view() -> str:
            session["cart"][0].append("lamp")
            session.modified = True
            return ""

        app = make_shop(view, replay_session=["cart"])
        app.add_url_rule("/fill", "fill", lambda: session.update(cart=[["mug"]]) or "")
        client = app.test_client()
        client.get("/fill")
        lose_answer(client)
        send(client)
        assert entries(client) == {"cart": [["mug", "lamp"]]}


class TestScripts:
    def test_login_is_not_undone(self, make_shop: MakeShop) -> None:
        """A page whose script sends twice gets both answers: the second one's cookie must not put
        back what the first changed besides."""
        client = make_shop(log_in).test_client()
        lose_answer(client, headers=SCRIPT)
        replay = send(client, headers=SCRIPT)
        assert replayed(replay)
        assert "Set-Cookie" not in replay.headers

    def test_nothing_to_undo(self, make_shop: MakeShop) -> None:
        """Where the view changed nothing besides, a script's replay has the message, too."""
        client = make_shop(order).test_client()
        lose_answer(client, headers=SCRIPT)
        send(client, headers=SCRIPT)
        assert messages(client) == ["Order placed"]

    def test_navigation(self, make_shop: MakeShop) -> None:
        """A browser that sends a form twice has discarded the first answer: it gets the message."""
        client = make_shop(log_in).test_client()
        headers = {"Sec-Fetch-Mode": "navigate"}
        lose_answer(client, headers=headers)
        send(client, headers=headers)
        assert messages(client) == ["Welcome"]


class TestPaths:
    """Every way to a response keeps the session's part."""

    def test_stream(self, make_shop: MakeShop) -> None:
        """A streamed response."""

        def view() -> Response:
            flash("Order placed")
            return Response(iter(["a", "b"]))

        client = make_shop(view).test_client()
        lose_answer(client)
        assert send(client).text == "ab"
        assert messages(client) == ["Order placed"]

    def test_async_view(self, way: WayIn) -> None:
        """A view that is a coroutine."""
        app = way.app()

        @way
        async def view() -> Any:
            return order()

        serve(app, lambda view: view, app.ensure_sync(view))  # type: ignore[arg-type]
        client = app.test_client()
        lose_answer(client)
        send(client)
        assert messages(client) == ["Order placed"]

    @pytest.mark.parametrize("decision", [order, lambda: flash("Order placed") or "rerun"])
    def test_after_a_crash(self, way: WayIn, decision: Callable[[], Any]) -> None:
        """A function that decides after a crash: for the response, or for another run."""
        payments = Payments(way, decision)
        payments.app.add_url_rule("/messages", "messages", lambda: get_flashed_messages())
        payments.die()
        client = payments.app.test_client()
        lose_answer(client)
        send(client)
        assert messages(client) == ["Order placed"]

    def test_transaction(self, shop: Shop) -> None:
        """A response that the view's own database keeps, when the store has forgotten it."""
        shop.answer = order
        shop.app.add_url_rule("/messages", "messages", lambda: get_flashed_messages())
        shop.post()
        assert b"Order placed" in shop.the_answer.record.session
        shop.forget()
        client = shop.app.test_client()
        assert replayed(send(client))
        assert messages(client) == ["Order placed"]
