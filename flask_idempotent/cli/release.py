"""The command ``release``: free a key."""

from __future__ import annotations

import click

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.answers import delete_answers, has_answer
from flask_idempotent.cli.options import (
    Refused,
    confirm,
    json_option,
    this_app,
    this_store,
    yes_option,
)
from flask_idempotent.cli.record_argument import RecordRef, find_record, record_argument
from flask_idempotent.cli.steps import what_runs
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore


@click.command("release")
@record_argument
@click.option(
    "--even",
    type=click.Choice(["running", "completed", "unreadable"]),
    multiple=True,
    help="Release it although its lease is running, it is completed, or it cannot be read.",
)
@yes_option
@json_option
def release_command(ref: RecordRef, even: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Free a KEY whose owner died.

    Waiters are woken, and the next request with the key runs its view. The view gets the results of
    its recorded steps; a step that is open runs again. With --even completed, the answer that the
    database of the view's transaction keeps is deleted too.
    """
    app, store = this_app(), this_store()
    info, is_committed = _find(store, ref), has_answer(app, ref.storage_key)
    if info is None and not is_committed:
        raise Refused(ref.not_found)
    condition = _condition(info, is_committed)
    if condition not in ("lapsed", "held", *even):
        raise Refused(_refusal(condition, info))
    consequence = what_runs(info)
    confirm(f"{ref.storage_key} is {_DESCRIPTIONS[condition]} {consequence} Release it?", yes=yes)
    if is_committed and "completed" in even:
        # Before the record: a request in between gets it, and puts nothing back.
        delete_answers(app, [ref.storage_key])
    if info is not None and not free(store, info, ref.settings):
        raise Refused(f"{ref.storage_key} was not released: it has changed since it was read.")
    if as_json:
        formatting.write_json({"storage_key": ref.storage_key, "was": condition})
    else:
        click.echo(printable(f"Released {ref.storage_key}."))


def _find(store: InspectableStore, ref: RecordRef) -> RecordInfo | None:
    try:
        return find_record(store, ref)[0]
    except Refused:
        return None


def _condition(info: RecordInfo | None, is_committed: bool) -> str:
    """The condition of a key; completed if its database says so, whatever the store has lost."""
    condition = "completed" if info is None else condition_of(info)
    is_free = condition in ("lapsed", "held", "released")
    return "completed" if is_committed and is_free else condition


def _refusal(condition: str, info: RecordInfo | None) -> str:
    if info is None:
        return _REFUSALS[condition]
    owner = record_fields.owner(info.record) if isinstance(info.record, RunningRecord) else ""
    return _REFUSALS[condition].format(lease=record_fields.lease(info), owner=owner)


def condition_of(info: RecordInfo) -> str:
    """The condition of a record: running, lapsed, held, completed, released or unreadable.

    A released record is held where a step is open.
    """
    if isinstance(info.record, RunningRecord):
        return "lapsed" if info.lease_lapsed else "running"
    if isinstance(info.record, ReleasedRecord):
        return "held" if info.is_resolvable else "released"
    return "unreadable" if info.record is None else "completed"


def free(store: InspectableStore, info: RecordInfo, settings: EngineSettings) -> bool:
    """Release a claim, or close the open steps of a tombstone, or delete any other record.

    A tombstone without open steps stays: it blocks nothing. Nothing happens to a record that has
    changed since it was read.

    :param settings: the settings of its view, for the tombstone that a claim leaves.
    :returns: whether it was released or deleted.
    """
    if isinstance(info.record, ReleasedRecord) and not info.open_steps:
        return True
    if isinstance(info.record, RunningRecord | ReleasedRecord):
        # Deleting it is not enough: an owner that is alive would put it back when it renews.
        return store.release(
            info.storage_key,
            info.record.owner,
            response_ttl_ms=settings.expire_ms,
            tombstone_ttl_ms=settings.tombstone_ttl_ms,
            owner_may_run=True,
        )
    return store.discard([info]) > 0


_DESCRIPTIONS = {
    "lapsed": "in progress, and its lease has lapsed.",
    "held": "released, but held at a step that began and is not known to have ended.",
    "running": "in progress, and its lease is running: the view may run twice at the same time.",
    "completed": "completed: its view has run.",
    "unreadable": "unreadable: its view may have run.",
}
_REFUSALS = {
    "released": (
        "The key is free already. What is left of an earlier claim blocks nothing and expires by "
        "itself."
    ),
    "running": (
        "The claim's lease has {lease}: {owner}, renews it and probably runs the view. End that "
        "process, and the key is free when the lease has lapsed. To release it anyway, and "
        "perhaps run the view twice at the same time, add --even running."
    ),
    "completed": (
        "The view has run, and its response is replayed. To delete the response, so that the next "
        "request runs the view again, add --even completed."
    ),
    "unreadable": (
        "The record cannot be read, and the view may have run. To delete it, so that the next "
        "request runs the view, perhaps for the second time, add --even unreadable."
    ),
}
