"""Steps on real servers: where they are, who may go on with them, and what others write there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.stores.base import Completion, Renewal, Step, StepResult
from flask_idempotent.stores.redis.commands import steps_key
from flask_idempotent.stores.redis.slots import slot_of
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.testing.contract.support import (
    KEY,
    begin,
    end,
    fingerprint,
    release,
    steps_of,
)
from tests.stores.harness import ENDS, HOUR, answer, lapse, owner, running
from tests.stores.redis.helpers import claim, opened
from tests.support.redis_servers import Server

STEPS_KEY = KEY + ":steps"


@pytest.fixture
def valkey_store(clean_valkey: Server) -> Iterator[RedisStore]:
    """A store on one real server; the contract runs on all of them."""
    with opened(clean_valkey.url) as store:
        yield store


class TestKey:
    @pytest.mark.parametrize("name", [KEY, "IDEMPOTENT_{a}2", "IDEMPOTENT_a", "a{b"])
    def test_slot(self, name: str) -> None:
        """The steps of a record are in the record's slot, whatever its name."""
        assert slot_of(steps_key(name)) == slot_of(name)
        assert steps_key(name).endswith(":steps")

    def test_only_where_there_may_be_steps(self, valkey_store: RedisStore) -> None:
        """Without steps neither a completion nor a release nor a renewal names their key."""
        claim(valkey_store, key=KEY)
        end(valkey_store, "ada", "reserve")
        renewals = [Renewal(KEY, running(), HOUR)]
        assert valkey_store.renew(renewals, restore_within_ms=0) == [True]
        assert valkey_store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.STORED
        assert steps_of(valkey_store) == {"reserve": "ended"}

    def test_renewals_of_both_kinds(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """Claims with steps and without are renewed in one call, each result in its place."""
        names = [f"IDEMPOTENT_{{{number}}}" for number in range(6)]
        for name in names[:4]:
            claim(valkey_store, key=name)
        renewals = [Renewal(name, running(), HOUR, n % 2 == 0) for n, name in enumerate(names)]
        results = valkey_store.renew(renewals, restore_within_ms=-1)
        assert results == [True, True, True, True, None, None]


class TestTime:
    """The steps are kept as long as the record, to the millisecond, also where it is shorter."""

    def test_with_the_record(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """A step takes over what the record has left."""
        claim(valkey_store, key=KEY)
        for ttl_ms in (HOUR, None):
            end(valkey_store, "ada", "reserve", ttl_ms=ttl_ms)
            ends = [clean_valkey.client.pexpiretime(key) for key in (KEY, STEPS_KEY)]
            assert ends[0] <= ends[1]
            assert 0.99 * HOUR < clean_valkey.client.pttl(STEPS_KEY) <= 2 * HOUR

    def test_restored_record(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """A renewal that restores a record keeps its steps too."""
        claim(valkey_store, key=KEY)
        end(valkey_store, "ada", "reserve", ttl_ms=1000)
        clean_valkey.client.delete(KEY)
        renewals = [Renewal(KEY, running(), HOUR, has_steps=True)]
        assert valkey_store.renew(renewals, restore_within_ms=HOUR) == [True]
        assert clean_valkey.client.pttl(STEPS_KEY) > HOUR / 2

    def test_time_to_live_was_removed(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """Steps without a time to live get one with the next write."""
        claim(valkey_store, key=KEY)
        end(valkey_store, "ada", "reserve")
        clean_valkey.client.persist(STEPS_KEY)
        end(valkey_store, "ada", "charge")
        assert clean_valkey.client.pttl(STEPS_KEY) > HOUR


class TestLostRecord:
    """The server has lost a record, by eviction or in a failover, and has its steps."""

    def test_same_request(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """The request that runs again is told of what an earlier run began or recorded."""
        self.lose(valkey_store, clean_valkey)
        claim(valkey_store, "bob", KEY)
        began = Step("charge", owner("ada"), 4.5)
        ended = Step("reserve", owner("ada"), 3.5, b"result")
        assert begin(valkey_store, "bob", "charge") == began
        assert begin(valkey_store, "bob", "reserve") == ended
        assert valkey_store.read_steps(KEY, fingerprint()) == [ended, began]

    def test_another_request(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """Another request's steps are deleted with the first one of this request."""
        self.lose(valkey_store, clean_valkey)
        valkey_store.claim(KEY, running("bob", "two"), ttl_ms=2 * HOUR)
        assert steps_of(valkey_store, "two") == {}
        begun = begin(valkey_store, "bob", "charge", payload="two")
        assert begun is StepResult.WRITTEN
        assert steps_of(valkey_store, "two") == {"charge": "started"}
        assert steps_of(valkey_store) == {}

    def test_release_by_another_request(
        self, valkey_store: RedisStore, clean_valkey: Server
    ) -> None:
        """Another request's steps do not make a released record, and are deleted with it."""
        self.lose(valkey_store, clean_valkey)
        valkey_store.claim(KEY, running("bob", "two"), ttl_ms=2 * HOUR)
        assert release(valkey_store, "bob", has_steps=True, unstarted="charge") is True
        assert clean_valkey.client.keys() == []

    def test_open_step_of_another_request(
        self, valkey_store: RedisStore, clean_valkey: Server
    ) -> None:
        """An open step of another request holds nobody's key."""
        self.lose(valkey_store, clean_valkey)
        valkey_store.claim(KEY, running("bob", "two"), ttl_ms=2 * HOUR)
        lapse(valkey_store, KEY)
        cyd = running("cyd", "two")
        claimed = valkey_store.contend(KEY, cyd, ttl_ms=2 * HOUR, takeover=True)
        assert claimed == (2, 1, running("bob", "two"))

    def lose(self, store: RedisStore, server: Server) -> None:
        claim(store, key=KEY)
        end(store, "ada", "reserve")
        begin(store, "ada", "charge")
        server.client.delete(KEY)


class TestForeign:
    """What other programs write in the place of steps."""

    @pytest.mark.parametrize(
        ("field", "data"),
        [
            ("ecut", b"x" * 5),
            ("ebytes", b"x" * 16 + b"\x92\xcb"),
            ("etime", b"x" * 16 + b"\x92\x01\xc4\x00"),
            ("enothing", b"x" * 16 + b"\x92\xcb" + bytes(8) + b"\xc0"),
            ("svalue", b"x" * 16 + b"\x92\xcb" + bytes(8) + b"\xc4\x00"),
            ("zkind", b"x" * 16 + b"\x92\xcb" + bytes(8) + b"\xc0"),
        ],
    )
    def test_damaged(
        self, valkey_store: RedisStore, clean_valkey: Server, field: str, data: bytes
    ) -> None:
        """Damaged steps are an error, which names the step: nobody goes on without them."""
        claim(valkey_store, key=KEY)
        end(valkey_store, "ada", "reserve")
        clean_valkey.client.hset(STEPS_KEY, field, data)  # type: ignore[arg-type]
        with pytest.raises(RecordUnreadable, match=f"step '{field[1:]}' is damaged"):
            valkey_store.read_steps(KEY, fingerprint())

    @pytest.mark.parametrize("fingerprint_there", [None, b"", b"f" * 15])
    def test_nobodys(
        self, valkey_store: RedisStore, clean_valkey: Server, fingerprint_there: bytes | None
    ) -> None:
        """Steps of which it is unknown what request they are of are damaged, and not another's."""
        claim(valkey_store, key=KEY)
        begin(valkey_store, "ada", "charge")
        clean_valkey.client.hdel(STEPS_KEY, "f")
        if fingerprint_there is not None:
            clean_valkey.client.hset(STEPS_KEY, "f", fingerprint_there)  # type: ignore[arg-type]
        with pytest.raises(RecordUnreadable, match="do not say what request"):
            valkey_store.read_steps(KEY, fingerprint())
        for write in (begin, end):
            with pytest.raises(RecordUnreadable, match="do not say what request"):
                write(valkey_store, "ada", "charge")
        release(valkey_store, "ada", has_steps=True)
        assert b"scharge" in clean_valkey.client.hkeys(STEPS_KEY)
        claim(valkey_store, key=KEY)
        release(valkey_store, "ada", has_steps=True, owner_may_run=True)
        assert not clean_valkey.client.exists(STEPS_KEY)

    def test_another_kind_of_value(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """Another kind of value in their place is an error, and operators still see the record."""
        claim(valkey_store, key=KEY)
        clean_valkey.client.set(STEPS_KEY, "a string")
        with pytest.raises(RecordUnreadable):
            valkey_store.read_steps(KEY, fingerprint())
        assert end(valkey_store, "ada", "reserve") is StepResult.LOST
        (info,) = valkey_store.inspect([KEY])
        assert (info.steps, info.record) == ({}, running())

    def test_another_kind_of_record(self, valkey_store: RedisStore, clean_valkey: Server) -> None:
        """Beside one in the place of the record no step is written either."""
        clean_valkey.client.rpush(KEY, "a list")
        assert end(valkey_store, "ada", "reserve") is StepResult.LOST

    @pytest.mark.parametrize("data", [b"", b"x", b"\x01z" + bytes(60)])
    def test_unreadable_record(
        self, valkey_store: RedisStore, clean_valkey: Server, data: bytes
    ) -> None:
        """No step is written beside a record that is not ours."""
        clean_valkey.client.set(KEY, data)
        assert end(valkey_store, "ada", "reserve") is StepResult.LOST
        assert valkey_store.release(KEY, owner("ada"), **ENDS, has_steps=True) is False
        assert clean_valkey.client.keys() == [KEY.encode()]
