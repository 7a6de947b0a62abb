"""Events: what happens to records, told as it happens."""

from __future__ import annotations

import enum
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from flask_idempotent.records import Answered, InProgress


class Kind(enum.StrEnum):
    """What happened."""

    #: A request has claimed the key, and its view runs.
    CLAIMED = "claimed"
    #: Likewise, after an earlier owner died.
    TAKEN_OVER = "taken over"
    #: A request was given what is completed: its response, or that it was not kept.
    REPLAYED = "replayed"
    #: A request has the key and another fingerprint, and gets 422.
    REUSED = "reused"
    #: A duplicate has found the key in progress: it waits, or gets 409.
    BUSY = "busy"
    #: A duplicate has found a claim whose owner died and which nobody may take over: 409.
    UNKNOWN = "unknown"
    #: A response was stored.
    COMPLETED = "completed"
    #: A late owner's response is kept while another runs.
    OFFERED = "offered"
    #: An owner, or an operator, has given the claim up.
    RELEASED = "released"
    #: An operator has deleted the record.
    DELETED = "deleted"
    #: A request has found a record that cannot be read, and gets 503.
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a record.

    :param key: name of the record.
    :param kind: what happened.
    :param by: the request that did it or asked, where the store tells; without its fingerprint.
    :param answer: the response that was stored, offered or replayed, without headers and body;
        None where its status does not fit into a message.
    :param woken: how many processes were waiting and were told.
    """

    key: str
    kind: Kind
    by: InProgress | None = None
    answer: Answered | None = None
    woken: int = 0


#: Waits for so many seconds at most, and returns what has happened meanwhile; nothing when the
#: time is over.
Hear = Callable[[float], Sequence[Event]]


class Audience:
    """Those who hear of events in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[queue.SimpleQueue[Event], str] = {}

    def tell(self, event: Event) -> None:
        with self._lock:
            for ear, prefix in self._ears.items():
                if event.key.startswith(prefix):
                    ear.put(event)

    @contextmanager
    def attend(self, prefix: str) -> Iterator[Hear]:
        """Hear of the records whose key begins with a prefix."""
        ear: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with self._lock:
            self._ears[ear] = prefix
        try:
            yield lambda seconds: _next(ear, seconds)
        finally:
            with self._lock:
                del self._ears[ear]


def _next(ear: queue.SimpleQueue[Event], seconds: float) -> list[Event]:
    found: list[Event] = []
    with suppress(queue.Empty):
        found.append(ear.get(timeout=max(0.0, seconds)))
        while True:
            found.append(ear.get_nowait())
    return found
