"""The command ``show``: one record, with its response."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.options import Refused, json_option, this_app, this_store
from flask_idempotent.cli.record_argument import (
    RecordRef,
    find_record,
    record_argument,
    settings_of,
)
from flask_idempotent.cli.steps import step_pairs, steps_as_dicts
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo


@click.command("show")
@record_argument
@click.option("--body", "only_body", is_flag=True, help="Write the stored body and nothing else.")
@json_option
def show_command(ref: RecordRef, only_body: bool, as_json: bool) -> None:
    """Show the record of a client's KEY.

    Without --scope, --scope-header, --user or --user-id, KEY is looked up in the anonymous scope.
    """
    if only_body and as_json:
        raise click.UsageError("--body writes the body unchanged, so leave out --json.")
    store = this_store()
    info, completed = find_record(store, ref)
    if only_body:
        _write_body(info, completed)
    elif as_json:
        data = record_fields.as_dict(info) | _response_as_dict(completed)
        formatting.write_json(data | {"steps": steps_as_dicts(store, info)})
    else:
        steps = step_pairs(store, info)
        formatting.write_pairs([*_record(info), *steps, *_response(completed), *_rest(info)])


def _record(info: RecordInfo) -> Iterator[tuple[str, str]]:
    record = info.record
    yield "Record", info.storage_key
    if record is None:
        yield "State", "unreadable: requests with this key get 503"
        if info.damage:
            yield "Reason", info.damage
        return
    yield "State", f"{record_fields.state(info)}, attempt {record.attempt}"
    yield "Request", record_fields.request(record)
    if isinstance(record, ReleasedRecord):
        yield "Last owner", record_fields.owner(record)
        yield "Started", record_fields.ago(info)
        if info.is_resolvable:
            yield "Lease", record_fields.lease(info) + _consequence(info)
    elif isinstance(record, RunningRecord):
        yield "Owner", record_fields.owner(record)
        yield "Started", record_fields.ago(info)
        yield "Lease", record_fields.lease(info) + (_consequence(info) if info.lease_lapsed else "")
        yield "Waiters", record_fields.waiters(info)
    else:
        yield "Completed", record_fields.ago(info)


def _consequence(info: RecordInfo) -> str:
    return _AT_STEP if info.open_steps else _LAPSED


def _response(completed: CompletedRecord | None) -> Iterator[tuple[str, str]]:
    if completed is None:
        return
    yield "Status", str(completed.status)
    for name, value in completed.headers:
        yield "Header", f"{name}: {value}"
    is_kept = completed.body is not None
    yield "Body", formatting.size(completed.body_size) if is_kept else _NOT_KEPT


def _rest(info: RecordInfo) -> Iterator[tuple[str, str]]:
    yield "Expires", record_fields.expires(info)
    yield "Size", formatting.size(info.size)


def _response_as_dict(completed: CompletedRecord | None) -> dict[str, object]:
    if completed is None:
        return {"headers": None, "body_kept": None, "body_size": None}
    return {
        "headers": completed.headers,
        "body_kept": completed.body is not None,
        "body_size": completed.body_size,
    }


def _write_body(info: RecordInfo, completed: CompletedRecord | None) -> None:
    """Write a stored body: unchanged to a file or a program, as printable text to a terminal.

    :raises Refused: when there is no body, when it cannot be read, or when a terminal would get
        something other than text.
    """
    body = _stored_body(info, completed)
    if not sys.stdout.isatty():
        click.echo(body, nl=False)
        return
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError:
        size = formatting.size(len(body))
        raise Refused(f"The body is not text ({size}). Write it to a file: ... > body") from None
    for line in lines:
        click.echo(printable(line))


def _stored_body(info: RecordInfo, completed: CompletedRecord | None) -> bytes:
    if completed is None:
        raise Refused(f"{info.storage_key} has no response: it is {record_fields.state(info)}.")
    if completed.body is None:
        raise Refused(f"{info.storage_key} has no body: its response was not kept.")
    try:
        return completed.whole_body(settings_of(this_app(), completed).max_body)
    except RecordUnreadable as error:
        raise Refused(f"The body of {info.storage_key} cannot be read: {error}.") from None


_NOT_KEPT = 'not kept: a retry gets 409 "response-not-kept"'
_LAPSED = (
    ': its owner died or hangs. With on_crash="rerun" the next request runs the view; with '
    '"hold" it gets 409 until this record is released'
)
_AT_STEP = (
    ": it is not known whether that step was carried out. A function given as on_crash decides; "
    "without one, requests get 409 until this record is resolved"
)
