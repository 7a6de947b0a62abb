"""Bells: waking the requests of this process that wait for a key.

A thousand threads that wake at the same moment all want Python's one lock, and get less done
than one after the other. So a ring wakes a few, and each of these wakes one more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from flask_idempotent.errors import RecordUnreadable, StoreError
from flask_idempotent.records import CompletedRecord, Record

#: How many of a key's waiters a ring wakes itself.
_AT_ONCE = 2


class News:
    """A reason to look at a record, which is read once for all whom it wakes.

    :param read: reads the record; None when there is none.
    """

    def __init__(self, read: Callable[[], Record | None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._done = False
        self._record: Record | None = None
        self._failure: RecordUnreadable | None = None

    @classmethod
    def of(cls, record: CompletedRecord) -> News:
        """Make news of a record that this process itself has just stored."""
        news = cls(lambda: record)
        news.record()
        return news

    @property
    def stands(self) -> bool:
        """Whether the response is known, so that nothing newer need be read."""
        return self._done and isinstance(self._record, CompletedRecord)

    def record(self) -> Record | None:
        """The record, or None when it must be asked for with another claim.

        :raises RecordUnreadable: when the store has damaged bytes.
        """
        with self._lock:
            if not self._done:
                try:
                    self._record = self._read()
                except StoreError:
                    self._record = None
                except RecordUnreadable as error:
                    self._failure = error
                self._done = True
        if self._failure is not None:
            raise self._failure
        return self._record


class Bell:
    """Wakes one waiter.

    :param leads: whether this waiter looks for all who wait here; see ``Bells``.
    """

    def __init__(self, *, leads: bool = True) -> None:
        self.leads = leads
        #: Monotonic time after which its waiter asks the store no more of its own accord: a silent
        #: one would be known to be silent too late.
        self.looks_until = float("inf")
        #: Whether it does not hear everything yet; it rings when it does.
        self.unsure = False
        # Held until the bell rings; an event would take ten times as long.
        self._silence = threading.Lock()
        self._silence.acquire()
        self._news: News | None = None
        #: Those whom the last ring has not woken yet, and those of whom this one has woken one.
        self._asleep: deque[Bell] = deque()
        self._passed_on = self._asleep

    @property
    def may_look(self) -> bool:
        """Whether its waiter has the time for a look at a store that may be silent."""
        return time.monotonic() < self.looks_until

    @property
    def rung(self) -> bool:
        """Whether it rings, and nobody has heard it yet."""
        return not self._silence.locked()

    def expect(self, news: News | None, asleep: deque[Bell]) -> None:
        """Have the waiter, once it wakes, read the news and wake one more."""
        self._note(news)
        self._asleep = asleep

    def ring(self, news: News | None = None) -> None:
        """Wake this waiter alone, with news or to claim again."""
        self._note(news)
        self.wake()

    def _note(self, news: News | None) -> None:
        # What others have read may be older than this; but a response that is known stands.
        if self._news is None or (news is not None and not self._news.stands):
            self._news = news

    def wake(self) -> None:
        """Wake the waiter for what it expects."""
        with suppress(RuntimeError):  # It rings already.
            self._silence.release()

    def heard(self, seconds: float) -> bool:
        """Sleep until the bell rings, and say whether it did."""
        if not self._silence.acquire(timeout=max(0.0, seconds)):
            return False
        self.pass_on()
        return True

    def wait(self, seconds: float) -> CompletedRecord | None:
        """Sleep until the bell rings.

        :returns: the completed record; None when the time is over, or to claim again.
        :raises RecordUnreadable: when the store has damaged bytes.
        """
        if not self.heard(seconds):
            return None
        news, self._news = self._news, None
        record = news.record() if news is not None else None
        return record if isinstance(record, CompletedRecord) else None

    def pass_on(self) -> None:
        """Wake one more, once for each ring."""
        asleep = self._asleep
        if asleep is not self._passed_on:
            self._passed_on = asleep
            wake_next(asleep)


def wake_next(asleep: deque[Bell]) -> None:
    with suppress(IndexError):
        asleep.popleft().wake()


class Bells:
    """The waiters of one key in this process, in the order of their coming; used under a lock.

    The first leads: it polls the store, and the others rely on it. When it leaves, whatever its
    reason, the next one that has the time leads, and begins by looking.
    """

    def __init__(self) -> None:
        self._bells: dict[Bell, None] = {}
        self._led = False

    def __len__(self) -> int:
        return len(self._bells)

    def __iter__(self) -> Iterator[Bell]:
        return iter(self._bells)

    def join(self) -> Bell:
        """Get a bell."""
        bell = Bell(leads=not self._led)
        self._led = True
        self._bells[bell] = None
        return bell

    def leave(self, bell: Bell) -> None:
        """Give a bell back."""
        del self._bells[bell]
        bell.pass_on()
        if bell.leads:
            following = next((other for other in self._bells if other.may_look), None)
            self._led = following is not None
            if following is not None:
                following.leads = True
                following.wake()

    def ring(self, news: News | None = None) -> None:
        """Wake all of them, with news or to claim again."""
        self._ring(self._bells, news)

    def doubt(self) -> None:
        """Wake those that have the time to look: they may have missed a message."""
        self._ring([bell for bell in self._bells if bell.may_look])

    def _ring(self, bells: Iterable[Bell], news: News | None = None) -> None:
        asleep = deque(bells)
        for bell in bells:
            bell.expect(news, asleep)
        for _ in range(_AT_ONCE):
            wake_next(asleep)
