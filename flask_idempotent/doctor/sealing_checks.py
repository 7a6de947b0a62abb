"""Checks of sealed records: with which secret they are sealed, and which nobody can read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from flask_idempotent._quantities import duration
from flask_idempotent.doctor.findings import Finding, note, ok, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.errors import StoreError
from flask_idempotent.sealing import secret_fingerprint
from flask_idempotent.settings import Settings
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore

#: How many records are tried.
_SAMPLE = 500


def examine(store: Store, general: Settings, routes: Routes) -> Iterator[Finding]:
    """Check what the application's secrets do to its records."""
    if isinstance(store, MemoryStore):
        return
    yield from seals(general, routes)
    if general.secrets:
        yield from rows(routes)
    if isinstance(store, InspectableStore):
        yield from unreadable(store, general)


def seals(general: Settings, routes: Routes) -> Iterator[Finding]:
    """Say whether records are sealed, and with which secret."""
    fingerprints = [secret_fingerprint(secret) for secret in general.secrets if secret is not None]
    if not fingerprints:
        yield note(
            "sealing",
            "Records are not sealed: anybody who can read the store can read the responses.",
            "Where that matters, set IDEMPOTENT_SECRETS, in three deployments as the page about "
            "sealed records says.",
        )
    elif general.secrets[0] is None:
        yield note(
            "sealing",
            f"Records are not sealed yet; those sealed with {_or(fingerprints)} can be read.",
            "When every process has these secrets, put None behind the first one.",
        )
    else:
        first, *others = fingerprints
        opened = f"; those sealed with {_or(others)} can be read" if others else ""
        yield ok("sealing", f"Records are sealed with the secret {first}{opened}.")
        if None in general.secrets:
            longest = max((route.settings.engine.running_ttl_ms for route in routes), default=0)
            yield note(
                "sealing",
                "Records without a seal are accepted too, so anybody who can write to the store "
                "can add some.",
                f"Remove None from IDEMPOTENT_SECRETS {duration(longest / 1000)} after the last "
                "process without these secrets has ended, when their records have expired.",
            )


def rows(routes: Routes) -> Iterator[Finding]:
    """Find transactions that keep answers unsealed beside sealed records."""
    unsealed = [
        named(route) for route in routes if not getattr(route.settings.transaction, "sealed", True)
    ]
    if unsealed:
        yield note(
            "sealing",
            "Records are sealed, and the answers in the database of a transaction are not. "
            f"{listed(unsealed, routes)}",
            "Where they must be, give SQLAlchemyTransaction sealed=True.",
        )


def unreadable(store: InspectableStore, general: Settings) -> Iterator[Finding]:
    """Find records that cannot be read, such as those of a secret that was removed too early."""
    try:
        names = list(islice(store.scan(general.prefix), _SAMPLE))
        infos = [info for info in store.inspect(names) if info.record is None]
    except StoreError:
        # The checks of the server say what is wrong with it.
        return
    if infos:
        yield warning(
            "unreadable",
            f"{len(infos)} of {len(names)} records cannot be read, and requests with their keys "
            f"get 503. The first: {infos[0].storage_key}, {infos[0].damage or 'it is damaged'}.",
            "If a secret was removed too early, add it to the end of IDEMPOTENT_SECRETS again, or "
            "wait until these records have expired. If a newer release has written them, because "
            "their version is unknown, go on with its deployment. If they are those of another "
            "application, give each its own IDEMPOTENT_PREFIX.",
        )


def _or(fingerprints: list[str]) -> str:
    return " or ".join(fingerprints)
