"""The store on a Redis-protocol server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from flask_idempotent.errors import (
    RecordUnreadable,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)
from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.sealing import Sealer
from flask_idempotent.stores.base import (
    Claimed,
    ClaimResult,
    Completion,
    ContendResult,
    Renewal,
    Step,
    StepResult,
)
from flask_idempotent.stores.redis import replies
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import Command, Script, steps_key
from flask_idempotent.stores.redis.operations import OperatedStore
from flask_idempotent.stores.redis.replicas import ConfirmingClient
from flask_idempotent.stores.redis.steps import StepCodec, was_written
from flask_idempotent.stores.redis.subscriber import Subscriber
from flask_idempotent.stores.redis.translation import MIGRATING
from flask_idempotent.stores.waiters import Notification, Waiter


class RedisStore(OperatedStore):
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
        super().__init__(client, sealer)
        self._set = Command("SET", wrote=lambda record: record is None)
        self._claim = Script("claim", wrote=lambda record: record is None)
        self._contend = Script("contend", wrote=replies.is_claimed, with_steps=True)
        self._contend_alone = Script("contend", wrote=replies.is_claimed)
        self._step = Script("step", wrote=was_written, with_steps=True)
        # Where there may be steps, these are given the key of the steps too.
        self._complete, self._release, self._renew = (
            [Script(name, wrote, with_steps=with_steps) for with_steps in (False, True)]
            for name, wrote in (("complete", _is_stored), ("release", None), ("renew", None))
        )
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
        try:
            reply = self._client.run(self._contend, storage_key, data, *arguments)
        except MIGRATING:
            reply = self._client.run(self._contend_alone, storage_key, data, *arguments)
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
        results: dict[int, bool | None] = {}
        for with_steps, script in enumerate(self._renew):
            group = {n: r for n, r in enumerate(renewals) if r.has_steps == with_steps}
            calls = [
                (r.storage_key, self._encode(r.storage_key, r.record), r.ttl_ms, until)
                for r in group.values()
            ]
            answers = map(replies.of_renew, self._client.run_many(script, calls))
            results |= zip(group, answers, strict=True)
        return [results[number] for number in range(len(renewals))]

    def write_step(
        self, storage_key: str, record: RunningRecord, step: Step, *, ttl_ms: int | None
    ) -> StepResult | Step:
        codec = StepCodec(storage_key, record.fingerprint, self._sealer)
        arguments = codec.arguments(record, step, ttl_ms)
        try:
            reply = self._client.run(self._step, storage_key, *arguments)
        except RecordUnreadable:
            return StepResult.LOST
        return codec.result_of(step.name, reply)

    def read_steps(self, storage_key: str, fingerprint: bytes) -> list[Step]:
        reply = self._client.execute("HGETALL", steps_key(storage_key))
        return StepCodec(storage_key, fingerprint, self._sealer).read(reply)

    def complete(
        self, storage_key: str, record: CompletedRecord, *, ttl_ms: int, has_steps: bool = False
    ) -> Completion:
        data = self._encode(storage_key, record)
        try:
            completion = self._send_completion(storage_key, data, ttl_ms, has_steps=has_steps)
        except RecordUnreadable:
            return Completion.REFUSED
        if completion is Completion.STORED:
            # Waiters of this process need neither the message nor another read.
            self._subscriber.notify_stored(self._channel(storage_key), Notification.of(record))
        return completion

    def _send_completion(
        self, storage_key: str, data: bytes, ttl_ms: int, *, has_steps: bool
    ) -> Completion:
        script = self._complete[has_steps]
        code = self._client.run(script, storage_key, data, ttl_ms, *self._publishing)
        if code == replies.STEPS_NEEDED:
            return self._send_completion(storage_key, data, ttl_ms, has_steps=True)
        return Completion(code)

    def release(
        self,
        storage_key: str,
        owner: bytes,
        *,
        response_ttl_ms: int,
        tombstone_ttl_ms: int,
        owner_may_run: bool = False,
        holds: bool = False,
        has_steps: bool = False,
        unstarted: str = "",
    ) -> bool:
        script = self._release[has_steps or owner_may_run]
        times = (response_ttl_ms, tombstone_ttl_ms)
        rest = (*times, *self._publishing, int(owner_may_run), int(holds), unstarted)
        try:
            return bool(self._client.run(script, storage_key, owner, *rest))
        except RecordUnreadable:
            return False

    def listen(self, storage_key: str, seconds: float) -> AbstractContextManager[Waiter]:
        channel = self._channel(storage_key)
        return self._subscriber.listen(channel, seconds, lambda: self.read(storage_key))

    def read(self, storage_key: str) -> Record | None:
        data = self._client.execute("GET", storage_key)
        return None if data is None else self._decode(storage_key, data)

    def close(self) -> None:
        self._subscriber.close()
        self._client.close()


def _is_stored(code: Any) -> bool:
    return bool(code == Completion.STORED.value)
