"""The command ``watch``: what happens to records, as far as the store shows it.

Replays and refusals change no record, so no store can show them: signals and metrics do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import words
from flask_idempotent.cli.group import as_json, this_prefix, this_store
from flask_idempotent.errors import StoreError
from flask_idempotent.records import Answered, InProgress
from flask_idempotent.stores.base import Sight, Store

Event = tuple[str, Sight]


@click.command()
@click.option(
    "--every",
    type=words.duration,
    default="1s",
    show_default=True,
    help="Time from one look to the next.",
)
@click.option("--for", "patience", type=words.duration, help="End after this time.")
@as_json
@with_appcontext
def watch(every: float, patience: float | None, as_json: bool) -> None:
    """Write a line for each change of a record.

    Claims, waiters, take-overs, completions and releases change a record; replays and refusals
    do not, and are not seen. What comes and goes between two looks is not seen either.
    """
    lookout = Lookout(this_store(), this_prefix())
    until = None if patience is None else time.monotonic() + patience
    try:
        while True:
            began = time.monotonic()
            _look(lookout, as_json)
            now = time.monotonic()
            # A look at a large server takes its time; it is not to be kept busy.
            pause = max(every, now - began)
            if until is not None and now + pause > until:
                return
            time.sleep(pause)
    except KeyboardInterrupt:
        return


def _look(lookout: Lookout, as_json: bool) -> None:
    try:
        for event, sight in lookout.look():
            _write(event, sight, as_json)
    except StoreError as error:
        # It may be back at the next look, which is what a watcher waits for.
        click.echo(f"the store failed: {error}", err=True)


def _write(event: str, sight: Sight, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"time": time.time(), "event": event, **words.as_dict(sight)}))
    else:
        clock = time.strftime("%H:%M:%S")
        click.echo(f"{clock}  {event:11}  {sight.key}  {_details(event, sight)}".rstrip())


def _details(event: str, sight: Sight) -> str:
    match sight.record:
        case Answered() as record:
            return f"status {record.code}"
        case InProgress() as record:
            if event == "waited for":
                return f"by {words.waiters(sight)}"
            since = f", began {words.span(words.age(sight) or 0)} ago"
            return f"{words.owner(record)}, attempt {record.attempt}{since}"
    return ""


@dataclass(slots=True)
class Lookout:
    """Tells what has changed from one look to the next.

    :param store: the store.
    :param prefix: what the names of its records begin with.
    """

    store: Store
    prefix: str
    _seen: dict[str, tuple[Sight, float]] = field(default_factory=dict)
    _first: bool = True

    def look(self) -> Iterator[Event]:
        """Look once; the first look tells what is in progress."""
        names = set(self.store.scan(self.prefix))
        now = time.monotonic()
        for name in self._seen.keys() - names:
            sight, _ = self._seen.pop(name)
            if isinstance(sight.record, InProgress):
                yield "released", sight
        for sight in self.store.inspect([name for name in names if not self._settled(name, now)]):
            before = self._seen.get(sight.key)
            self._seen[sight.key] = sight, now
            yield from ((event, sight) for event in self._events(before and before[0], sight))
        self._first = False

    def _settled(self, name: str, now: float) -> bool:
        # A completed record stays as it is until its life is over.
        sight, at = self._seen.get(name, (None, 0.0))
        if sight is None or not isinstance(sight.record, Answered):
            return False
        return now < at + sight.life / 1000

    def _events(self, before: Sight | None, now: Sight) -> Iterator[str]:
        old, new = None if before is None else before.record, now.record
        if isinstance(new, Answered):
            if not self._first and old != new:
                yield "completed"
        elif isinstance(new, InProgress):
            yield from self._claims(old, new)
            if now.waiters and now.waiters != (before.waiters if before else 0):
                yield "waited for"
            if now.lapsed and not (before and before.lapsed):
                yield "lapsed"
        elif before is None or old is not None:
            yield "unreadable"

    def _claims(self, old: InProgress | Answered | None, new: InProgress) -> Iterator[str]:
        if not isinstance(old, InProgress):
            yield "in progress" if self._first else "claimed"
        elif old.owner != new.owner:
            yield "taken over" if new.attempt > old.attempt else "claimed"
