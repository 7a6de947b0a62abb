"""Commands that look: ``show``, ``list`` and ``stats``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import (
    Refused,
    as_json,
    progress,
    this_app,
    this_prefix,
    this_store,
)
from flask_idempotent.cli.record_argument import Named, names_a_record
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import (
    CompletedRecord,
    CompletedSummary,
    ReleasedRecord,
    RunningRecord,
)
from flask_idempotent.stores.base import InspectableStore, Sight
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask


@click.command()
@names_a_record
@click.option("--body", "only_body", is_flag=True, help="Write the stored body, and nothing else.")
@as_json
def show(named: Named, only_body: bool, as_json: bool) -> None:
    """Show what is stored for a client's KEY.

    Without --scope, --header, --user and --user-id it is looked for in the anonymous scope.
    """
    if only_body and as_json:
        raise click.UsageError("Leave out --json: --body writes the body as it is.")
    store = this_store()
    sight, completed = look(store, named)
    if only_body:
        write_body(sight, completed)
    elif as_json:
        formatting.write_json(formatting.as_dict(sight) | _response_as_dict(completed))
    else:
        formatting.write_pairs([*_record(sight), *_response(completed), *_rest(sight)])


def look(store: InspectableStore, named: Named) -> tuple[Sight, CompletedRecord | None]:
    """Find a record, with its response where it is completed.

    :raises Refused: when there is none.
    """
    for sight in store.inspect([named.storage_key]):
        if not isinstance(sight.record, CompletedSummary):
            return sight, None
        try:
            record = store.read(named.storage_key)
        except RecordUnreadable:
            return replace(sight, record=None), None
        if isinstance(record, CompletedRecord):
            return sight, record
    raise Refused(named.missing)


def _record(sight: Sight) -> Iterator[tuple[str, str]]:
    record = sight.record
    yield "Record", sight.key
    if record is None:
        yield "State", "unreadable: requests with this key get 503"
        return
    yield "State", f"{formatting.state(sight)}, attempt {record.attempt}"
    yield "Request", formatting.request(record)
    if isinstance(record, ReleasedRecord):
        yield "Last owner", formatting.owner(record)
        yield "Began", formatting.ago(sight)
    elif isinstance(record, RunningRecord):
        yield "Owner", formatting.owner(record)
        yield "Began", formatting.ago(sight)
        yield "Lease", formatting.lease(sight) + (_LAPSED if sight.lapsed else "")
        yield "Waiters", formatting.waiters(sight)
    else:
        yield "Answered", formatting.ago(sight)


def write_body(sight: Sight, completed: CompletedRecord | None) -> None:
    """Write a stored body: to a terminal only as text, and none that commands it.

    :raises Refused: when there is none, or it is no text.
    """
    if completed is None or completed.body is None:
        raise Refused(f"{sight.key} has no body: it is {formatting.state(sight)}, or was not kept.")
    try:
        body = completed.whole_body(_max_body(completed))
    except RecordUnreadable as error:
        raise Refused(f"{sight.key} has a body that no request gets: {error}.") from None
    if not sys.stdout.isatty():
        click.echo(body, nl=False)
        return
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError:
        kind = dict(completed.headers).get("Content-Type", "no text")
        octets = formatting.size(len(body))
        raise Refused(f"The body is {kind}, {octets}. Send it to a file: ... > body") from None
    for line in lines:
        click.echo(printable(line))


def _max_body(completed: CompletedRecord) -> int:
    protections = state_of(this_app()).protections
    try:
        return protections.of(completed.endpoint, completed.method).settings.max_body
    except KeyError:
        return protections.settings().max_body


def _response(completed: CompletedRecord | None) -> Iterator[tuple[str, str]]:
    if completed is None:
        return
    yield "Status", str(completed.status)
    for name, value in completed.headers:
        yield "Header", f"{name}: {value}"
    kept = completed.body is not None
    yield "Body", formatting.size(completed.body_size) if kept else _NOT_KEPT


def _rest(sight: Sight) -> Iterator[tuple[str, str]]:
    yield "Kept for", formatting.life(sight)
    yield "Size", formatting.size(sight.octets)


def _response_as_dict(completed: CompletedRecord | None) -> dict[str, object]:
    if completed is None:
        return {"headers": None, "body_kept": None, "body_octets": None}
    return {
        "headers": completed.headers,
        "body_kept": completed.body is not None,
        "body_octets": completed.body_size,
    }


@click.command("list")
@click.option("--in-progress", is_flag=True, help="Only what has not been answered.")
@click.option("--older", type=formatting.duration, help="Only what is older, say 30s, 5m or 2h.")
@click.option("--route", help="Only of one route: its endpoint, or its path as it is registered.")
@as_json
@with_appcontext
def list_records(in_progress: bool, older: float | None, route: str | None, as_json: bool) -> None:
    """List records, the oldest first."""
    endpoints = None if route is None else _endpoints(this_app(), route)
    store = this_store()
    with progress(store.inspect(store.scan(this_prefix())), "Looking") as sights:
        found = [
            sight
            for sight in sights
            if (isinstance(sight.record, RunningRecord) or not in_progress)
            and formatting.is_older(sight, older)
            and (endpoints is None or (sight.record and sight.record.endpoint in endpoints))
        ]
    # SCAN may name a record twice.
    unique = {sight.key: sight for sight in found}
    ordered = sorted(unique.values(), key=lambda sight: -(formatting.age(sight) or 0))
    if as_json:
        formatting.write_json([formatting.as_dict(sight) for sight in ordered])
    elif ordered:
        formatting.write_table(_COLUMNS, map(_row, ordered))
    else:
        click.echo("There are no such records.")


def _endpoints(app: Flask, route: str) -> set[str]:
    rules = app.url_map.iter_rules()
    found = {rule.endpoint for rule in rules if route in (rule.rule, rule.endpoint)}
    if not found:
        raise click.BadParameter(
            f"{route!r} is neither an endpoint nor the path of a route. Say it as flask routes "
            "does, such as /orders/<int:number>.",
            param_hint="--route",
        )
    return found


def _row(sight: Sight) -> tuple[str, ...]:
    record, age = sight.record, formatting.age(sight)
    who = "-"
    if isinstance(record, RunningRecord | ReleasedRecord):
        who = formatting.owner(record)
    elif record is not None:
        who = f"status {record.status_code}"
    return (
        sight.key,
        formatting.state(sight),
        formatting.request(record),
        "-" if age is None else formatting.span(age),
        formatting.moment(formatting.since(sight)) or "-",
        formatting.lease(sight),
        formatting.waiters(sight) if isinstance(record, RunningRecord) else "-",
        formatting.life(sight),
        who,
    )


@click.command()
@as_json
@with_appcontext
def stats(as_json: bool) -> None:
    """Count records by state."""
    store = this_store()
    with progress(store.inspect(set(store.scan(this_prefix()))), "Counting") as sights:
        found = _counted(sights)
    if as_json:
        formatting.write_json(found)
    else:
        formatting.write_pairs(_statistics(found))


def _counted(sights: Iterable[Sight]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    found |= {"oldest_in_progress": None, "oldest_completed": None, "oldest_released": None}
    for sight in sights:
        state = formatting.state(sight).replace(" ", "_")
        found["records"] += 1
        found["octets"] += sight.octets
        found[state] += 1
        found["lapsed"] += sight.lapsed
        found["waited_for"] += bool(sight.waiters)
        age = formatting.age(sight)
        if age is not None:
            found[f"oldest_{state}"] = max(found[f"oldest_{state}"] or 0, age)
    return found


def _statistics(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def aged(state: str) -> str:
        oldest = found[f"oldest_{state}"]
        return f"{found[state]}" + (f", the oldest {formatting.span(oldest)} old" if oldest else "")

    yield "Records", f"{found['records']}, {formatting.size(found['octets'])}"
    yield "In progress", aged("in_progress")
    yield "  lapsed", str(found["lapsed"])
    yield "  waited for", str(found["waited_for"])
    yield "Completed", aged("completed")
    yield "Released", aged("released")
    yield "Unreadable", str(found["unreadable"])


_COUNTS = (
    "records", "octets", "in_progress", "lapsed", "waited_for", "completed", "released",
    "unreadable",
)  # fmt: skip
_COLUMNS = (
    "RECORD", "STATE", "REQUEST", "AGE", "SINCE", "LEASE", "WAITERS", "KEPT FOR", "OWNER OR ANSWER",
)  # fmt: skip
_NOT_KEPT = 'not kept: a retry gets 409 "response-not-kept"'
_LAPSED = (
    ': its owner died or stands still. With on_crash="rerun" the next request runs; with '
    '"hold" it gets 409 until this record is released'
)
