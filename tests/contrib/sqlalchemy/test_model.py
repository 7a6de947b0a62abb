"""Transactions against a simple model, in whatever order two processes run, commit and give up.

The transaction in memory, which the tests of the web layer use, does what a real database does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from flask_idempotent.engine.transactions import Answer, InspectableTransaction, commit_answer
from tests.contrib.sqlalchemy.shops import Order, Shop, answer
from tests.support.databases import sqlite_file
from tests.support.transactions import MemoryTransaction

KEYS = ["IDEMPOTENT_{k1}", "IDEMPOTENT_{K1}"]
PROCESSES = st.sampled_from([0, 1])
#: Milliseconds; an answer with the second one has expired as soon as it is committed.
TTLS = st.sampled_from([60_000, 60_000, -5])


class Process(Protocol):
    """One of two processes that use the same database."""

    transaction: InspectableTransaction

    def request(self) -> AbstractContextManager[Any]:
        """The context of a request."""

    def write(self, row: str) -> None:
        """Write a row, as a view does."""

    def rows(self) -> list[str]:
        """What is committed, in any order."""

    def clear(self) -> None:
        """Delete everything."""


class InMemory:
    def __init__(self) -> None:
        self._app = Flask("model")
        self.transaction = MemoryTransaction()
        self.write = self.transaction.write

    def request(self) -> AbstractContextManager[Any]:
        return self._app.app_context()

    def rows(self) -> list[str]:
        return self.transaction.rows

    def clear(self) -> None:
        self.transaction.rows.clear()
        self.transaction.answers.clear()


class InDatabase:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.transaction = shop.transaction
        self.write, self.rows = shop.write, shop.products

    def request(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def clear(self) -> None:
        with self._shop.engine.begin() as connection:
            connection.execute(self.transaction.table.delete())
            connection.execute(Order.__table__.delete())  # type: ignore[attr-defined]


class Run(NamedTuple):
    """A run that has looked its key up, and has not ended."""

    key: str
    replaces: bytes | None


class Machine(RuleBasedStateMachine):
    processes: tuple[Process, Process]

    def __init__(self) -> None:
        super().__init__()
        self.processes[0].clear()
        self.rows: set[str] = set()
        self.answers: dict[str, Answer] = {}
        self.runs: dict[int, Run] = {}
        self.count = 0

    @rule(process=PROCESSES, key=st.sampled_from(KEYS), replaces=st.booleans())
    def look_up(self, process: int, key: str, replaces: bool) -> None:
        with self.processes[process].request():
            stored = self.processes[process].transaction.look_up(key)
        self.check(stored, self.answers.get(key))
        owner = stored.record.owner if stored is not None and replaces else None
        self.runs[process] = Run(key, owner)

    @rule(process=PROCESSES, ttl_ms=TTLS)
    def commit(self, process: int, ttl_ms: int) -> None:
        run = self.runs.pop(process, None)
        if run is None:
            return
        row, ours = self.next_row(), answer(run.key, self.next_owner(), ttl_ms=ttl_ms)
        transaction = self.processes[process].transaction
        with self.processes[process].request():
            transaction.begin()
            self.processes[process].write(row)
            stored = commit_answer(transaction, ours, replaces=run.replaces)
        theirs = self.answers.get(run.key)
        if theirs is None or theirs.record.owner == run.replaces:
            assert stored is ours
            self.rows.add(row)
            self.answers[run.key] = ours
        else:
            self.check(stored, theirs)

    @rule(process=PROCESSES)
    def commit_without_answer(self, process: int) -> None:
        row, transaction = self.next_row(), self.processes[process].transaction
        with self.processes[process].request():
            transaction.begin()
            self.processes[process].write(row)
            transaction.commit(None)
        self.rows.add(row)

    @rule(process=PROCESSES)
    def roll_back(self, process: int) -> None:
        with self.processes[process].request():
            self.processes[process].transaction.begin()
            self.processes[process].write(self.next_row())
            self.processes[process].transaction.roll_back()

    @rule(process=PROCESSES, key=st.sampled_from(KEYS))
    def delete(self, process: int, key: str) -> None:
        was_there = self.answers.pop(key, None) is not None
        assert self.processes[process].transaction.delete([key]) == was_there

    @rule(process=PROCESSES)
    def prune(self, process: int) -> None:
        expired = [key for key, stored in self.answers.items() if stored.ttl_ms <= 0]
        assert self.processes[process].transaction.prune(10) == len(expired)
        for key in expired:
            del self.answers[key]

    @invariant()
    def both_agree(self) -> None:
        assert sorted(self.processes[0].rows()) == sorted(self.rows)
        for key in KEYS:
            with self.processes[1].request():
                self.check(self.processes[1].transaction.look_up(key), self.answers.get(key))

    @staticmethod
    def check(stored: Answer | None, expected: Answer | None) -> None:
        """The response is what was committed, and has expired or not."""
        assert (stored is None) == (expected is None)
        if stored is not None and expected is not None:
            assert stored.record._replace(time=0.0) == expected.record._replace(time=0.0)
            assert (stored.ttl_ms <= 0) == (expected.ttl_ms <= 0)

    def next_row(self) -> str:
        self.count += 1
        return f"row {self.count}"

    def next_owner(self) -> bytes:
        return self.count.to_bytes(16, "big")


@pytest.fixture(params=["memory", "sqlite"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Machine]]:
    class Bound(Machine):
        pass

    if request.param == "memory":
        process = InMemory()
        Bound.processes = (process, process)
        yield Bound
        return
    with closing(Shop(sqlite_file(tmp_path)).create_tables()) as shop:
        Bound.processes = (InDatabase(shop), InDatabase(shop.another()))
        yield Bound


def test_transaction_agrees_with_the_model(machine: Callable[[], Machine]) -> None:
    """Each transaction does what the model does, whatever two processes ask in whatever order."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
