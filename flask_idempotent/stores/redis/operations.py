"""What operators ask of a store on a Redis-protocol server."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Self, TypeVar

from flask_idempotent._record_header import HEAD_SIZE
from flask_idempotent.errors import StoreError
from flask_idempotent.record_format import decode, decode_offer, encode
from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.redis import replies
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import STEPS_SUFFIX, Script, decode_name
from flask_idempotent.stores.redis.facts import facts_of
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.translation import MIGRATING, or_raise

#: How many records one round trip scans, inspects or deletes.
_BATCH = 500

Item = TypeVar("Item")


class OperatedStore(InspectableStore):
    """The part of a store on a server that is for operators.

    :param client: sends commands to it.
    :param sealer: seals and opens records; None to leave them readable.
    """

    def __init__(self, client: Client, sealer: Sealer | None = None) -> None:
        self._client = client
        self._sealer = sealer
        self._inspect = Script("inspect", with_steps=True)
        self._inspect_alone = Script("inspect")
        self._resolve = Script("resolve", with_steps=True)
        self._discard_script = Script("discard", with_steps=True)
        self._delete_script = Script("delete", with_steps=True)
        # Pub/sub ignores databases, so a channel's name ends with the number of its database.
        self._channel_suffix = f"@{client.topology.database}"
        #: What tells a script how to wake the waiters.
        self._publishing = (self._channel_suffix, client.topology.pubsub.publish)

    def sealed_with(self, sealer: Sealer) -> Self:
        store = copy.copy(self)
        store._sealer = sealer
        return store

    def _encode(self, storage_key: str, record: Record) -> bytes:
        return encode(record, storage_key, self._sealer)

    def _decode(self, storage_key: str, data: bytes) -> Record:
        return decode(data, storage_key, self._sealer)

    def _channel(self, storage_key: str) -> str:
        return storage_key + self._channel_suffix

    def scan(self, prefix: str) -> Iterator[str]:
        pattern = _escape_pattern(prefix) + "*"
        for node in self._client.nodes():
            yield from self._scan(node, pattern)

    def _scan(self, node: Node, pattern: str) -> Iterator[str]:
        cursor: Any = b"0"
        while True:
            cursor, names = node.execute("SCAN", cursor, "MATCH", pattern, "COUNT", _BATCH)
            decoded = map(decode_name, names)
            yield from (name for name in decoded if not name.endswith(STEPS_SUFFIX))
            if cursor == b"0":
                return

    def inspect(self, storage_keys: Iterable[str]) -> Iterator[RecordInfo]:
        for names in _batches(storage_keys):
            calls = [(name, b"%d" % HEAD_SIZE) for name in names]
            pairs = zip(names, self._inspect_many(calls), strict=True)
            infos = [replies.of_inspect(name, reply, self._sealer) for name, reply in pairs]
            yield from self._with_waiters([info for info in infos if info is not None])

    def _inspect_many(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        replies = self._client.run_many(self._inspect, calls)
        refused = [number for number, reply in enumerate(replies) if isinstance(reply, MIGRATING)]
        again = self._client.run_many(self._inspect_alone, [calls[number] for number in refused])
        for number, reply in zip(refused, again, strict=True):
            replies[number] = reply
        return replies

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


def _escape_pattern(prefix: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        yield batch
