"""Pending writes: in which order they are tried, and when they are given up."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flask_idempotent.engine.pending import PendingWrite, PendingWrites
from flask_idempotent.errors import StoreUnavailable, WriteRefused
from tests.support.faulty_store import fail


def write(
    run: Callable[[], object],
    on_lost: Callable[[str], None] = lambda reason: None,
    *,
    storage_key: str = "key",
) -> PendingWrite:
    return PendingWrite(storage_key, run, time.monotonic() + 60, on_lost)


class TestPendingWrites:
    def test_dead_store_ends_the_round(self) -> None:
        """A dead store ends the round; after a refusal the other writes are tried."""
        pending = PendingWrites()
        tried: list[str] = []

        def refuse(name: str, error: Exception) -> Callable[[], None]:
            def work() -> None:
                tried.append(name)
                raise error

            return work

        pending.add(write(refuse("refused", WriteRefused("full")), storage_key="key"))
        pending.add(write(refuse("dead", StoreUnavailable("down")), storage_key="key"))
        pending.add(write(refuse("never", StoreUnavailable("down")), storage_key="key"))
        with pytest.raises(StoreUnavailable):
            pending.run()
        assert tried == ["refused", "dead"]

    def test_what_breaks_the_connection_comes_last(self) -> None:
        """A write that always breaks its connection delays the others by one round at most."""
        pending = PendingWrites()
        done: list[int] = []
        pending.add(write(fail(StoreUnavailable("broke")), storage_key="poison"))
        pending.add(write(lambda: done.append(1), storage_key="key"))
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                pending.run()
        assert done == [1]
        assert pending.storage_keys == ["poison"]

    def test_hopeless_work_is_given_up(self, caplog: pytest.LogCaptureFixture) -> None:
        """A write that fails for another reason is given up, and the others are tried."""
        pending = PendingWrites()
        given_up: list[str] = []
        done: list[int] = []
        pending.add(write(fail(ValueError("no such text")), given_up.append, storage_key="key"))
        pending.add(write(lambda: done.append(1), given_up.append, storage_key="key"))
        pending.run()
        assert given_up == ["no such text"]
        assert done == [1]
        assert "cannot be carried out" in caplog.text

    def test_one_round_at_a_time(self) -> None:
        """Two threads do not try the same writes at once."""
        pending = PendingWrites()
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            pending.run()

        pending.add(write(work, storage_key="key"))
        pending.run()
        assert tries == [1]
