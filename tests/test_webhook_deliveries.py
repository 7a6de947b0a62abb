"""Webhooks: deliveries as each sender signs them, to views with the sender's preset."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_idempotent import Idempotent, idempotent, signals, webhooks
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.testing import Clock
from tests.cli.harness import run
from tests.conftest import MakeApp
from tests.support.clients import Gate, problem
from tests.support.webhooks import (
    SENDERS,
    SIGN_THEIR_ID_HEADER,
    Delivery,
    Sender,
    slack_request,
    standard_headers,
)

Background = Callable[..., Future[TestResponse]]
EACH = pytest.mark.parametrize("sender", SENDERS, ids=lambda sender: sender.deliver.__name__[1:])


def named(name: str) -> Sender:
    return next(sender for sender in SENDERS if sender.name == name)


class Shop:
    """An application with two endpoints for a sender, whose view counts its runs."""

    def __init__(self, make_app: MakeApp, sender: Sender, **overrides: Any) -> None:
        self.sender, self.clock = sender, Clock()
        self.app = make_app(wide=False)
        Idempotent(self.app, store=MemoryStore(self.clock))
        self.runs: list[str] = []
        #: What the view answers, run by run; 200 where the list is over.
        self.statuses: list[int] = []
        self.gate: Gate | None = None

        @self.app.post("/hooks/<name>")
        @sender.signed
        @idempotent(**sender.preset | overrides)
        def event(name: str) -> tuple[str, int]:
            self.runs.append(name)
            if self.gate is not None:
                self.gate()
            return f"run {len(self.runs)}", self.statuses.pop(0) if self.statuses else 200

    def delivery(
        self,
        event_id: object = "event-1",
        content: str = "first",
        path: str = "/hooks/a",
        without: str | None = None,
    ) -> Delivery:
        data, headers = self.sender.deliver(event_id, f"http://localhost{path}", content)
        return Delivery(data, {name: headers[name] for name in headers if name != without})

    def deliver(
        self, event_id: object = "event-1", content: str = "first", path: str = "/hooks/a"
    ) -> TestResponse:
        return self.send(self.delivery(event_id, content, path), path)

    def send(self, delivery: Delivery, path: str = "/hooks/a") -> TestResponse:
        data, headers = delivery
        return self.app.test_client().post(path, data=data, headers=headers)


class TestDeliveries:
    @EACH
    def test_bodies_that_change(self, make_app: MakeApp, sender: Sender) -> None:
        """An event runs once, whatever its attempts differ in; another event runs by itself."""
        shop = Shop(make_app, sender)
        answers = [shop.deliver(content=content) for content in ("first", "second", "third")]
        assert [(answer.status_code, answer.text) for answer in answers] == [(200, "run 1")] * 3
        assert "Idempotent-Replayed" not in answers[0].headers
        assert answers[2].headers["Idempotent-Replayed"] == "true"
        assert shop.deliver("event-2").text == "run 2"

    @EACH
    def test_after_days(self, make_app: MakeApp, sender: Sender) -> None:
        """A redelivery is answered for longer than the sender tries; then the event is new."""
        shop = Shop(make_app, sender)
        assert shop.deliver().text == "run 1"
        expire = sender.preset["expire"]
        assert isinstance(expire, float)
        shop.clock.advance(timedelta(days=1))
        assert shop.deliver(content="the next day").text == "run 1"
        shop.clock.advance(expire - 24 * 3600 - 1)
        assert shop.deliver(content="the last try").text == "run 1"
        shop.clock.advance(2)
        assert shop.deliver().text == "run 2"

    @EACH
    def test_two_endpoints(self, make_app: MakeApp, sender: Sender) -> None:
        """One event at two endpoints is two operations."""
        shop = Shop(make_app, sender)
        for _ in "12":
            assert shop.deliver(path="/hooks/a").text == "run 1"
            assert shop.deliver(path="/hooks/b").text == "run 2"
        assert shop.runs == ["a", "b"]

    @EACH
    def test_overlap(self, make_app: MakeApp, sender: Sender, background: Background) -> None:
        """An attempt while the first one runs waits and gets its answer."""
        shop = Shop(make_app, sender)
        shop.gate = Gate()
        first = background(shop.deliver)
        shop.gate.reached()
        with signals.before_wait.connected_to(lambda *_, **__: shop.gate.open(), sender=shop.app):
            assert shop.deliver(content="second").text == "run 1"
        assert first.result().text == "run 1"

    @EACH
    def test_overlap_that_lasts(
        self, make_app: MakeApp, sender: Sender, background: Background
    ) -> None:
        """While the first one still runs it gets 503 and Retry-After, which senders obey."""
        shop = Shop(make_app, sender, timeout=0)
        shop.gate = Gate()
        first = background(shop.deliver)
        shop.gate.reached()
        answer = shop.deliver(content="second")
        shop.gate.open()
        assert problem(answer) == (503, "in-progress")
        assert int(answer.headers["Retry-After"]) >= 1
        assert first.result().text == shop.deliver(content="third").text == "run 1"

    @EACH
    def test_refused_by_the_view(self, make_app: MakeApp, sender: Sender) -> None:
        """Only 2xx is kept: after any other answer the sender tries again, and the view runs."""
        shop = Shop(make_app, sender)
        shop.statuses = [400, 404, 302, 422, 500, 204]
        answers = [shop.deliver().status_code for _ in range(7)]
        assert answers == [400, 404, 302, 422, 500, 204, 204]
        assert len(shop.runs) == 6

    @EACH
    def test_signature_first(self, make_app: MakeApp, sender: Sender) -> None:
        """A forged delivery is refused before its key is looked for, and takes no event's place."""
        shop = Shop(make_app, sender)
        assert shop.send(shop.delivery(without=sender.signature)).status_code == 401
        assert shop.runs == []
        assert shop.deliver().text == "run 1"

    @EACH
    def test_released(self, make_app: MakeApp, sender: Sender) -> None:
        """After ``flask idempotent release`` a redelivery by hand runs the view."""
        shop = Shop(make_app, sender)
        assert shop.deliver().text == "run 1"
        scope = ("--scope", f"{sender.name} /hooks/a")
        for number, where in ((2, ()), (3, scope)):
            arguments = ("event-1", "--path", "/hooks/a", *where, "--even", "completed", "--yes")
            released = run(shop.app, "release", *arguments)
            assert released.exit_code == 0, released.output
            assert shop.deliver().text == f"run {number}"


class TestIds:
    @EACH
    def test_missing(self, make_app: MakeApp, sender: Sender) -> None:
        """A delivery without an id gets 400, and the problem says where the id must be."""
        shop = Shop(make_app, sender)
        if sender.id_header is None:
            answer = shop.deliver(None)
        else:
            answer = shop.send(shop.delivery(without=sender.id_header))
        if sender.id_header in SIGN_THEIR_ID_HEADER:
            assert answer.status_code == 401
        else:
            assert problem(answer) == (400, "key-missing")
            assert f"A webhook of {sender.name} has the id of its event in" in answer.json["detail"]
        assert shop.runs == []

    @EACH
    def test_empty(self, make_app: MakeApp, sender: Sender) -> None:
        """An empty id gets 400."""
        shop = Shop(make_app, sender)
        answer = shop.deliver("")
        if sender.id_header in SIGN_THEIR_ID_HEADER:
            assert answer.status_code == 401
        else:
            assert problem(answer) == (400, "key-invalid")
            assert "which is empty here" in answer.json["detail"]
        assert shop.runs == []

    @pytest.mark.parametrize("name", ["stripe", "slack", "square", "mux"])
    @pytest.mark.parametrize("event_id", [7, ["evt"], {"id": "evt"}, True])
    def test_not_a_string(self, make_app: MakeApp, name: str, event_id: object) -> None:
        """A number or a list in the body is no id: 400, and the view does not run."""
        shop = Shop(make_app, named(name))
        answer = shop.deliver(event_id)
        assert problem(answer) == (400, "key-invalid")
        assert "which is not a string here" in answer.json["detail"]
        assert shop.runs == []

    def test_header_that_is_added(self, make_app: MakeApp) -> None:
        """A copied delivery with an id in the other header, which nothing has signed, gets 400."""
        shop = Shop(make_app, named("standard"))
        data, headers = shop.delivery()
        copy = Delivery(data, headers | {"svix-id": "event-2"})
        shop.send(Delivery(data, headers))
        assert problem(shop.send(copy)) == (400, "key-invalid")
        assert shop.send(Delivery(data, headers | {"svix-id": "event-1"})).text == "run 1"

    def test_signing_token_of_gitlab(self, make_app: MakeApp) -> None:
        """With a signing token, GitLab's signed ``webhook-id`` is the same id as its header."""
        shop = Shop(make_app, named("gitlab"))
        data, headers = shop.delivery()
        signed = headers | standard_headers("event-1", data)
        assert shop.send(Delivery(data, signed)).text == "run 1"
        assert shop.send(Delivery(data, signed)).text == "run 1"
        renamed = Delivery(data, signed | {"Idempotency-Key": "event-2"})
        assert problem(shop.send(renamed)) == (400, "key-invalid")


class TestSlack:
    def test_new_address(self, make_app: MakeApp) -> None:
        """The request that verifies a new address has a challenge, and is answered once."""
        shop = Shop(make_app, named("slack"))
        challenge = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a"}).encode()
        assert [shop.send(slack_request(challenge)).text for _ in "12"] == ["run 1"] * 2

    def test_second_try_after_three_seconds(
        self, make_app: MakeApp, background: Background
    ) -> None:
        """Slack gives up after 3 s and tries again at once: that attempt gets the first's answer.

        A duplicate waits for less than Slack does.
        """
        shop = Shop(make_app, named("slack"))
        shop.gate = Gate()
        first = background(shop.deliver)
        shop.gate.reached()
        shop.clock.advance(3)
        data, headers = shop.delivery()
        again = {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
        with signals.before_wait.connected_to(lambda *_, **__: shop.gate.open(), sender=shop.app):
            assert shop.send(Delivery(data, headers | again)).text == "run 1"
        assert first.result().text == "run 1"
        assert webhooks.slack["timeout"] == 1.5
