"""The store on a Redis-protocol server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from flask_idempotent.errors import StoreError, StoreTooOld, StoreUnavailable
from flask_idempotent.records import Completed, InProgress, Record, decode, encode
from flask_idempotent.stores.base import (
    Bell,
    Busy,
    Claimed,
    Completion,
    News,
    Renewal,
    Reply,
    Store,
)
from flask_idempotent.stores.redis.client import Client, Script
from flask_idempotent.stores.redis.subscriber import Subscriber

#: A larger record does not travel in the message that wakes waiters; they read it once.
INLINE_SIZE = 16 * 1024
_SCAN_BATCH = 500

_CLAIMED, _FOUND = 1, 2


class RedisStore(Store):
    """Keeps records on a Redis or Valkey server.

    :param client: the connection to it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._claim = Script("claim")
        self._complete = Script("complete")
        self._release = Script("release")
        self._renew = Script("renew")
        # Pub/sub knows no databases, so the channel's name does.
        self._suffix = f"@{client.database}"
        self._subscriber = Subscriber(client.subscription)

    def __repr__(self) -> str:
        return f"<RedisStore {self._client!r}>"

    def claim(
        self, key: str, record: InProgress, *, lease: int, expire: int, takeover: bool
    ) -> Reply:
        arguments = (encode(record), lease, expire, int(takeover), self._suffix)
        try:
            code, *rest = self._client.run(self._claim, key, *arguments)
        except StoreUnavailable as error:
            raise self._explained(error) from error
        if code == _CLAIMED:
            return Claimed(*rest)
        if code == _FOUND:
            return _completed(rest[0])
        left, header = rest
        return Busy(_in_progress(header).fingerprint, left)

    def _explained(self, error: StoreError) -> StoreError:
        if "syntax error" not in str(error):
            return error
        info = self._client.execute("INFO", "server").decode()
        facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        name = "valkey" if "valkey_version" in facts else "redis"
        return StoreTooOld(
            f"the server is {name} {facts.get(f'{name}_version', 'of an unknown version')}; "
            "Redis 7.0 or Valkey 7.2 is needed, for SET with NX and GET together"
        )

    def renew(self, renewals: Sequence[Renewal]) -> list[int | None]:
        calls = [(r.key, encode(r.record), r.lease, r.expire, r.until) for r in renewals]
        replies = self._client.run_many(self._renew, calls)
        return [None if isinstance(reply, StoreError) or reply < 0 else reply for reply in replies]

    def complete(self, key: str, record: Completed, *, expire: int) -> Completion:
        data = encode(record)
        inline = int(len(data) <= INLINE_SIZE)
        return Completion(self._client.run(self._complete, key, data, expire, self._suffix, inline))

    def release(self, key: str, owner: bytes, *, expire: int) -> bool:
        return bool(self._client.run(self._release, key, owner, expire, self._suffix))

    def listen(self, key: str, seconds: float) -> AbstractContextManager[Bell]:
        channel = key + self._suffix
        return self._subscriber.listen(channel, seconds, lambda data: self._news(key, data))

    def _news(self, key: str, data: bytes) -> News | None:
        if not data:
            return None
        if data == b"read":
            return News(lambda: self.read(key))
        return News(lambda: decode(data))

    def read(self, key: str) -> Record | None:
        data = self._client.execute("GET", key)
        return None if data is None else decode(data)

    def scan(self, prefix: str) -> Iterator[str]:
        pattern = "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix) + "*"
        cursor: Any = b"0"
        while True:
            cursor, keys = self._client.execute(
                "SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_BATCH
            )
            yield from (key.decode() for key in keys)
            if cursor == b"0":
                return

    def delete(self, keys: Iterable[str]) -> int:
        names = list(keys)
        if not names:
            return 0
        messages = [("PUBLISH", name + self._suffix, b"") for name in names]
        count, *_ = self._client.execute_many([("UNLINK", *names), *messages])
        if isinstance(count, StoreError):
            raise count
        return int(count)

    def ping(self) -> None:
        self._client.execute("PING")

    def close(self) -> None:
        self._subscriber.close()
        self._client.close()


def _completed(data: bytes) -> Completed:
    record = decode(data)
    assert isinstance(record, Completed), "the script answers with completed records"
    return record


def _in_progress(header: bytes) -> InProgress:
    record = decode(header)
    assert isinstance(record, InProgress), "the script answers with headers in progress"
    return record
