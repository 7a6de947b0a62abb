"""The store on a Redis-protocol server."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from flask_idempotent._record_header import HEAD_SIZE
from flask_idempotent._sealing import Sealer
from flask_idempotent.errors import (
    RecordUnreadable,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)
from flask_idempotent.record_format import (
    decode,
    decode_offer,
    encode,
)
from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.stores.base import (
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    RecordInfo,
    Renewal,
)
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.redis import replies
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import Command, Script, decode_name
from flask_idempotent.stores.redis.facts import facts_of
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.replicas import ConfirmingClient
from flask_idempotent.stores.redis.subscriber import Subscriber
from flask_idempotent.stores.redis.translation import or_raise
from flask_idempotent.stores.waiters import Notification, Waiter

#: How many records one round trip scans, inspects or deletes.
_BATCH = 500

Item = TypeVar("Item")


class RedisStore(InspectableStore):
    """Keeps records on a Redis or Valkey server.

    :param client: sends commands to it.
    :param subscriber: wakes waiters; None for a new one.
    :param sealer: seals and opens records; None to leave them readable.
    """

    def __init__(
        self,
        client: Client,
        subscriber: Subscriber | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self._client = client
        self._sealer = sealer
        self._set = Command("SET", wrote=lambda record: record is None)
        self._claim = Script("claim", wrote=lambda record: record is None)
        self._contend = Script("contend", wrote=replies.is_claimed)
        self._complete = Script("complete", wrote=lambda code: code == Completion.STORED.value)
        self._release = Script("release")
        self._renew = Script("renew")
        self._inspect = Script("inspect")
        self._resolve = Script("resolve")
        self._discard_script = Script("discard")
        self._delete_script = Script("delete")
        # Pub/sub ignores databases, so a channel's name ends with the number of its database.
        self._channel_suffix = f"@{client.topology.database}"
        #: What tells a script how to wake the waiters.
        self._publishing = (self._channel_suffix, client.topology.pubsub.publish)
        if subscriber is None:
            subscriber = Subscriber(client.topology)
            client.topology.on_move(subscriber.reconnect)
        self._subscriber = subscriber
        self._supports_nx_with_get = True

    def __str__(self) -> str:
        return str(self._client)

    def __repr__(self) -> str:
        return f"<RedisStore {self._client}>"

    def confirmed_by(self, replicas: int) -> RedisStore:
        client = ConfirmingClient(self._client.topology, replicas)
        return RedisStore(client, self._subscriber, self._sealer)

    def sealed_with(self, sealer: Sealer) -> RedisStore:
        store = copy.copy(self)
        store._sealer = sealer
        return store

    def _encode(self, storage_key: str, record: Record) -> bytes:
        return encode(record, storage_key, self._sealer)

    def _decode(self, storage_key: str, data: bytes) -> Record:
        return decode(data, storage_key, self._sealer)

    def claim(self, storage_key: str, record: RunningRecord, *, ttl_ms: int) -> ClaimResult:
        try:
            current = self._set_or_get(storage_key, self._encode(storage_key, record), ttl_ms)
        except WriteRefused:
            # A server that refuses writes still has the responses.
            with suppress(StoreError):
                completed = self.read(storage_key)
                if isinstance(completed, CompletedRecord):
                    return completed
            raise
        return Claimed(1) if current is None else self._decode(storage_key, current)

    def _set_or_get(self, storage_key: str, record: bytes, ttl_ms: int) -> bytes | None:
        """Write a record where there is none, or return the existing one."""
        if self._supports_nx_with_get:
            try:
                reply: bytes | None = self._client.call(
                    self._set, storage_key, record, "NX", "GET", "PX", ttl_ms
                )
                return reply
            except StoreUnavailable as error:
                # Redis before 7.0 refuses NX together with GET; a script does the same there.
                if "syntax error" not in str(error):
                    raise
                self._supports_nx_with_get = False
        reply = self._client.run(self._claim, storage_key, record, ttl_ms)
        return reply

    def contend(
        self,
        storage_key: str,
        record: RunningRecord,
        *,
        ttl_ms: int,
        takeover: bool,
        replaces: bytes | None = None,
        decides: bool = False,
    ) -> ContendResult:
        arguments = (ttl_ms, int(takeover), *self._publishing, replaces or b"", int(decides))
        data = self._encode(storage_key, record)
        reply = self._client.run(self._contend, storage_key, data, *arguments)
        return replies.of_contend(reply, partial(self._decode, storage_key), decides=decides)

    def renew(self, renewals: Sequence[Renewal], *, restore_within_ms: int) -> list[bool | None]:
        topology = self._client.topology
        groups, errors = topology.by_node([renewal.storage_key for renewal in renewals])
        results: dict[int, bool | None] = {}
        for numbers in groups.values():
            group = [renewals[number] for number in numbers]
            try:
                results |= zip(numbers, self._renew_at_one(group, restore_within_ms), strict=True)
            except StoreError as error:
                errors |= dict.fromkeys(numbers, error)
        if errors and not results:
            raise next(iter(errors.values()))
        return [results.get(number) for number in range(len(renewals))]

    def _renew_at_one(
        self, renewals: Sequence[Renewal], restore_within_ms: int
    ) -> list[bool | None]:
        """Renew claims that are at one server, whose clock counts."""
        until = self._client.clock_ms(renewals[0].storage_key) + restore_within_ms
        calls = [
            (r.storage_key, self._encode(r.storage_key, r.record), r.ttl_ms, until)
            for r in renewals
        ]
        return [replies.of_renew(reply) for reply in self._client.run_many(self._renew, calls)]

    def complete(self, storage_key: str, record: CompletedRecord, *, ttl_ms: int) -> Completion:
        data = self._encode(storage_key, record)
        try:
            code = self._client.run(self._complete, storage_key, data, ttl_ms, *self._publishing)
        except RecordUnreadable:
            return Completion.REFUSED
        completion = Completion(code)
        if completion is Completion.STORED:
            # Waiters of this process need neither the message nor another read.
            self._subscriber.notify_stored(self._channel(storage_key), Notification.of(record))
        return completion

    def release(
        self,
        storage_key: str,
        owner: bytes,
        *,
        response_ttl_ms: int,
        tombstone_ttl_ms: int,
        owner_may_run: bool = False,
        holds: bool = False,
    ) -> bool:
        times = (response_ttl_ms, tombstone_ttl_ms)
        rest = (*times, *self._publishing, int(owner_may_run), int(holds))
        try:
            return bool(self._client.run(self._release, storage_key, owner, *rest))
        except RecordUnreadable:
            return False

    def listen(self, storage_key: str, seconds: float) -> AbstractContextManager[Waiter]:
        channel = self._channel(storage_key)
        return self._subscriber.listen(channel, seconds, lambda: self.read(storage_key))

    def _channel(self, storage_key: str) -> str:
        return storage_key + self._channel_suffix

    def read(self, storage_key: str) -> Record | None:
        data = self._client.execute("GET", storage_key)
        return None if data is None else self._decode(storage_key, data)

    def scan(self, prefix: str) -> Iterator[str]:
        pattern = _escape_pattern(prefix) + "*"
        for node in self._client.nodes():
            yield from self._scan(node, pattern)

    def _scan(self, node: Node, pattern: str) -> Iterator[str]:
        cursor: Any = b"0"
        while True:
            cursor, names = node.execute("SCAN", cursor, "MATCH", pattern, "COUNT", _BATCH)
            yield from map(decode_name, names)
            if cursor == b"0":
                return

    def inspect(self, storage_keys: Iterable[str]) -> Iterator[RecordInfo]:
        for names in _batches(storage_keys):
            calls = [(name, b"%d" % HEAD_SIZE) for name in names]
            pairs = zip(names, self._client.run_many(self._inspect, calls), strict=True)
            infos = [replies.of_inspect(name, reply, self._sealer) for name, reply in pairs]
            yield from self._with_waiters([info for info in infos if info is not None])

    def _with_waiters(self, infos: Sequence[RecordInfo]) -> Iterator[RecordInfo]:
        running = [info for info in infos if isinstance(info.record, RunningRecord)]
        channels = [self._channel(info.storage_key) for info in running]
        counts: dict[str, int] | None = None
        # Not every user is permitted to count subscribers.
        with suppress(StoreError):
            counts = self._client.subscribers(channels)
        for info in infos:
            waiters = None if counts is None else counts.get(self._channel(info.storage_key), 0)
            yield replace(info, waiters=waiters)

    def read_offer(self, storage_key: str) -> CompletedRecord | None:
        data = self._client.execute("GET", storage_key)
        return None if data is None else decode_offer(data, storage_key, self._sealer)

    def resolve(
        self,
        storage_key: str,
        owner: bytes,
        record: CompletedRecord,
        *,
        ttl_ms: int,
        even_running: bool = False,
    ) -> bool:
        rest = (ttl_ms, owner, int(even_running), *self._publishing)
        data = self._encode(storage_key, record)
        return bool(self._client.run(self._resolve, storage_key, data, *rest))

    def discard(self, infos: Iterable[RecordInfo]) -> int:
        return sum(map(self._discard, _batches(infos)))

    def _discard(self, infos: Sequence[RecordInfo]) -> int:
        calls = [(info.storage_key, info.owner, *self._publishing) for info in infos]
        return sum(map(or_raise, self._client.run_many(self._discard_script, calls)))

    def delete(self, storage_keys: Iterable[str]) -> int:
        return sum(map(self._delete, _batches(storage_keys)))

    def _delete(self, names: Sequence[str]) -> int:
        suffix, publish = self._publishing
        calls = [(name, suffix.encode(), publish) for name in names]
        return sum(map(or_raise, self._client.run_many(self._delete_script, calls)))

    def ping(self) -> None:
        for node in self._client.nodes():
            node.execute("PING")

    def facts(self) -> Sequence[Mapping[str, str]]:
        return facts_of(self._client.topology)

    def close(self) -> None:
        self._subscriber.close()
        self._client.close()


def _escape_pattern(prefix: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        yield batch
