"""Commands that change something: ``release`` and ``purge``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import click
from flask.cli import with_appcontext

from flask_idempotent._printable import printable
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import (
    Refused,
    as_json,
    ask,
    progress,
    this_app,
    this_prefix,
    this_store,
    yes,
)
from flask_idempotent.cli.record_argument import Named, names_a_record
from flask_idempotent.cli.records import look
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import InspectableStore, Sight
from flask_idempotent.web.state import state_of


@click.command()
@names_a_record
@click.option(
    "--even",
    type=click.Choice(["running", "completed", "unreadable"]),
    multiple=True,
    help="Release it though its lease runs, it is completed, or it cannot be read.",
)
@yes
@as_json
def release(named: Named, even: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Free a KEY whose owner died.

    The waiters are told, and the next request with the key runs its view.
    """
    store = this_store()
    sight, _ = look(store, named)
    kind = _kind(sight)
    if kind != "lapsed" and kind not in even:
        raise Refused(_REFUSALS[kind].format(lease=formatting.lease(sight), owner=_owner(sight)))
    ask(f"{sight.key} is {_IS[kind]} {_RUNS} Release it?", yes=yes)
    if not _released(store, sight, named.settings):
        raise Refused(f"{sight.key} has changed meanwhile and was left alone. Look again.")
    if as_json:
        formatting.write_json({"storage_key": sight.key, "was": kind})
    else:
        click.echo(printable(f"Released {sight.key}."))


def _kind(sight: Sight) -> str:
    if isinstance(sight.record, RunningRecord):
        return "lapsed" if sight.lapsed else "running"
    if isinstance(sight.record, ReleasedRecord):
        return "released"
    return "unreadable" if sight.record is None else "completed"


def _owner(sight: Sight) -> str:
    return formatting.owner(sight.record) if isinstance(sight.record, RunningRecord) else ""


def _released(store: InspectableStore, sight: Sight, settings: EngineSettings) -> bool:
    # Only what was seen: what has begun or was answered meanwhile stays.
    if isinstance(sight.record, RunningRecord):
        # A late owner's response is kept, and an owner that still runs cannot claim again.
        return store.release(
            sight.key,
            sight.record.owner,
            expire=settings.expire_ms,
            tombstone_ttl_ms=settings.running_ttl_ms,
            owner_may_run=True,
        )
    return store.discard([sight]) > 0


@click.command()
@click.option("--older", type=formatting.duration, help="What is older, say 30s, 5m or 2h.")
@click.option("--all", "everything", is_flag=True, help="Whatever its age.")
@click.option("--even-running", is_flag=True, help="Also claims whose lease runs.")
@yes
@as_json
@with_appcontext
def purge(
    older: float | None, everything: bool, even_running: bool, yes: bool, as_json: bool
) -> None:
    """Delete records.

    All of them whose names begin with this application's prefix, but for claims whose lease runs,
    and for tombstones, which end by themselves. Waiters are told.
    """
    if everything == (older is not None):
        raise click.UsageError("Say which: --older 2h, or --all.")
    store = this_store()
    with progress(store.inspect(store.scan(this_prefix())), "Looking") as sights:
        found = {
            sight.key: sight
            for sight in sights
            if formatting.is_older(sight, older) and _kind(sight) != "released"
        }
    doomed = [s for s in found.values() if even_running or _kind(s) != "running"]
    spared = len(found) - len(doomed)
    if doomed:
        kinds = sorted(Counter(map(_kind, doomed)).items())
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds)
        records = formatting.counted(len(doomed), "record")
        ask(f"This deletes {records} ({listed}). {_RUN} Go on?", yes=yes)
    with progress(doomed, "Deleting", len(doomed)) as sights:
        deleted = _delete(store, sights, state_of(this_app()).settings().engine)
    if as_json:
        formatting.write_json({"deleted": deleted, "running": spared})
    else:
        click.echo(" ".join(_outcome(deleted, spared)))


def _delete(store: InspectableStore, sights: Iterable[Sight], settings: EngineSettings) -> int:
    others, released = [], 0
    for sight in sights:
        # A claim that was deleted its owner would put back.
        if _kind(sight) == "running":
            released += _released(store, sight, settings)
        else:
            others.append(sight)
    return released + store.discard(others)


def _outcome(deleted: int, spared: int) -> Iterator[str]:
    yield f"Deleted {formatting.counted(deleted, 'record')}."
    if spared:
        yield f"Left {formatting.counted(spared, 'claim')} alone whose lease runs (--even-running)."


_IS = {
    "lapsed": "in progress, and its lease has lapsed.",
    "running": "in progress, and its lease runs: its view may run twice at the same time.",
    "completed": "completed: its view ran to its end.",
    "unreadable": "unreadable: its view may have run.",
}
_RUNS = "The next request with its key runs the view."
_RUN = "Requests that are sent again with their keys run their views again."
_REFUSALS = {
    "released": (
        "The key is free already: what is left of an earlier claim is in nobody's way and ends by "
        "itself."
    ),
    "running": (
        "The claim's lease has {lease}: {owner}, renews it and probably runs the view. End that "
        "process and the key is free after one lease. To release it nevertheless, and perhaps "
        "run the view twice at the same time: --even running."
    ),
    "completed": (
        "The view ran to its end, and its response is replayed. To forget it, so that the next "
        "request runs the view a second time: --even completed."
    ),
    "unreadable": (
        "The record cannot be read, and the view may have run. To forget it, so that the next "
        "request runs the view, perhaps a second time: --even unreadable."
    ),
}
