"""Claimants: which claims they release, and when they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

import pytest

from flask_idempotent import _timing
from flask_idempotent.engine.claimant import Claimant
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import StillRunning
from flask_idempotent.errors import StoreUnavailable, WriteRefused
from flask_idempotent.stores.waiters import Waiter
from tests.support.engines import KEY, request
from tests.support.faulty_store import FaultyStore, fail
from tests.support.pauses import within
from tests.support.polling import until


def test_uncertain_claim_is_released(engine: Engine, faulty: FaultyStore) -> None:
    """A claim without a reply is released, also when a later poll did not reach the store."""
    asking = Claimant(faulty, engine.worker, request())
    faulty.after["claim"] = [fail(StoreUnavailable("no reply"))]
    with pytest.raises(StoreUnavailable):
        asking.claim()
    faulty.before["claim"] = [fail(WriteRefused("full"))]
    with pytest.raises(WriteRefused):
        asking.claim()
    asking.release_if_uncertain()
    until(lambda: faulty.read(KEY) is None)


class TestSilentStore:
    """C1: a waiter overshoots its timeout by less than 0.2 s, whatever else waits."""

    @pytest.fixture(autouse=True)
    def _quicker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_timing, "POLL_EVERY", 0.5)
        monkeypatch.setattr(_timing, "REPLY_TIMEOUT", 0.4)
        monkeypatch.setattr(_timing, "STORE_FAILS_WITHIN", 0.6)

    def silence(self) -> None:
        threading.Event().wait(0.35)
        raise StoreUnavailable("silent")

    @pytest.mark.parametrize("second", [0.75, 0.85])
    def test_leader_leaves(
        self,
        engine: Engine,
        faulty: FaultyStore,
        background: Callable[..., Future[object]],
        second: float,
    ) -> None:
        """The next leader polls only where it has the time to notice a silent store."""

        def wait(timeout: float) -> None:
            # On a busy machine its last poll may come before the store is silent.
            with within(timeout + 0.2, at_least=timeout), suppress(StoreUnavailable):
                engine.claim(request(timeout=timeout))

        engine.claim(request())
        first = background(wait, 0.7)
        until(lambda: len(faulty.calls) >= 3)
        other = background(wait, second)
        until(lambda: len(faulty.calls) >= 5)
        faulty.before["claim"] = [self.silence] * 100
        first.result()
        other.result()
        faulty.before.clear()

    def test_subscription_is_not_confirmed(
        self, engine: Engine, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A waiter without a confirmed subscription polls only where there is time."""

        @contextmanager
        def listen(key: str, seconds: float) -> Iterator[Waiter]:
            waiter = Waiter()
            waiter.may_have_missed = True
            waiter.wait(seconds)
            yield waiter

        monkeypatch.setattr(faulty, "listen", listen)
        engine.claim(request())
        faulty.before["claim"] = [lambda: None] + [self.silence] * 100
        with within(0.5, at_least=0.3):
            assert isinstance(engine.claim(request(timeout=0.3)), StillRunning)
        faulty.before.clear()
