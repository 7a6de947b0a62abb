"""Steps whose functions count their calls, and a view of three that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flask import Flask, request
from werkzeug.test import TestResponse

from flask_idempotent import Crash, current_claim, step
from flask_idempotent.records import CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Step
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
        #: What functions of ``on_crash`` were asked about, where a test notes it.
        self.crashes: list[Crash] = []
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

    @property
    def storage_key(self) -> str:
        """The one key that the store has a record for."""
        (storage_key,) = self.store.scan("")
        return storage_key

    @property
    def record(self) -> RunningRecord:
        """The record of the run that has the key."""
        record = self.store.read(self.storage_key)
        assert isinstance(record, RunningRecord)
        return record

    def lose_in(self, name: str, then: Callable[[], object] = lambda: None) -> None:
        """Let a run lose its key to another one in a step, unnoticed, and something happen then."""

        def lose() -> str:
            self.pass_time(31)
            other = self.record._replace(owner=b"another owner 12")
            self.store.contend(self.storage_key, other, ttl_ms=240_000, takeover=True)
            then()
            return name

        self.actions[name] = [lose]

    def complete(self) -> None:
        """Let the run that has the key answer."""
        run = self.record
        answer = CompletedRecord(
            run.owner, run.fingerprint, run.attempt, 201, (), b"the other run", 1.0
        )
        self.store.complete(self.storage_key, answer, ttl_ms=240_000, has_steps=True)

    def release(self, *, owner_may_run: bool = False) -> None:
        """Release the run that has the key."""
        self.store.release(
            self.storage_key, self.record.owner, response_ttl_ms=1000, tombstone_ttl_ms=240_000,
            has_steps=True, owner_may_run=owner_may_run,
        )  # fmt: skip

    def steps(self) -> dict[str, str]:
        """The names and states of the steps that the store has."""
        (info,) = self.store.inspect(self.store.scan(""))
        return dict(info.steps)

    def damage(self, name: str) -> None:
        """Damage the result of a step in the store."""
        record = self.record
        step = Step(name, record.owner, 1.0, b"\xc1")
        self.store.write_step(self.storage_key, record, step, ttl_ms=None)


class Work:
    """A step's function that counts its calls.

    :param failures: how many of the first calls raise.
    """

    def __init__(self, failures: int = 0) -> None:
        self.calls = 0
        self.failures = failures

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            raise RuntimeError("it failed")
        return [self.calls, list(args), kwargs]

    async def coroutine(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return self(*args, **kwargs)


def never(error: Exception) -> str:
    """Fail: the application's error handlers are not asked about errors of steps."""
    raise AssertionError(f"the application's error handler was asked about {error!r}")


def raising(error: Exception) -> Callable[..., Any]:
    """Make a function that raises an error, whatever its arguments."""

    def raise_it(*_: object, **__: object) -> Any:
        raise error

    return raise_it
