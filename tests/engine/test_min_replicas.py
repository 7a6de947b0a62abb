"""``min_replicas``: what becomes of claims and completions that too few replicas confirm."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import Replay, StillRunning
from flask_idempotent.errors import TooFewReplicas
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.base import Store
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail
from tests.support.polling import until

TOO_FEW = TooFewReplicas("1 replicas must confirm, and 0 did")


class ConfirmedStore(FaultyStore):
    """A store in memory that notes how many replicas were wanted of it."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[int] = []

    def confirmed_by(self, replicas: int) -> ConfirmedStore:
        self.wanted.append(replicas)
        return self


@pytest.fixture
def faulty() -> ConfirmedStore:
    return ConfirmedStore()


class TestClaim:
    def test_is_released(self, engine: Engine, faulty: ConfirmedStore) -> None:
        """A claim that too few replicas confirm does not run and is not left behind."""
        faulty.after["claim"] = [fail(TOO_FEW)]
        with pytest.raises(TooFewReplicas):
            engine.claim(request(min_replicas=1))
        until(lambda: faulty.read(KEY) is None)
        claimed(engine, min_replicas=1)

    def test_waiter(self, engine: Engine, faulty: ConfirmedStore) -> None:
        """A waiter whose claim too few replicas confirm tries again until its timeout."""
        first = claimed(engine, min_replicas=1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(engine.claim, request(min_replicas=1))
            faulty.listening.acquire()
            until(lambda: faulty.calls.count("claim") >= 3)
            faulty.after["claim"] = [fail(TOO_FEW)]
            engine.release(first, "failed")
            claim = waiting.result()
        assert isinstance(claim, Claim)
        assert faulty.read(KEY) is not None
        finish(engine, claim)

    def test_waiter_in_vain(self, engine: Engine, faulty: ConfirmedStore) -> None:
        """A waiter whose claim nobody confirms until its timeout leaves no claim behind."""
        first = claimed(engine, min_replicas=1)
        # Its first claim finds the key taken; when it looks again it does not.
        faulty.before["claim"] = [lambda: None, lambda: engine.release(first, "failed")]
        faulty.after["claim"] = [lambda: None] + [fail(TOO_FEW) for _ in range(9)]
        with pytest.raises(TooFewReplicas):
            engine.claim(request(min_replicas=1, timeout=0.2))
        until(lambda: faulty.read(KEY) is None)


class TestCompletion:
    def test_is_stored_again(
        self, engine: Engine, faulty: ConfirmedStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A response that too few replicas confirm is stored again, in the background."""
        claim = engine.claim(request(min_replicas=1))
        faulty.after["complete"] = [fail(TOO_FEW)]
        with caplog.at_level(logging.ERROR):
            finish(engine, claim)
        assert "the store failed to complete: 1 replicas must confirm, and 0 did" in caplog.text
        until(lambda: not engine.worker.pending)
        assert faulty.calls.count("complete") == 2

    def test_is_replayed_meanwhile(self, threadless: Engine, faulty: ConfirmedStore) -> None:
        """Duplicates get the response, although it is not confirmed yet."""
        claim = threadless.claim(request(min_replicas=1))
        faulty.after["complete"] = [fail(TOO_FEW) for _ in range(2)]
        finish(threadless, claim)
        assert isinstance(threadless.claim(request(min_replicas=1)), Replay)

    def test_delays_no_release(self, threadless: Engine, faulty: ConfirmedStore) -> None:
        """Responses that nobody confirms do not keep a refused claim from being released."""
        faulty.after["complete"] = [fail(TOO_FEW) for _ in range(8)]
        for number in range(4):
            finish(threadless, threadless.claim(request(storage_key=f"{number}", min_replicas=1)))
        faulty.after["claim"] = [fail(TOO_FEW)]
        with pytest.raises(TooFewReplicas):
            threadless.claim(request(min_replicas=1))
        threadless.worker.pending.run()
        assert faulty.read(KEY) is None
        assert isinstance(faulty.read("3"), CompletedRecord)


class TestStore:
    def test_is_asked_for_by_each_number(self, engine: Engine, faulty: ConfirmedStore) -> None:
        """Views without ``min_replicas`` use the store itself, each other number one of its own."""
        for key, replicas in (("a", 0), ("b", 1), ("c", 2), ("d", 1)):
            finish(engine, engine.claim(request(storage_key=key, min_replicas=replicas)))
        assert faulty.wanted == [1, 2]

    def test_without_replicas(
        self, faulty: ConfirmedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store that says nothing about replicas is refused, before it is asked for the key."""
        monkeypatch.setattr(ConfirmedStore, "confirmed_by", Store.confirmed_by)
        engine = Engine(faulty, "the app")
        with pytest.raises(
            ValueError, match="min_replicas needs replicas, and ConfirmedStore has none"
        ):
            engine.claim(request(min_replicas=1))
        assert faulty.calls == []
        assert isinstance(engine.claim(request(timeout=0)), Claim)
        assert isinstance(engine.claim(request(timeout=0)), StillRunning)
        engine.close()
