"""Records that this package did not write, or that somebody has changed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import encode
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import Busy, Claimed, Completion, Renewal
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import (
    ENDS,
    HOUR,
    answer,
    renewal,
    running,
    time_left,
)
from tests.stores.redis.helpers import KEY, claim, contend
from tests.support.hostile_records import FINGERPRINT, HOSTILE, OWNER, header, in_progress
from tests.support.redis_servers import Server


class TestUnreadable:
    @pytest.mark.parametrize("data", [b"", b"x", b"\x02" + encode(running())[1:], b"\x01z"])
    def test_claim(self, redis_store: RedisStore, server: Server, data: bytes) -> None:
        """A record that cannot be read is an error and stays."""
        server.client.set(KEY, data, ex=60)
        with pytest.raises(RecordUnreadable):
            claim(redis_store)
        assert server.client.get(KEY) == data


def test_record_that_was_made_to_stay(redis_store: RedisStore, server: Server) -> None:
    """A claim whose time to live somebody removed has not lapsed, and gets one again."""
    claim(redis_store)
    server.client.persist(KEY)
    assert contend(redis_store, "bob") == Busy(running().fingerprint, HOUR, 1.5)
    assert HOUR < time_left(redis_store, KEY) <= 2 * HOUR


class TestRecords:
    def assert_nobodys(self, store: RedisStore) -> None:
        """The value of the key is unreadable and left alone."""
        for ask in (claim, contend):
            with pytest.raises(RecordUnreadable):
                ask(store)
        with pytest.raises(RecordUnreadable):
            store.read(KEY)
        assert store.renew([renewal(KEY, running())], restore_within_ms=HOUR) == [False]
        assert store.release(KEY, running().owner, **ENDS) is False
        assert store.complete(KEY, answer("bob"), ttl_ms=HOUR) is Completion.REFUSED

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"x",
            b"\x01",
            b"\x02" + encode(running())[1:],
            b"\x01z" + bytes(60),
            encode(answer())[:-3],
        ],
        ids=["empty", "short", "cut", "other version", "other state", "damaged"],
    )
    def test_unreadable(self, redis_store: RedisStore, server: Server, data: bytes) -> None:
        """A record that cannot be read is an error, stays, and is never taken over."""
        server.client.set(KEY, data, ex=60)
        self.assert_nobodys(redis_store)
        assert server.client.get(KEY) == data

    def test_r12_another_kind_of_value(self, redis_store: RedisStore, server: Server) -> None:
        """A list where the record should be is unreadable and stays."""
        server.client.rpush(KEY, "a list")
        self.assert_nobodys(redis_store)
        assert server.client.llen(KEY) == 1

    def test_r12_damage_behind_a_sound_header(
        self, redis_store: RedisStore, server: Server
    ) -> None:
        """A take-over succeeds even if the rest of the dead owner's record is unreadable."""
        server.client.set(KEY, header(state=b"p", grace=2 * HOUR) + b"\xc1", px=HOUR)
        asking = running()._replace(fingerprint=FINGERPRINT)
        reply = redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
        assert reply == Claimed(2, 1, None)

    def test_r12_damage_where_somebody_decides(
        self, redis_store: RedisStore, server: Server
    ) -> None:
        """Nothing is decided about a run of which nothing can be read, and no view runs."""
        server.client.set(KEY, header(state=b"p", grace=2 * HOUR) + b"\xc1", px=HOUR)
        asking = running()._replace(fingerprint=FINGERPRINT)
        for _ in range(2):
            with pytest.raises(RecordUnreadable):
                redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True, decides=True)

    def test_r12_state_of_another_release(self, redis_store: RedisStore, server: Server) -> None:
        """A response is not stored over a record with our token and an unknown state."""
        server.client.set(KEY, b"\x01z" + encode(answer())[2:], ex=60)
        assert redis_store.complete(KEY, answer(), ttl_ms=HOUR) is Completion.REFUSED

    @pytest.mark.parametrize(
        "numbers",
        [{"attempt": 0}, {"attempt": 2**32 - 1}, {"grace": 2**53}, {"grace": 2**64 - 1},
         {"offer": 10}, {"offer": 60}, {"offer": 2**32 - 1}],
        ids=str,
    )  # fmt: skip
    def test_r12_numbers_that_no_owner_writes(
        self, redis_store: RedisStore, server: Server, numbers: dict[str, int]
    ) -> None:
        """A lapsed claim with impossible numbers is never taken over, and stays."""
        data = in_progress(**{"grace": 2 * HOUR, **numbers})
        server.client.set(KEY, data, px=HOUR)
        asking = running()._replace(fingerprint=FINGERPRINT)
        with pytest.raises(RecordUnreadable):
            redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
        assert server.client.get(KEY) == data

    @pytest.mark.parametrize("offer", [10, 60, 2**32 - 1])
    @pytest.mark.parametrize("attempt", [1, 2])
    def test_r12_release_without_the_offer(
        self, redis_store: RedisStore, server: Server, offer: int, attempt: int
    ) -> None:
        """A release puts nothing in a record's place that is not a response, and frees the key."""
        server.client.set(KEY, in_progress(offer=offer, attempt=attempt, grace=HOUR), px=2 * HOUR)
        assert redis_store.release(KEY, OWNER, **ENDS)
        record = redis_store.read(KEY)
        if attempt == 1:
            assert record is None
        else:
            assert isinstance(record, ReleasedRecord)
            assert record.attempt == 2
        asking = running()._replace(fingerprint=FINGERPRINT)
        result = redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
        assert isinstance(result, Claimed)
        assert result.attempt == (1 if attempt == 1 else 3)

    def test_r12_whatever_somebody_wrote(self, redis_store: RedisStore, server: Server) -> None:
        """No record makes a script fail, and no unreadable one is returned as a response."""
        asking = RunningRecord(bytes(16), FINGERPRINT, grace_ms=HOUR)
        late = answer()._replace(owner=OWNER, fingerprint=FINGERPRINT)

        @settings(max_examples=50)
        @given(HOSTILE | st.binary(max_size=80), st.integers(1, HOUR))
        def check(data: bytes, life: int) -> None:
            def put() -> None:
                server.client.set(KEY, data, px=life + 1000)

            put()
            with suppress(RecordUnreadable):
                redis_store.claim(KEY, asking, ttl_ms=HOUR)
            with suppress(RecordUnreadable):
                redis_store.contend(KEY, asking, ttl_ms=HOUR, takeover=True)
            put()
            renewals = [Renewal(KEY, asking, HOUR)]
            assert redis_store.renew(renewals, restore_within_ms=HOUR) == [False]
            for _ in redis_store.inspect([KEY]):
                pass
            with suppress(RecordUnreadable):
                redis_store.read(KEY)
            # A completed record with our token counts as ours.
            if redis_store.complete(KEY, late, ttl_ms=HOUR) is Completion.STORED:
                assert data[1:2] == b"c" or redis_store.read(KEY) == late
            put()
            redis_store.release(KEY, OWNER, **ENDS)

        check()

    def test_never_without_an_end(self, redis_store: RedisStore, server: Server) -> None:
        """C5: no step leaves a record without a time to live."""
        claim(redis_store)
        assert server.client.pttl(KEY) > 0
        redis_store.renew([renewal(KEY, running())], restore_within_ms=HOUR)
        assert server.client.pttl(KEY) > 0
        redis_store.complete(KEY, answer("bob"), ttl_ms=HOUR)
        assert server.client.pttl(KEY) > 0
        redis_store.complete(KEY, answer(), ttl_ms=HOUR)
        assert server.client.pttl(KEY) > 0
