"""Checks of how the application is deployed: the kind of store, durations, request bodies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent import signals
from flask_idempotent._quantities import size
from flask_idempotent.doctor.findings import Finding, note, ok, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.http.spools import SPOOL_SIZE
from flask_idempotent.settings import Settings
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.memory import MemoryStore

if TYPE_CHECKING:
    from flask import Flask

#: Seconds. A shorter lease may end while the store is unavailable for less than its timeout.
_SHORTEST_LEASE = 3
_HOUR = 3600


def examine(app: Flask, store: Store, general: Settings, routes: Routes) -> Iterator[Finding]:
    """Check what depends on how the application is run."""
    yield from kind_of_store(app, store, general)
    yield from leases(routes)
    if routes:
        yield from request_bodies(app)
    yield from windows(routes)
    yield from pool(app, general, routes)
    yield web_server(general)


def kind_of_store(app: Flask, store: Store, general: Settings) -> Iterator[Finding]:
    if isinstance(store, MemoryStore):
        text = "memory:// keeps records in each process alone"
        if app.testing:
            yield note("store", f"{text}, which is right for tests.")
        else:
            yield warning(
                "store",
                f"{text}: a retry in another process runs again.",
                "Set REDIS_URL to a server that all processes share.",
            )
    elif general.redis_url.startswith("embedded:"):
        yield (note if app.debug or app.testing else warning)(
            "store",
            "embedded:// keeps records until the last process of the application ends, on this "
            "machine: right for development.",
            "For production, set REDIS_URL to a server.",
        )


def leases(routes: Routes) -> Iterator[Finding]:
    short = [named(route) for route in routes if route.settings.lease < _SHORTEST_LEASE]
    if short:
        yield warning(
            "lease",
            f"The lease is below {_SHORTEST_LEASE} s, and the store may not answer for almost a "
            f"second: a view may run twice at the same time. {listed(short, routes)}",
            f"Set a lease of {_SHORTEST_LEASE} s or more.",
        )


def windows(routes: Routes) -> Iterator[Finding]:
    """Find views with a key function and a short ``expire``: webhooks are retried for hours."""
    short = [
        named(route)
        for route in routes
        if route.settings.key is not None and route.settings.expire < _HOUR
    ]
    if short:
        yield note(
            "expire",
            "The key comes from a function of the view, and the response is kept for less than an "
            f"hour: a delivery that is repeated later runs the view again. {listed(short)}",
            "Set expire= to at least the time for which the sender retries, such as three days.",
        )


def pool(app: Flask, general: Settings, routes: Routes) -> Iterator[Finding]:
    """Check whether duplicates that wait can hold all connections of Flask-SQLAlchemy's pool."""
    size = _connections(app)
    waits = any(route.settings.timeout for route in routes)
    if not size or not waits or signals.before_wait.has_receivers_for(app):
        return
    if general.max_waiters is None or general.max_waiters >= size:
        limit = "no limit" if general.max_waiters is None else f"at most {general.max_waiters}"
        yield note(
            "pool",
            f"Duplicates that wait ({limit}) keep the database connection that a before_request "
            f"function took, and the pool has {size}: the first request may get none and never "
            "complete.",
            f"Set IDEMPOTENT_MAX_WAITERS below {size}, or return connections in a receiver of "
            "the signal before_wait.",
        )


def _connections(app: Flask) -> int | None:
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})
    if "sqlalchemy" not in app.extensions or "poolclass" in options:
        return None
    # SQLAlchemy's own defaults. 0 and negative numbers mean no limit.
    size, overflow = options.get("pool_size", 5), options.get("max_overflow", 10)
    return size + overflow if size and overflow >= 0 else None


def request_bodies(app: Flask) -> Iterator[Finding]:
    """Report how much of a request's body may be read before its view, and where it is kept."""
    limit = app.config["MAX_CONTENT_LENGTH"]
    try:
        rest = f"larger ones go to {tempfile.gettempdir()}"
    except FileNotFoundError:
        yield warning(
            "bodies",
            "There is no directory for temporary files: large bodies stay in memory while they are "
            "compared.",
            "Set TMPDIR to a directory that can be written.",
        )
        rest = "so do larger ones"
    text = f"Up to {size(SPOOL_SIZE)} stay in memory, {rest}."
    if limit is None:
        yield warning(
            "bodies",
            "MAX_CONTENT_LENGTH is not set: a form, and a body with a key, is read before its "
            f"view, whatever its size. {text}",
            "Set MAX_CONTENT_LENGTH to the largest size that a body may have.",
        )
    else:
        yield ok(
            "bodies",
            f"A form, and a body with a key, is read before its view, up to {size(limit)}. {text}",
        )


def web_server(general: Settings) -> Finding:
    """Say what to compare by hand: a command line such as ``gunicorn -t 60`` cannot be seen."""
    return note(
        "gunicorn",
        "How the web server is started cannot be seen from here, so its timeouts were not checked.",
        f"Keep IDEMPOTENT_TIMEOUT ({general.timeout:g} s) below the --timeout of sync workers, "
        f"IDEMPOTENT_LEASE ({general.lease:g} s) above the --timeout of gevent workers, and your "
        f"slowest view and IDEMPOTENT_LINGER ({general.linger:g} s) together below "
        "--graceful-timeout.",
    )
