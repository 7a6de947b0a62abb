"""Waking the requests of this process that wait for a key.

A thousand threads that wake at the same moment compete for the interpreter's lock, and finish later
than if they wake in turn. So a notification wakes two of a key's waiters, and each of these wakes
one more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from flask_idempotent.errors import RecordUnreadable, StoreError
from flask_idempotent.records import CompletedRecord, Record

#: How many of a key's waiters a notification wakes directly.
_WOKEN_AT_ONCE = 2


class Notification:
    """The news that a record has changed, which is read once for all waiters that it wakes.

    :param read: reads the record from the store; returns None when there is none.
    """

    def __init__(self, read: Callable[[], Record | None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._is_read = False
        self._record: Record | None = None
        self._failure: RecordUnreadable | None = None

    @classmethod
    def of(cls, record: CompletedRecord) -> Notification:
        """Make the notification of a record that this process itself has just stored."""
        notification = cls(lambda: record)
        notification.record()
        return notification

    @property
    def is_final(self) -> bool:
        """Whether the response is known, so that nothing newer need be read."""
        return self._is_read and isinstance(self._record, CompletedRecord)

    def record(self) -> Record | None:
        """Return the record; None when the waiter has to contend for the key instead.

        :raises RecordUnreadable: when the record has damaged bytes.
        """
        with self._lock:
            if not self._is_read:
                try:
                    self._record = self._read()
                except StoreError:
                    self._record = None
                except RecordUnreadable as error:
                    self._failure = error
                self._is_read = True
        if self._failure is not None:
            raise self._failure
        return self._record


class Waiter:
    """One request that waits for a key.

    :param is_leader: whether it polls the store for all waiters of its key; see ``WaiterQueue``.
    """

    def __init__(self, *, is_leader: bool = True) -> None:
        self.is_leader = is_leader
        #: Monotonic time after which it no longer polls, because it would notice too late that the
        #: store is silent.
        self.polls_until = float("inf")
        #: Whether it does not receive every notification yet. It is notified once it does.
        self.may_have_missed = False
        # Held until a notification arrives: an event would take ten times as long.
        self._silence = threading.Lock()
        self._silence.acquire()
        self._notification: Notification | None = None
        #: The waiters that the last notification has not woken yet.
        self._asleep: deque[Waiter] = deque()
        #: The same queue, once this waiter has woken one of them.
        self._passed_on = self._asleep

    @property
    def may_poll(self) -> bool:
        """Whether there is enough time left to poll a store that may be silent."""
        return time.monotonic() < self.polls_until

    @property
    def notified(self) -> bool:
        """Whether a notification has arrived that nobody has waited for yet."""
        return not self._silence.locked()

    def expect(self, notification: Notification | None, asleep: deque[Waiter]) -> None:
        """Prepare the waiter to read a notification and to wake another one once it is woken."""
        self._set(notification)
        self._asleep = asleep

    def notify(self, notification: Notification | None = None) -> None:
        """Wake this waiter alone, with a notification or to contend for the key."""
        self._set(notification)
        self.wake()

    def _set(self, notification: Notification | None) -> None:
        # What others have read may be older than this one; but a response that is known is final.
        if self._notification is None or (
            notification is not None and not self._notification.is_final
        ):
            self._notification = notification

    def wake(self) -> None:
        """Wake the waiter for what it expects."""
        with suppress(RuntimeError):  # It is awake already.
            self._silence.release()

    def wait_until_notified(self, seconds: float) -> bool:
        """Sleep until a notification arrives, and return whether one did."""
        if not self._silence.acquire(timeout=max(0.0, seconds)):
            return False
        self.wake_next()
        return True

    def wait(self, seconds: float) -> CompletedRecord | None:
        """Sleep until a notification arrives.

        :returns: the completed record; None when the time is over, or to contend for the key.
        :raises RecordUnreadable: when the record has damaged bytes.
        """
        if not self.wait_until_notified(seconds):
            return None
        notification, self._notification = self._notification, None
        record = notification.record() if notification is not None else None
        return record if isinstance(record, CompletedRecord) else None

    def wake_next(self) -> None:
        """Wake one more waiter, once for each notification."""
        asleep = self._asleep
        if asleep is not self._passed_on:
            self._passed_on = asleep
            _wake_first(asleep)


def _wake_first(asleep: deque[Waiter]) -> None:
    with suppress(IndexError):
        asleep.popleft().wake()


class WaiterQueue:
    """The waiters of one key in this process, in the order in which they came.

    It is used under a lock. The first waiter is the leader: it polls the store, and the others rely
    on it. When it leaves, the next one that has enough time becomes the leader and polls at once.
    """

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}
        self._has_leader = False

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def join(self) -> Waiter:
        """Add a waiter and return it."""
        waiter = Waiter(is_leader=not self._has_leader)
        self._has_leader = True
        self._waiters[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter."""
        del self._waiters[waiter]
        waiter.wake_next()
        if waiter.is_leader:
            successor = next((other for other in self._waiters if other.may_poll), None)
            self._has_leader = successor is not None
            if successor is not None:
                successor.is_leader = True
                successor.wake()

    def notify(self, notification: Notification | None = None) -> None:
        """Wake all of them, with a notification or to contend for the key."""
        self._notify(self._waiters, notification)

    def wake_to_poll(self) -> None:
        """Wake those that have time to poll, because they may have missed a message."""
        self._notify([waiter for waiter in self._waiters if waiter.may_poll])

    def _notify(self, waiters: Iterable[Waiter], notification: Notification | None = None) -> None:
        asleep = deque(waiters)
        for waiter in waiters:
            waiter.expect(notification, asleep)
        for _ in range(_WOKEN_AT_ONCE):
            _wake_first(asleep)
