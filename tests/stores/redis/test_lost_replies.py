"""Replies that are lost: every command may be sent twice, with the effect of once."""

from __future__ import annotations

import pytest

from flask_idempotent import _timing
from flask_idempotent.stores.base import Busy, Claimed, Completion, Step, StepResult
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import (
    ENDS,
    HOUR,
    answer,
    owner,
    renewal,
    running,
)
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.proxy import Fault, Proxy


class TestLostReplies:
    @pytest.fixture
    def store(self, store_behind_proxy: RedisStore, monkeypatch: pytest.MonkeyPatch) -> RedisStore:
        # However slow this machine is, a broken connection is noticed at once.
        monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)
        return store_behind_proxy

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_claim(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A claim whose reply is lost is sent again, and returns its own record if it was made."""
        proxy.faults.append(Fault(b"$3\r\nSET\r\n", action))  # type: ignore[arg-type]
        assert claim(store) == (Claimed(1) if action == "cut before" else running())
        assert proxy.happened == [action]
        assert contend(store) == Claimed(1)

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_contend(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A claim by script whose reply is lost does not wait for itself."""
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        assert contend(store) == Claimed(1)
        assert isinstance(contend(store, "bob"), Busy)

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_complete(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A completion whose reply is lost is stored, once."""
        claim(store)
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        assert store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
        assert store.read(KEY) == answer()

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_step(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A step whose reply is lost is written, once, and no earlier run's."""
        claim(store)
        began = Step("charge", owner("ada"), 1.5)
        for step in (began, began._replace(value=b"paid")):
            proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
            assert store.write_step(KEY, running(), step, ttl_ms=2 * HOUR) is StepResult.WRITTEN
            assert store.read_steps(KEY, running().fingerprint) == [step]

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_release(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A release whose reply is lost frees the key and fails nobody."""
        claim(store)
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        store.release(KEY, owner("ada"), **ENDS)
        assert store.read(KEY) is None

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_renew(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A renewal whose reply is lost does not lose the lease."""
        claim(store)
        proxy.faults.append(Fault(b"EVALSHA", action))  # type: ignore[arg-type]
        assert store.renew([renewal(KEY, running())], restore_within_ms=HOUR) == [True]

    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_subscribe(self, proxy: Proxy, store: RedisStore, action: str) -> None:
        """A subscription that breaks is made again, and its waiter polls in the meantime."""
        claim(store)
        proxy.faults.append(Fault(b"SUBSCRIBE", action))  # type: ignore[arg-type]
        with store.listen(KEY, 5) as waiter:
            store.complete(KEY, answer(), ttl_ms=HOUR)
            assert waiter.wait(5) == answer()
        assert proxy.happened == [action]
