"""A view of three steps, whose functions count their calls and do what a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, request
from werkzeug.test import TestResponse

from flask_idempotent import current_claim, step
from flask_idempotent.records import RunningRecord
from tests.support.clients import WayIn, post
from tests.support.faulty_store import Clock, FaultyStore


class SteppedOrders:
    """An application whose view reserves, charges (``once``) and mails.

    :param way: how the view is protected.
    :param settings: its settings.
    """

    def __init__(self, way: WayIn, **settings: Any) -> None:
        self.store = FaultyStore()
        #: The names of the steps whose functions were called, in order.
        self.calls: list[str] = []
        #: What a step's function does, each function for one call; the others return a string.
        self.actions: dict[str, list[Callable[[], Any]]] = {}
        #: What the view does after its last step.
        self.end: Callable[[], Any] = lambda: None
        self.app: Flask = way.app(store=self.store, **{"lease": 30, "timeout": 0} | settings)

        @self.app.post("/")
        @way
        def order() -> Any:
            request.get_data()
            done = [
                step("reserve", self.call, "reserve"),
                step("charge", self.call, "charge", once=True),
                step("mail", self.call, "mail"),
            ]
            return self.end() or f"{', '.join(done)}; attempt {current_claim.attempt}"

    def call(self, name: str) -> Any:
        """What each step's function does."""
        self.calls.append(name)
        actions = self.actions.get(name)
        if actions:
            return actions.pop(0)()
        return f"{name} {self.calls.count(name)}"

    def post(self, **options: Any) -> TestResponse:
        return post(self.app, **options)

    def die_in(self, name: str) -> None:
        """Let a run die in a step, or ``"end"`` after the last, and its lease end."""
        self.fail_in(name, SystemExit())
        self.store.is_deaf = True
        try:
            self.post()
        except SystemExit:
            self.store.is_deaf = False
            self.pass_time(31)
            return
        raise AssertionError("the run did not die")

    def fail_in(self, name: str, error: BaseException) -> None:
        """Let the next call of a step's function, or the ``"end"`` of the view, raise an error."""

        def raise_it() -> None:
            self.end = lambda: None
            raise error

        if name == "end":
            self.end = raise_it
        else:
            self.actions.setdefault(name, []).append(raise_it)

    def pass_time(self, seconds: float) -> None:
        assert isinstance(self.store.clock, Clock)
        self.store.clock.now += seconds

    def overtake(self) -> RunningRecord:
        """Let the lease of the run end unnoticed, and another run take its key over."""
        self.pass_time(31)
        (storage_key,) = self.store.scan("")
        record = self.store.read(storage_key)
        assert isinstance(record, RunningRecord)
        other = record._replace(owner=b"another owner 12")
        self.store.contend(storage_key, other, ttl_ms=240_000, takeover=True)
        return other

    def steps(self) -> dict[str, str]:
        """The names and states of the steps that the store has."""
        (info,) = self.store.inspect(self.store.scan(""))
        return dict(info.steps)
