"""The command ``purge``: delete many records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.answers import delete_all_answers, delete_answers, transactions_of
from flask_idempotent.cli.callers import Caller, caller_options, scope_of, settings_at
from flask_idempotent.cli.options import (
    WrongSettings,
    confirm,
    duration_option,
    json_option,
    progress,
    this_app,
    this_prefix,
    this_store,
    yes_option,
)
from flask_idempotent.cli.release import condition_of, free
from flask_idempotent.http.keys import scope_prefix
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.web.state import state_of


def _caller_prefix_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a caller.

    It gets what the names of the caller's records begin with as ``caller_prefix``; None where no
    caller is named.
    """

    @caller_options
    @wraps(command)
    def with_prefix(caller: Caller, path: str | None, method: str, **others: Any) -> None:
        if path is not None and caller == Caller():
            raise click.UsageError("--path is for --scope: give both, or neither.")
        prefix = None if caller == Caller() else _prefix_of(caller, path, method)
        command(caller_prefix=prefix, **others)

    return with_prefix


def _prefix_of(caller: Caller, path: str | None, method: str) -> str:
    """What the names of all records of a caller begin with."""
    app = this_app()
    settings = settings_at(app, path, method)
    if not settings.name_key:
        raise WrongSettings(_NO_NAME_SECRET)
    namespace = settings.namespace or app.name
    scope = scope_of(settings, caller)
    return scope_prefix(settings.prefix, namespace, scope, settings.name_key)


@click.command("purge")
@duration_option("--older", help="Delete records older than this, such as 30s, 5m or 2h.")
@click.option("--all", "everything", is_flag=True, help="Delete records of any age.")
@click.option("--even-running", is_flag=True, help="Also delete claims whose lease is running.")
@yes_option
@json_option
@with_appcontext
@_caller_prefix_options
def purge_command(
    older: float | None,
    everything: bool,
    even_running: bool,
    yes: bool,
    as_json: bool,
    caller_prefix: str | None,
) -> None:
    """Delete records.

    All records with this application's prefix, or of one caller, who is named by --scope,
    --scope-header, --user and --user-id. Claims whose lease is running stay, and so do tombstones,
    which expire by themselves, unless they are those of a caller and have steps. The answers that
    the databases of transactions keep for the records are deleted too. Waiters are woken.
    """
    if [everything, older is not None, caller_prefix is not None].count(True) != 1:
        raise click.UsageError(
            "Give one of --older, such as --older 2h, --all, and the options that name a caller."
        )
    store, prefix = this_store(), caller_prefix or this_prefix()
    selected = _select(store, prefix, older, forgets=caller_prefix is not None)
    running = [info.storage_key for info in selected if condition_of(info) == "running"]
    kept_claims = frozenset(() if even_running else running)
    to_delete = [info for info in selected if info.storage_key not in kept_claims]
    _confirm(to_delete, of_caller=caller_prefix is not None, yes=yes)
    # Before the records: a request in between gets its record, and puts nothing back.
    delete_answers(this_app(), [info.storage_key for info in to_delete])
    if caller_prefix is not None:
        delete_all_answers(this_app(), caller_prefix, keep=kept_claims)
    with progress(to_delete, "Deleting", len(to_delete)) as infos:
        deleted = _delete(store, infos, state_of(this_app()).settings().engine)
    if caller_prefix is not None:
        _discard_steps(store, to_delete)
    if as_json:
        formatting.write_json({"deleted": deleted, "running": len(kept_claims)})
    else:
        click.echo(" ".join(_outcome(deleted, len(kept_claims))))


def _select(
    store: InspectableStore, prefix: str, older: float | None, *, forgets: bool
) -> list[RecordInfo]:
    """Read the records to delete, and claims.

    :param forgets: whether tombstones that have steps are among them.
    """
    with progress(store.inspect(store.scan(prefix)), "Reading records") as records:
        # By name, because SCAN may return one twice.
        selected = {
            info.storage_key: info
            for info in records
            if record_fields.is_older(info, older) and not _stays(info, forgets=forgets)
        }
    return list(selected.values())


def _stays(info: RecordInfo, *, forgets: bool) -> bool:
    return condition_of(info) == "released" and not (forgets and info.steps)


def _confirm(to_delete: Sequence[RecordInfo], *, of_caller: bool, yes: bool) -> None:
    answers = " and the caller's answers in the databases of transactions"
    answers = answers if of_caller and transactions_of(this_app()) else ""
    if not to_delete and not answers:
        return
    counts = sorted(Counter(map(condition_of, to_delete)).items())
    details = ", ".join(f"{number} {condition}" for condition, number in counts)
    details = f" ({details})" if details else ""
    records = formatting.quantity(len(to_delete), "record")
    confirm(f"This deletes {records}{details}{answers}. {_CONSEQUENCE} Continue?", yes=yes)


def _discard_steps(store: InspectableStore, deleted: Iterable[RecordInfo]) -> None:
    """Delete what is left of claims that were running: the release of a claim keeps its steps."""
    left = store.inspect(info.storage_key for info in deleted)
    store.discard([info for info in left if info.steps])


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
_NO_NAME_SECRET = (
    "Without IDEMPOTENT_NAME_SECRET nothing in the store says whose a record is, so those of one "
    "caller cannot be found. They expire by themselves; purge --all deletes them with all others."
)
