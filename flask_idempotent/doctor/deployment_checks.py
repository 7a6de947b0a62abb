"""Checks of how the application is served: the kind of store, processes and times."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent import signals
from flask_idempotent._quantities import size
from flask_idempotent.doctor.findings import Finding, error, note, ok, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.http.spools import SPOOL_SIZE
from flask_idempotent.settings import Settings
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.memory import MemoryStore

if TYPE_CHECKING:
    from flask import Flask

    from flask_idempotent.doctor.gunicorn import Gunicorn

#: Seconds; a shorter lease may end while the store is silent for as long as it may be.
_SHORTEST_LEASE = 3
_HOUR = 3600
#: gunicorn's workers whose views must give way to each other.
_GREENLETS = ("gevent", "eventlet")


def examine(
    app: Flask, store: Store, general: Settings, routes: Routes, gunicorn: Gunicorn | None
) -> Iterator[Finding]:
    """Check what depends on the way that the application is run."""
    yield from kind_of_store(app, store, general, gunicorn)
    yield from leases(routes)
    if routes:
        yield from request_bodies(app)
    yield from windows(routes)
    yield from holds(routes)
    yield from pool(app, general, routes)
    if gunicorn is None:
        yield note(
            "gunicorn",
            "Nothing here tells of gunicorn: no GUNICORN_CMD_ARGS, WEB_CONCURRENCY or "
            "gunicorn.conf.py. Its --timeout and --graceful-timeout were not compared.",
            "Keep IDEMPOTENT_TIMEOUT below the --timeout of sync workers, and your slowest view "
            f"and IDEMPOTENT_LINGER ({general.linger:g} s) together below --graceful-timeout.",
        )
    else:
        yield from timeouts(routes, gunicorn)
        yield leaving(general, gunicorn)


def kind_of_store(
    app: Flask, store: Store, general: Settings, gunicorn: Gunicorn | None
) -> Iterator[Finding]:
    if isinstance(store, MemoryStore):
        text = "memory:// keeps records in each process alone"
        mend = "Set REDIS_URL to a server that all processes share."
        if gunicorn is not None and gunicorn.workers > 1:
            yield error(
                "store",
                f"{text}, and gunicorn has {gunicorn.workers} workers: a retry that reaches "
                "another worker runs again.",
                mend,
            )
        elif app.testing:
            yield note("store", f"{text}, which is right for tests.")
        else:
            yield warning("store", f"{text}: a retry in another process runs again.", mend)
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
            f"The lease is below {_SHORTEST_LEASE} s, and the store may be silent for almost a "
            f"second: a view may run twice at the same time. {listed(short, routes)}",
            f"Set a lease of {_SHORTEST_LEASE} s or more.",
        )


def windows(routes: Routes) -> Iterator[Finding]:
    """Views that find the key themselves: their senders, such as webhooks, retry for hours."""
    short = [
        named(route)
        for route in routes
        if route.settings.key is not None and route.settings.expire < _HOUR
    ]
    if short:
        yield note(
            "expire",
            "The key comes from a function of the view, and the response is kept for less than an "
            f"hour: a delivery that is repeated later runs again. {listed(short)}",
            "Set expire= longer than the sender goes on trying, such as three days.",
        )


def holds(routes: Routes) -> Iterator[Finding]:
    """Views that must not run again by themselves, whose claims end by themselves."""
    short = [
        named(route)
        for route in routes
        if route.settings.on_crash == "hold" and route.settings.expire < _HOUR
    ]
    if short:
        yield warning(
            "hold",
            "A claim whose owner died is held for less than an hour, and after that its view runs "
            f"again: hardly anybody will have looked by then. {listed(short)}",
            "Set expire= to the time in which somebody will look, such as a week.",
        )


def pool(app: Flask, general: Settings, routes: Routes) -> Iterator[Finding]:
    """Whether duplicates that wait may hold every connection of Flask-SQLAlchemy's pool."""
    size = _connections(app)
    waits = any(route.settings.timeout for route in routes)
    if not size or not waits or signals.before_wait.has_receivers_for(app):
        return
    if general.max_waiters is None or general.max_waiters >= size:
        limit = "no limit" if general.max_waiters is None else f"at most {general.max_waiters}"
        yield note(
            "pool",
            f"Duplicates that wait ({limit}) keep the database connection that a before_request "
            f"function took, and the pool has {size}: the first request may get none, and all of "
            "them wait for nothing.",
            f"Set IDEMPOTENT_MAX_WAITERS below {size}, or give connections back in a receiver of "
            "the signal before_wait.",
        )


def _connections(app: Flask) -> int | None:
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})
    if "sqlalchemy" not in app.extensions or "poolclass" in options:
        return None
    # SQLAlchemy's own defaults; 0 and a negative number mean as many as are wanted.
    size, overflow = options.get("pool_size", 5), options.get("max_overflow", 10)
    return size + overflow if size and overflow >= 0 else None


def request_bodies(app: Flask) -> Iterator[Finding]:
    """How much of a request's body may be read before its view, and where it is kept."""
    limit = app.config["MAX_CONTENT_LENGTH"]
    try:
        rest = f"larger ones go to {tempfile.gettempdir()}"
    except FileNotFoundError:
        yield warning(
            "bodies",
            "There is no folder for temporary files: large bodies stay in memory while they are "
            "compared.",
            "Let TMPDIR name a folder that can be written.",
        )
        rest = "so do larger ones"
    text = f"Up to {size(SPOOL_SIZE)} stay in memory, {rest}."
    if limit is None:
        yield warning(
            "bodies",
            "MAX_CONTENT_LENGTH is not set: a form, and a body with a key, is read before its "
            f"view, however long it is. {text}",
            "Set MAX_CONTENT_LENGTH to what the longest body may have.",
        )
    else:
        yield ok(
            "bodies",
            f"A form, and a body with a key, is read before its view, up to {size(limit)}. {text}",
        )


def timeouts(routes: Routes, gunicorn: Gunicorn) -> Iterator[Finding]:
    where = " and ".join(gunicorn.sources)
    worker = f"{gunicorn.worker_class} workers, timeout {gunicorn.timeout} s ({where})"
    if not gunicorn.timeout:
        yield ok("gunicorn", f"{worker}: no worker is killed.")
        return
    greenlets = gunicorn.worker_class.startswith(_GREENLETS)
    waiting, lapsing = [], []
    for route in routes:
        if gunicorn.worker_class == "sync" and route.settings.timeout >= gunicorn.timeout:
            waiting.append(named(route))
        if greenlets and route.settings.lease <= gunicorn.timeout:
            lapsing.append(named(route))
    if waiting:
        yield warning(
            "gunicorn",
            f"{worker}: a duplicate that waits for longer than that is killed with its worker. "
            f"{listed(waiting, routes)}",
            f"Set IDEMPOTENT_TIMEOUT below {gunicorn.timeout}, or raise gunicorn's --timeout.",
        )
    if lapsing:
        yield warning(
            "gunicorn",
            f"{worker}: a view that computes without giving way cannot renew its lease, which "
            "ends before gunicorn kills the worker, so the view may run twice at the same time. "
            f"{listed(lapsing, routes)}",
            f"Set IDEMPOTENT_LEASE above {gunicorn.timeout}, or lower gunicorn's --timeout.",
        )
    if not waiting and not lapsing:
        yield ok("gunicorn", f"{worker}: it fits the settings.")


def leaving(general: Settings, gunicorn: Gunicorn) -> Finding:
    """Whether a worker that is to leave has time for its views and for what is not stored yet."""
    rest = gunicorn.graceful_timeout - general.linger
    text = (
        f"A worker that is to leave is killed after {gunicorn.graceful_timeout} s. For up to "
        f"{general.linger:g} s of it, responses are stored that the store has not taken"
    )
    if rest <= 0:
        return warning(
            "linger",
            f"{text}, which leaves no time for views: responses may be lost.",
            f"Set --graceful-timeout above your slowest view and {general.linger:g} s together.",
        )
    return ok("linger", f"{text}; views have the other {rest:g} s.")
