"""A view whose first run dies, for the tests of functions that decide what follows."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from flask import Flask

from flask_idempotent import Crash, current_claim
from flask_idempotent.records import RunningRecord
from tests.support.clients import WayIn, post
from tests.support.faulty_store import Clock, FaultyStore


class Payments:
    """A view whose first run dies, and a function that is asked about it.

    :param decisions: what the function returns, or raises, in this order; the last one again.
    :param deaths: how many of the first runs die.
    :param is_async: whether the function is async.
    """

    def __init__(
        self,
        way: WayIn,
        *decisions: object,
        deaths: int = 1,
        is_async: bool = False,
        **settings: Any,
    ) -> None:
        self.store = FaultyStore()
        self.decisions = list(decisions)
        self.crashes: list[Crash] = []
        self.keys: list[str] = []
        settings = {"lease": 30, "timeout": 0} | settings
        function = self.decide_async if is_async else self.decide
        self.app: Flask = way.app(store=self.store, on_crash=function, **settings)
        runs = count(1)

        @self.app.post("/")
        @way
        def pay() -> str:
            self.keys.append(current_claim.key_for("psp"))
            if next(runs) <= deaths:
                raise SystemExit
            return f"attempt {current_claim.attempt}"

    def decide(self, crash: Crash) -> Any:
        self.crashes.append(crash)
        decision = self.decisions.pop(0) if len(self.decisions) > 1 else self.decisions[0]
        if isinstance(decision, BaseException):
            raise decision
        return decision() if callable(decision) else decision

    async def decide_async(self, crash: Crash) -> Any:
        return await self.decide(crash)

    def die(self) -> RunningRecord:
        """Let the first run die, and its lease end; its record."""
        self.store.is_deaf = True
        with pytest.raises(SystemExit):
            post(self.app)
        self.store.is_deaf = False
        self.pass_time(31)
        record = self.record()
        assert isinstance(record, RunningRecord)
        return record

    def pass_time(self, seconds: float) -> None:
        assert isinstance(self.store.clock, Clock)
        self.store.clock.now += seconds

    def record(self) -> object:
        (storage_key,) = self.store.scan("")
        return self.store.read(storage_key)
