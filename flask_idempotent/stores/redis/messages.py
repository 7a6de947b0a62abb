"""Messages: what the scripts publish of each record, and hearing it.

Each record has a channel of its own for this, beside the one that wakes waiters. A message is a
word, a number and octets, with a space between: what happened, how many processes were woken, and
a record in progress or the ends of a completed one.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.records import TAIL_SIZE, Answered, InProgress, Released, decode_ends
from flask_idempotent.stores.events import Event, Kind
from flask_idempotent.stores.redis.client import read_name
from flask_idempotent.stores.redis.subscriber import PING_AFTER

if TYPE_CHECKING:
    from flask_idempotent.stores.redis.client import Feed

#: What follows the name of the waiters' channel in that of the events.
MARK = "!"
_CONFIRMED_WITHIN = 2.0
_AT_ONCE = 500


class Hearing:
    """Hears the events of the records whose channels match a pattern.

    :param feed: a connection for this alone.
    :param pattern: a pattern of channels.
    :param suffix: what follows the record's name in its channel's.
    :raises StoreError: when the server does not confirm.
    """

    def __init__(self, feed: Feed, pattern: str, suffix: str) -> None:
        self._feed = feed
        self._suffix = suffix.encode()
        self._heard, self._asked = time.monotonic(), False
        self._more = False
        feed.send("PSUBSCRIBE", pattern)
        if not self._arrived(_CONFIRMED_WITHIN):
            raise StoreUnavailable("it does not confirm that events are listened to")

    def hear(self, seconds: float) -> Sequence[Event]:
        """See ``Hear``."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            events = [e for m in self._arrived(left) if (e := self._event(m)) is not None]
            if events or left <= 0:
                return events

    def _arrived(self, seconds: float) -> Sequence[object]:
        if not self._more and not self._ready(seconds):
            self._expect_life()
            return []
        self._heard, self._asked = time.monotonic(), False
        # They may come faster than they are read, and whoever listens has other things to do.
        messages = list(islice(self._feed.messages(), _AT_ONCE))
        self._more = len(messages) == _AT_ONCE
        return messages

    def _ready(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._feed.fileno(), selectors.EVENT_READ)
            return bool(selector.select(max(0.0, min(seconds, PING_AFTER))))

    def _expect_life(self) -> None:
        # A connection that is half open never says so by itself.
        if time.monotonic() - self._heard >= PING_AFTER:
            if self._asked:
                raise StoreUnavailable("the connection fell silent")
            self._feed.send("PING")
            self._heard, self._asked = time.monotonic(), True

    def _event(self, message: object) -> Event | None:
        match message:
            case [b"pmessage", _, bytes(channel), bytes(data)]:
                return read_event(read_name(channel.removesuffix(self._suffix)), data)
        return None


def read_event(key: str, data: bytes) -> Event | None:
    """Read a message; None for one that this release does not know."""
    try:
        word, number, octets = data.split(b" ", 2)
        kind, woken = Kind(word.decode()), int(number)
    except ValueError:
        return None
    record = _record(octets, ends=kind in _ANSWERS)
    if isinstance(record, InProgress):
        if kind is Kind.CLAIMED and record.attempt > 1:
            kind = Kind.TAKEN_OVER
        return Event(key, kind, by=record, woken=woken)
    return Event(key, kind, answer=record, woken=woken)


#: What comes with the ends of a completed record, one after the other.
_ANSWERS = (Kind.COMPLETED, Kind.OFFERED, Kind.REPLAYED)


def _record(octets: bytes, *, ends: bool) -> InProgress | Answered | None:
    try:
        record = decode_ends(octets[:-TAIL_SIZE] if ends else octets, octets[-TAIL_SIZE:])
    except RecordUnreadable:
        return None
    return None if isinstance(record, Released) else record
