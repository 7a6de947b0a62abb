"""The lookout: what happens to records, told once, from events and from looking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flask_idempotent.records import Answered, InProgress
from flask_idempotent.stores.base import Sight, Store
from flask_idempotent.stores.events import Event, Kind


@dataclass(frozen=True, slots=True)
class Line:
    """Something to tell.

    :param event: what happened, in a word or two.
    :param key: name of the record.
    :param by: the owner, or the request that asked.
    :param answer: the response, without headers and body.
    :param woken: how many processes were woken; None where nobody could be.
    :param waiters: how many processes wait; None when that was not looked for.
    """

    event: str
    key: str
    by: InProgress | None = None
    answer: Answered | None = None
    woken: int | None = None
    waiters: int | None = None


@dataclass(slots=True)
class _Run:
    """A run that is in progress, as far as is known.

    :param record: its record; None when only its duplicates were heard of.
    :param lapsed: whether its lease was over at the last look.
    :param asked: the owner tokens of the duplicates that were told of.
    :param doubted: whether the last look found something else, of which no event has told yet.
    """

    record: InProgress | None = None
    lapsed: bool = False
    asked: set[bytes] = field(default_factory=set)
    doubted: bool = False


@dataclass(slots=True)
class Lookout:
    """Tells what happens to the records of a prefix.

    :param store: the store.
    :param prefix: what the names of its records begin with.
    """

    store: Store
    prefix: str
    _runs: dict[str, _Run] = field(default_factory=dict)

    def begin(self) -> Iterator[Line]:
        """Look at every record, and tell what is in progress and not known."""
        for sight in self.store.inspect(set(self.store.scan(self.prefix))):
            record = sight.record
            if record is None:
                yield Line("unreadable", sight.key)
            elif isinstance(record, InProgress) and sight.key not in self._runs:
                run = self._runs[sight.key] = _Run(record)
                yield Line("in progress", sight.key, record, waiters=sight.waiters)
                yield from self._lease(run, sight)

    def hear(self, event: Event) -> Iterator[Line]:
        """Tell of an event, unless it is known already."""
        key, kind, by = event.key, event.kind, event.by
        line = Line(str(kind), key, by, event.answer)
        match kind:
            case Kind.CLAIMED | Kind.TAKEN_OVER:
                if self._is_news(key, by):
                    self._runs[key] = _Run(by)
                    yield line
            case Kind.BUSY:
                if self._is_another(key, by):
                    yield line
            case Kind.COMPLETED | Kind.RELEASED | Kind.DELETED:
                run = self._runs.pop(key, None)
                owner = None if run is None else run.record
                yield Line(str(kind), key, owner, event.answer, event.woken)
            case _:
                yield line

    def _is_news(self, key: str, by: InProgress | None) -> bool:
        # The first look may have been quicker than the event.
        run = self._runs.get(key)
        known = None if run is None else run.record
        return known is None or by is None or known.owner != by.owner

    def _is_another(self, key: str, by: InProgress | None) -> bool:
        # A waiter asks again and again, with the same token.
        run = self._runs.setdefault(key, _Run())
        token = b"" if by is None else by.owner
        known = token in run.asked
        run.asked.add(token)
        return not known

    def look(self) -> Iterator[Line]:
        """Look at what is in progress, and tell what no event tells."""
        seen = {sight.key: sight for sight in self.store.inspect(list(self._runs))}
        for key, run in list(self._runs.items()):
            yield from self._compare(key, run, seen.get(key))

    def _compare(self, key: str, run: _Run, sight: Sight | None) -> Iterator[Line]:
        found = None if sight is None else sight.record
        if sight is not None and isinstance(found, InProgress) and _is_same(run, found):
            run.record, run.doubted = found, False
            yield from self._lease(run, sight)
        elif not run.doubted:
            run.doubted = True  # Its event may be on its way.
        else:
            del self._runs[key]
            yield from self._missed(key, run, sight)

    def _lease(self, run: _Run, sight: Sight) -> Iterator[Line]:
        if sight.lapsed and not run.lapsed:
            yield Line("lapsed", sight.key, run.record, waiters=sight.waiters)
        run.lapsed = sight.lapsed

    def _missed(self, key: str, run: _Run, sight: Sight | None) -> Iterator[Line]:
        # Events are lost while the store is away, and where the server's user may not tell them.
        if sight is None:
            yield Line("gone", key, run.record)
        elif isinstance(sight.record, InProgress):
            self._runs[key] = _Run(sight.record)
            yield Line("taken over" if sight.record.attempt > 1 else "claimed", key, sight.record)
        elif isinstance(sight.record, Answered):
            yield Line("completed", key, run.record, sight.record)
        else:
            yield Line("unreadable", key)


def _is_same(run: _Run, found: InProgress) -> bool:
    return run.record is None or run.record.owner == found.owner
