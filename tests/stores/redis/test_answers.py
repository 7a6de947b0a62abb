"""What a wrong server answers, at each step of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreError, StoreUnavailable, WriteRefused
from flask_idempotent.stores import base
from flask_idempotent.stores.base import Claimed, Completion, StepResult
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import ENDS, HOUR, answer, owner, renewal, running
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.proxy import EVER, Fault, Proxy
from tests.support.redis_servers import Server

ANSWERS = {
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "MASTERDOWN": b"-MASTERDOWN Link with MASTER is down.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
    "WRONGPASS": b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
}


ON_ONE_SERVER = pytest.mark.parametrize("store_behind_proxy", ["one server"], indirect=True)


class Step(NamedTuple):
    """A step of the protocol.

    :param command: bytes of its command and of no other.
    :param act: takes the step; it succeeds after a claim of "ada".
    :param succeeded: what ``act`` returns then.
    """

    command: bytes
    act: Callable[[RedisStore], object]
    succeeded: object


#: A step of ada's view.
ENDED = base.Step("reserve", owner("ada"), 1.5, b"")

STEPS = {
    "claim": Step(b"NX\r\n", lambda store: claim(store, "bob", KEY + "2"), Claimed(1)),
    "contend": Step(b"EVALSHA", lambda store: contend(store, "bob", KEY + "2"), Claimed(1)),
    "step": Step(
        b"EVALSHA",
        lambda store: store.write_step(KEY, running(), ENDED, ttl_ms=2 * HOUR),
        StepResult.WRITTEN,
    ),
    "read_steps": Step(b"HGETALL", lambda store: store.read_steps(KEY, b"f" * 16), []),
    "complete": Step(
        b"EVALSHA", lambda store: store.complete(KEY, answer(), ttl_ms=HOUR), Completion.STORED
    ),
    "release": Step(b"EVALSHA", lambda store: store.release(KEY, owner("ada"), **ENDS), True),
    "renew": Step(
        b"EVALSHA",
        lambda store: store.renew([renewal(KEY, running())], restore_within_ms=HOUR),
        [True],
    ),
}


@pytest.fixture
def store(store_behind_proxy: RedisStore, monkeypatch: pytest.MonkeyPatch) -> RedisStore:
    """One that takes its time to connect again, however busy this machine is."""
    monkeypatch.setattr(_timing, "MOVE_WITHIN", 10.0)
    # The server has all scripts.
    claim(store_behind_proxy)
    for step in STEPS.values():
        step.act(store_behind_proxy)
    store_behind_proxy.delete([KEY, KEY + "2"])
    claim(store_behind_proxy)
    return store_behind_proxy


@pytest.mark.parametrize("said", ANSWERS)
@pytest.mark.parametrize("name", STEPS)
class TestWrongServer:
    def test_once(self, said: str, name: str, store: RedisStore, proxy: Proxy) -> None:
        """The command is sent once more, on a new connection, and nobody notices."""
        step, former = STEPS[name], proxy.connections
        proxy.faults.append(Fault(step.command, "refuse", reply=ANSWERS[said]))
        generation = store._client.nodes()[0].generation
        assert step.act(store) == step.succeeded
        assert proxy.happened == ["refuse"]
        assert former == 1
        assert store._client.nodes()[0].generation == generation + 1

    @ON_ONE_SERVER
    def test_again(
        self, said: str, name: str, store: RedisStore, proxy: Proxy, clean_valkey: Server
    ) -> None:
        """The same answer again is an error: nothing was carried out, and nothing to release."""
        step = STEPS[name]
        before = clean_valkey.client.dump(KEY)
        proxy.faults.append(Fault(step.command, "refuse", reply=ANSWERS[said], times=EVER))
        try:
            result = step.act(store)
        except StoreError as error:
            result = error
        assert proxy.happened == ["refuse"] * 2
        assert clean_valkey.client.dump(KEY) == before
        assert not clean_valkey.client.exists(KEY + "2")
        if name == "renew":
            # It is not known whether the lease is still ours.
            assert result == [None]
        else:
            assert type(result) is (WriteRefused if said == "READONLY" else StoreUnavailable)
            assert result.sent is False


@pytest.mark.parametrize("said", ANSWERS)
class TestSubscription:
    def test_once(self, said: str, store: RedisStore, proxy: Proxy) -> None:
        """A waiter's subscription is made again, on a new connection."""
        proxy.faults.append(Fault(b"SUBSCRIBE", "refuse", reply=ANSWERS[said]))
        with store.listen(KEY, 5) as waiter:
            assert not waiter.may_have_missed
            store.complete(KEY, answer(), ttl_ms=HOUR)
            assert waiter.wait(5) == answer()
        assert proxy.happened == ["refuse"]

    @ON_ONE_SERVER
    def test_again(self, said: str, store: RedisStore, proxy: Proxy) -> None:
        """While it cannot be made, the waiter knows that it has to poll."""
        proxy.faults.append(Fault(b"SUBSCRIBE", "refuse", reply=ANSWERS[said], times=EVER))
        with store.listen(KEY, 0.05) as waiter:
            assert waiter.may_have_missed
            proxy.faults.clear()
            # It is woken to poll as soon as the subscription is made.
            assert waiter.wait_until_notified(5)


class TestReadOnly:
    @ON_ONE_SERVER
    def test_replays(self, store: RedisStore, proxy: Proxy) -> None:
        """A server that stays read-only still replays what is completed."""
        store.complete(KEY, answer(), ttl_ms=HOUR)
        refusal = ANSWERS["READONLY"]
        proxy.faults.append(Fault(b"NX\r\n", "refuse", reply=refusal, times=EVER))
        assert claim(store, "bob") == answer()
