"""The command ``purge``: delete many records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.answers import delete_answers
from flask_idempotent.cli.options import (
    confirm,
    json_option,
    progress,
    this_app,
    this_prefix,
    this_store,
    yes_option,
)
from flask_idempotent.cli.release import condition_of, free
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.web.state import state_of


@click.command("purge")
@click.option(
    "--older",
    type=formatting.parse_duration,
    help="Delete records older than this, such as 30s, 5m or 2h.",
)
@click.option("--all", "everything", is_flag=True, help="Delete records of any age.")
@click.option("--even-running", is_flag=True, help="Also delete claims whose lease is running.")
@yes_option
@json_option
@with_appcontext
def purge_command(
    older: float | None, everything: bool, even_running: bool, yes: bool, as_json: bool
) -> None:
    """Delete records.

    All records with this application's prefix, except claims whose lease is running, and
    tombstones, which expire by themselves. The answers that the databases of transactions keep
    for them are deleted too. Waiters are woken.
    """
    if everything == (older is not None):
        raise click.UsageError("Give either --older, such as --older 2h, or --all.")
    store = this_store()
    selected = _select(store, this_prefix(), older)
    to_delete = [info for info in selected if even_running or condition_of(info) != "running"]
    kept_claims = len(selected) - len(to_delete)
    if to_delete:
        counts = sorted(Counter(map(condition_of, to_delete)).items())
        details = ", ".join(f"{number} {condition}" for condition, number in counts)
        records = formatting.quantity(len(to_delete), "record")
        confirm(f"This deletes {records} ({details}). {_CONSEQUENCE} Continue?", yes=yes)
    # Before the records: a request in between gets its record, and puts nothing back.
    delete_answers(this_app(), [info.storage_key for info in to_delete])
    with progress(to_delete, "Deleting", len(to_delete)) as infos:
        deleted = _delete(store, infos, state_of(this_app()).settings().engine)
    if as_json:
        formatting.write_json({"deleted": deleted, "running": kept_claims})
    else:
        click.echo(" ".join(_outcome(deleted, kept_claims)))


def _select(store: InspectableStore, prefix: str, older: float | None) -> list[RecordInfo]:
    with progress(store.inspect(store.scan(prefix)), "Reading records") as records:
        # By name, because SCAN may return one twice.
        selected = {
            info.storage_key: info
            for info in records
            if record_fields.is_older(info, older) and condition_of(info) != "released"
        }
    return list(selected.values())


def _delete(
    store: InspectableStore, records: Iterable[RecordInfo], settings: EngineSettings
) -> int:
    others, released = [], 0
    for info in records:
        if condition_of(info) == "running":
            released += free(store, info, settings)
        else:
            others.append(info)
    return released + store.discard(others)


def _outcome(deleted: int, kept_claims: int) -> Iterator[str]:
    yield f"Deleted {formatting.quantity(deleted, 'record')}."
    if kept_claims:
        claims = formatting.quantity(kept_claims, "claim")
        yield f"Kept {claims} whose lease is running; --even-running deletes them too."


_CONSEQUENCE = "Requests that are sent again with these keys run their views again."
