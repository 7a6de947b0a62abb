"""The command ``watch``: what happens to records, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from flask.cli import with_appcontext

from flask_idempotent._lines import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import as_json, this_prefix, this_store
from flask_idempotent.cli.poller import Line, Lookout
from flask_idempotent.errors import StoreError


@click.command()
@click.option(
    "--every",
    type=formatting.duration,
    default="1s",
    show_default=True,
    help="Time from one look at what is in progress to the next.",
)
@click.option("--for", "patience", type=formatting.duration, help="End after this time.")
@as_json
@with_appcontext
def watch(every: float, patience: float | None, as_json: bool) -> None:
    """Write a line for whatever happens to a record.

    First what is in progress; then each claim, duplicate, replay, reuse and response as it
    happens, and whatever else a look at what is in progress shows.
    """
    until = float("inf") if patience is None else time.monotonic() + patience
    watcher = Watcher(Lookout(this_store(), this_prefix()), every, until)
    try:
        for line in watcher.lines():
            _write(line, as_json)
    except KeyboardInterrupt:
        return


#: Seconds that lie between two looks at least, and between two tries to reach the store again.
_SHORTEST, _PAUSE = 0.01, 0.5


@dataclass(slots=True)
class Watcher:
    """Follows a store until its time is over.

    :param lookout: knows what has been told.
    :param every: seconds from one look to the next.
    :param until: when to end, on the monotonic clock.
    """

    lookout: Lookout
    every: float
    until: float
    _began: bool = False
    _away: bool = False

    def lines(self) -> Iterator[Line]:
        """What happens; a store that dies later than at the start is waited for.

        :raises StoreError: when the store does not do what it is asked at the start.
        """
        while True:
            try:
                yield from self._follow()
                return
            except StoreError as error:
                if not self._began:
                    raise
                self._tell_failure(error)
            pause = min(_PAUSE, self.until - time.monotonic())
            if pause <= 0:
                return
            time.sleep(pause)

    def _tell_failure(self, error: StoreError) -> None:
        if not self._away:
            reason = printable(error).rstrip(".")
            click.echo(
                f"The store failed: {reason}. Until it is back, events are missed.", err=True
            )
        self._away = True

    def _tell_return(self) -> None:
        if self._away:
            click.echo("The store is back.", err=True)
        self._away = False

    def _follow(self) -> Iterator[Line]:
        lookout = self.lookout
        with lookout.store.events(lookout.prefix) as hear:
            # Only now, so that nothing falls between the look and the first event.
            yield from lookout.begin()
            self._began = True
            self._tell_return()
            look_at = time.monotonic() + self.every
            while (now := time.monotonic()) < self.until:
                for event in hear(min(look_at, self.until) - now):
                    yield from lookout.hear(event)
                if (began := time.monotonic()) >= look_at:
                    yield from lookout.look()
                    # However short the time, the server is not to be kept busy.
                    took = time.monotonic() - began
                    look_at = time.monotonic() + max(self.every, took, _SHORTEST)


def _write(line: Line, as_json: bool) -> None:
    if as_json:
        click.echo(formatting.json_text(_as_dict(line)))
    else:
        at, details = formatting.moment(time.time()), ", ".join(_details(line))
        text = f"{at}  {line.event:11}  {line.key}  {details}"
        click.echo(printable(text.rstrip()))


def _as_dict(line: Line) -> dict[str, Any]:
    by, answer = line.by, line.answer
    known = answer or by
    return {
        "time": time.time(),
        "at": formatting.moment(time.time()),
        "event": line.event,
        "storage_key": line.key,
        "method": by and by.method,
        "endpoint": by and by.endpoint,
        "attempt": known and known.attempt,
        "host": by and by.host,
        "pid": by and by.pid,
        "age": _age(line),
        "status": answer and answer.code,
        "woken": line.woken,
        "waiters": line.waiters,
    }


def _details(line: Line) -> Iterator[str]:
    by, answer = line.by, line.answer
    if by is not None and by.endpoint:
        yield formatting.request(by)
    if answer is not None:
        yield f"status {answer.code}"
    if by is not None:
        yield formatting.owner(by) + _ASKS.get(line.event, "")
    known = answer or by
    if known is not None and known.attempt > 1:
        yield f"attempt {known.attempt}"
    age = _age(line)
    if age is not None and line.event in _WHEN:
        yield _WHEN[line.event].format(formatting.span(age))
    if line.woken:
        yield f"{formatting.counted(line.woken, 'process', 'es')} woken"
    if line.waiters:
        yield f"{formatting.counted(line.waiters, 'process', 'es')} waiting"


def _age(line: Line) -> float | None:
    """Seconds since the run began, or since a replayed response was stored."""
    since = None if line.by is None else line.by.started
    if line.event == "replayed" and line.answer is not None:
        since = line.answer.time
    return None if since is None else max(0.0, time.time() - since)


_ASKS = {
    "busy": " has a duplicate: it waits, or gets 409",
    "unknown": " has a duplicate: it gets 409, as the owner died",
    "reused": " has another request with this key: it gets 422",
    "unreadable": " has a request with this key: it gets 503",
}
_WHEN = {
    "in progress": "began {} ago",
    "lapsed": "began {} ago",
    "gone": "began {} ago",
    "completed": "after {}",
    "released": "after {}",
    "replayed": "stored {} ago",
}
