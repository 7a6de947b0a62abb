"""The command ``resolve``: answer for an owner that died, or let the view run again."""

from __future__ import annotations

import click

from flask_idempotent import signals
from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.answers import has_answer
from flask_idempotent.cli.options import (
    Refused,
    confirm,
    json_option,
    this_app,
    this_store,
    yes_option,
)
from flask_idempotent.cli.record_argument import (
    RecordRef,
    find_record,
    record_argument,
    settings_of,
)
from flask_idempotent.cli.release import condition_of, free
from flask_idempotent.cli.resolution import Resolution, answer_for, parse_resolution
from flask_idempotent.cli.steps import what_runs
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore


@click.command("resolve")
@record_argument
@click.option("--status", type=int, help="Answer with this status code.")
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="A header of the answer, such as 'Location: /orders/7'.",
)
@click.option("--body", metavar="TEXT|@FILE|-", help="The answer's body; - reads standard input.")
@click.option("--rerun", is_flag=True, help="Give no answer: the next request runs the view.")
@click.option(
    "--even", type=click.Choice(["running"]), help="Do it although the claim's lease is running."
)
@yes_option
@json_option
def resolve_command(
    ref: RecordRef,
    status: int | None,
    headers: tuple[str, ...],
    body: str | None,
    rerun: bool,
    even: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Answer for the owner of a KEY who died.

    The answer is what each request with the key gets from now on. It is kept as long as another
    response, or as the key would have been held. Waiters are woken, and what the owner answers
    if it is alive is refused.
    """
    if rerun == (status is not None):
        raise click.UsageError("Give either --status, such as --status 201, or --rerun.")
    if body == "-" and not yes:
        raise click.UsageError("The standard input is the body, so add --yes: nobody can be asked.")
    resolution = parse_resolution(status, headers, body)
    app, store = this_app(), this_store()
    info = find_record(store, ref)[0]
    record = _dead_owner(info, even_running=even is not None)
    if has_answer(app, ref.storage_key):
        raise Refused(_COMMITTED)
    confirm(_question(store, info, record, resolution), yes=yes)
    settings = settings_of(app, record)
    if resolution is None:
        is_done = free(store, info, settings.engine)
    else:
        is_done = answer_for(store, info, record, settings, resolution, even_running=bool(even))
    if not is_done:
        raise Refused(f"{ref.storage_key} was not resolved: it has changed since it was read.")
    signals.send(signals.resolved, app, storage_key=ref.storage_key, status=status)
    if as_json:
        formatting.write_json({"storage_key": ref.storage_key, "status": status})
    else:
        click.echo(printable(f"Resolved {ref.storage_key}."))


def _dead_owner(info: RecordInfo, *, even_running: bool) -> RunningRecord | ReleasedRecord:
    condition = condition_of(info)
    if isinstance(info.record, RunningRecord) and (info.is_resolvable or even_running):
        return info.record
    if isinstance(info.record, ReleasedRecord) and info.is_resolvable:
        return info.record
    owner = record_fields.owner(info.record) if isinstance(info.record, RunningRecord) else ""
    raise Refused(_REFUSALS[condition].format(lease=record_fields.lease(info), owner=owner))


def _question(
    store: InspectableStore,
    info: RecordInfo,
    record: RunningRecord | ReleasedRecord,
    resolution: Resolution | None,
) -> str:
    lines = [
        f"{info.storage_key} is {record_fields.request(record)}, attempt {record.attempt}, by "
        f"{record_fields.owner(record)}, and began {record_fields.ago(info)}. "
        + _STATES[condition_of(info)]
    ]
    if info.open_steps:
        lines.append(f"It began {' and '.join(info.open_steps)}, which may have been carried out.")
    offer = _offer(store, info.storage_key)
    if offer is not None:
        lines.append(_OFFER.format(offer.status, "" if resolution else _OFFER_STANDS))
    if resolution is None:
        lines.append(f"{what_runs(info)} Free it?")
    else:
        lines.append(f"Answer its requests with {resolution.description}?")
    return " ".join(lines)


def _offer(store: InspectableStore, storage_key: str) -> CompletedRecord | None:
    try:
        return store.read_offer(storage_key)
    except RecordUnreadable:
        return None


_STATES = {
    "lapsed": "Its lease has lapsed.",
    "running": "Its lease is running.",
    "held": "It was released, and the key is held at a step.",
}
_OFFER = "An earlier owner was late and has left its response, with status {}.{}"
_OFFER_STANDS = " That response takes the claim's place, and nothing runs again."
_COMMITTED = (
    "The view has committed: its database has the answer, and the next request with the key gets "
    "it. There is nothing to resolve."
)
_REFUSALS = {
    "running": (
        "The claim's lease has {lease}: {owner}, renews it and probably runs the view. End that "
        "process, or wait for its answer. To answer for it anyway, add --even running."
    ),
    "completed": "The view has run, and its response is replayed. There is nothing to resolve.",
    "released": "The key is free already: the next request runs the view.",
    "unreadable": (
        "The record cannot be read, so it is not known which request it is for. To free the key, "
        "use release --even unreadable."
    ),
}
