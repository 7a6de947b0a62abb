"""The command ``watch``: a line for each change of a record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import click
from flask.cli import with_appcontext

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.options import duration_option, json_option, this_prefix, this_store
from flask_idempotent.cli.poller import Change, RecordPoller
from flask_idempotent.errors import StoreError


@click.command("watch")
@duration_option(
    "--every", default="1s", show_default=True, help="Time between two reads of the records."
)
@duration_option("--for", "seconds", help="End after this time.")
@json_option
@with_appcontext
def watch_command(every: float, seconds: float | None, as_json: bool) -> None:
    """Write a line for each change of a record.

    First, which records are in progress or held at a step. Then, what has changed since the last
    read: claimed, taken over, waiting, lapsed, completed, released or gone.
    """
    poller = RecordPoller(this_store(), this_prefix())
    try:
        for change in follow(poller, every, math.inf if seconds is None else seconds):
            _write(change, as_json)
    except KeyboardInterrupt:
        return


#: Seconds from one poll to the next at least.
_SHORTEST = 0.01


def follow(poller: RecordPoller, every: float, seconds: float) -> Iterator[Change]:
    """Poll repeatedly; report once that the store fails, and once that it is back.

    :param every: seconds between two polls. The pause is as long as a poll where that is longer,
        so that a store with many records is polled at most half of the time.
    :param seconds: when to end, with a last poll.
    :raises StoreError: when the first poll fails.
    """
    began = time.monotonic()
    end = began + seconds
    yield from poller.poll()
    failing = False
    while (now := time.monotonic()) < end:
        pause = max(every, now - began, _SHORTEST)
        time.sleep(min(pause, end - now))
        began = time.monotonic()
        try:
            changes = poller.poll()
        except StoreError as error:
            if not failing:
                reason = printable(error).rstrip(".")
                click.echo(f"The store failed: {reason}. Trying again until it is back.", err=True)
            failing = True
            continue
        if failing:
            click.echo("The store is back.", err=True)
        failing = False
        yield from changes


def _write(change: Change, as_json: bool) -> None:
    if as_json:
        click.echo(formatting.json_text(_as_dict(change)))
    else:
        at, details = formatting.timestamp(time.time()), ", ".join(_details(change))
        text = f"{at}  {change.event:11}  {change.storage_key}  {details}"
        click.echo(printable(text.rstrip()))


def _as_dict(change: Change) -> dict[str, Any]:
    run, response = change.run, change.response
    record = response or run
    return {
        "time": time.time(),
        "at": formatting.timestamp(time.time()),
        "event": change.event,
        "storage_key": change.storage_key,
        "method": record and record.method,
        "endpoint": record and record.endpoint,
        "attempt": record and record.attempt,
        "host": run and run.host,
        "pid": run and run.pid,
        "age": _age(change),
        "status": response and response.status_code,
        "waiters": change.waiters,
        "open_steps": change.open_steps,
    }


def _details(change: Change) -> Iterator[str]:
    run, response = change.run, change.response
    record = response or run
    if record is not None and record.endpoint:
        yield record_fields.request(record)
    if response is not None:
        yield f"status {response.status_code}"
    if run is not None:
        yield record_fields.owner(run)
    if record is not None and record.attempt > 1:
        yield f"attempt {record.attempt}"
    if change.open_steps:
        yield f"held at {', '.join(change.open_steps)}"
    age = _age(change)
    if age is not None and change.event not in _BEGINNINGS:
        span = formatting.duration(age)
        yield f"after {span}" if response else f"started {span} ago"
    if change.waiters:
        yield f"{formatting.quantity(change.waiters, 'process', 'es')} waiting"


def _age(change: Change) -> float | None:
    """Seconds from the beginning of a run to its response, or until now."""
    if change.run is None:
        return None
    end = time.time() if change.response is None else change.response.time
    return max(0.0, end - change.run.started)


#: Events at the beginning of a run, whose age would be 0.
_BEGINNINGS = frozenset({"claimed", "taken over"})
