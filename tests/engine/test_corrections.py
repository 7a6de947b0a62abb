"""Corrected requests: using a key again after a response that calls its request invalid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from blinker import NamedSignal

from flask_idempotent import signals
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import FingerprintMismatch, Replay
from flask_idempotent.errors import StoreUnavailable
from tests.stores.harness import lapse
from tests.support.engines import KEY, claimed, finish, request
from tests.support.faulty_store import FaultyStore, fail
from tests.support.polling import until


class TestCorrected:
    """C7: after a response that calls its request invalid, a corrected request may use the key."""

    def test_runs(self, real_engine: Engine) -> None:
        """A corrected request runs, as the next attempt, and its response is the key's."""
        finish(real_engine, real_engine.claim(request("one")), b"no", 422)
        claim = claimed(real_engine, payload="two")
        assert claim.attempt == 2
        finish(real_engine, claim)
        replay = real_engine.claim(request("two"))
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"done"
        assert isinstance(real_engine.claim(request("one")), FingerprintMismatch)

    def test_same_request_gets_the_answer(self, engine: Engine) -> None:
        """The same request again gets the answer that it got before."""
        finish(engine, engine.claim(request()), b"no", 422)
        replay = engine.claim(request())
        assert isinstance(replay, Replay)
        assert replay.completed.body == b"no"

    @pytest.mark.parametrize("status", [200, 400, 409])
    def test_other_answers_bind(self, engine: Engine, faulty: FaultyStore, status: int) -> None:
        """F4: only the statuses that the settings name are those of an invalid request."""
        finish(engine, engine.claim(request("one")), b"done", status)
        before = faulty.read(KEY)
        assert isinstance(engine.claim(request("two")), FingerprintMismatch)
        assert faulty.read(KEY) == before

    @pytest.mark.parametrize("other", [{"path": "/refunds"}, {"method": "PUT"}])
    def test_other_operation(self, engine: Engine, other: dict[str, str]) -> None:
        """F5: a request with another path or method corrects nothing."""
        finish(engine, engine.claim(request("one")), b"no", 422)
        changed = request("two", path=other.get("path", "/orders"))
        changed = changed._replace(method=other.get("method", "POST"))
        assert isinstance(engine.claim(changed), FingerprintMismatch)

    def test_while_the_first_runs(self, engine: Engine) -> None:
        """F4: while the first request runs, another payload is refused."""
        engine.claim(request("one"))
        assert isinstance(engine.claim(request("two")), FingerprintMismatch)

    def test_replaced_payload_is_another_one(self, engine: Engine) -> None:
        """The replaced payload, sent again, is a correction or a mismatch like any other."""
        finish(engine, engine.claim(request("one")), b"no", 422)
        second = engine.claim(request("two"))
        assert isinstance(engine.claim(request("one")), FingerprintMismatch)
        finish(engine, second, b"no", 422)
        third = claimed(engine, payload="one")
        assert third.attempt == 3

    def test_waiter_for_the_old_answer(
        self,
        engine: Engine,
        faulty: FaultyStore,
        background: Callable[..., Future[object]],
    ) -> None:
        """A waiter whose answer was replaced gets 422, and does not correct anything itself."""
        faulty.is_silent = True
        claim = engine.claim(request("one"))
        waiter = background(engine.claim, request("one"))
        assert faulty.listening.acquire(timeout=5)
        until(lambda: faulty.calls.count("claim") == 3)
        finish(engine, claim, b"no", 422)
        finish(engine, engine.claim(request("two")), b"no", 422)
        assert isinstance(waiter.result(), FingerprintMismatch)

    def test_lost_race(self, engine: Engine, faulty: FaultyStore) -> None:
        """Of two corrections of the same answer one runs; the other is refused."""
        finish(engine, engine.claim(request("one")), b"no", 422)
        others: list[object] = []
        faulty.before["claim"] = [
            lambda: None,
            lambda: others.append(engine.claim(request("three"))),
        ]
        assert isinstance(engine.claim(request("two")), FingerprintMismatch)
        assert isinstance(others[0], Claim)

    def test_lost_reply(self, engine: Engine, faulty: FaultyStore) -> None:
        """A correction whose reply was lost is released; the next one runs."""
        finish(engine, engine.claim(request("one")), b"no", 422)
        faulty.before["claim"] = [
            lambda: faulty.after.update(claim=[fail(StoreUnavailable("lost"))])
        ]
        faulty.after["claim"] = []
        with pytest.raises(StoreUnavailable):
            engine.claim(request("two"))
        until(lambda: not engine.worker.pending)
        assert isinstance(engine.claim(request("two", timeout=0)), Claim)

    def test_replaced_answer_was_stored(
        self, threadless: Engine, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An answer whose reply was lost, and that was corrected before the retry, was stored."""
        first = claimed(threadless, payload="one")
        faulty.after["complete"] = [fail(StoreUnavailable("reply lost"))]
        finish(threadless, first, b"no", 422)
        other = Engine(faulty, None)
        claimed(other, payload="two")
        with connected(signals.completed) as statuses:
            threadless.worker.pending.run()
        assert first.held
        assert statuses == [422]
        assert "lease lost" not in caplog.text
        other.close()

    def test_answer_of_a_late_owner_is_lost(self, threadless: Engine, faulty: FaultyStore) -> None:
        """If the answer does not reach the store within the lease, the lease is lost."""
        first = claimed(threadless, payload="one")
        faulty.before["complete"] = [fail(StoreUnavailable("no reply"))]
        finish(threadless, first, b"no", 422)
        lapse(faulty, KEY)
        first.renewed -= 31
        other = Engine(faulty, None)
        finish(other, other.claim(request("one")), b"no", 422)
        threadless.worker.pending.run()
        assert not first.held
        other.close()


@contextmanager
def connected(signal: NamedSignal) -> Iterator[list[int]]:
    """Collect the statuses that are sent with a signal."""
    statuses: list[int] = []

    def receive(sender: object, status: int, **data: object) -> None:
        statuses.append(status)

    with signal.connected_to(receive):
        yield statuses
