"""Checks of the transactions in which views run: their databases, and what the views do in them."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from inspect import iscoroutinefunction
from itertools import pairwise
from types import CodeType
from typing import TYPE_CHECKING

from flask_idempotent._quantities import duration
from flask_idempotent.doctor.findings import Finding, error, ok, warning
from flask_idempotent.doctor.routes import Routes, listed, named
from flask_idempotent.doctor.view_code import codes_of, layers
from flask_idempotent.engine.transactions import InspectableTransaction, Transaction
from flask_idempotent.errors import DatabaseUnavailable, SettingsError

if TYPE_CHECKING:
    from flask import Flask

#: No request has this storage key.
_PROBE = "flask idempotent doctor"
_DAY = 86400
#: Seconds after which an expired answer should have been deleted, by a job that runs once a day.
_PRUNED_WITHIN = 2 * _DAY
#: What ends a session's transaction, at once or with its block.
_COMMITTING = frozenset({"commit", "begin"})
#: Operations that load a name which is not a local variable.
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_ATTR"})


def examine(app: Flask, routes: Routes) -> Iterator[Finding]:
    """Check the views that run in a transaction, where there are any."""
    transacted = [route for route in routes if route.settings.transaction is not None]
    for transaction in dict.fromkeys(route.settings.transaction for route in transacted):
        assert transaction is not None, "routes without one were left out"
        with app.app_context():
            findings = list(database(transaction))
        yield from findings
    yield from own_commits(app, transacted)
    yield from other_threads(app, transacted)


def database(transaction: Transaction) -> Iterator[Finding]:
    """Check whether a database answers, has a place for answers, and is pruned."""
    name = type(transaction).__name__
    try:
        transaction.look_up(_PROBE)
    except SettingsError as problem:
        yield error(
            "transaction",
            f"{name} cannot be used, so every request with a key fails: {problem}",
            "Fix this before the next deployment.",
        )
        return
    except DatabaseUnavailable as failure:
        yield error(
            "transaction",
            f"The database of {name} does not answer, so requests with a key get 503: {failure}",
            "Check that the database runs and can be reached, and its address and password.",
        )
        return
    yield ok("transaction", f"The database of {name} answers, and has a place for answers.")
    if isinstance(transaction, InspectableTransaction):
        yield from _inspected(transaction)


def _inspected(transaction: InspectableTransaction) -> Iterator[Finding]:
    for weakness in transaction.weaknesses():
        yield warning("transaction", weakness.text, weakness.fix)
    seconds = transaction.longest_expired()
    if seconds is not None and seconds > _PRUNED_WITHIN:
        yield warning(
            "prune",
            f"Answers that expired {duration(seconds // _DAY * _DAY)} ago are still in the "
            "database: nobody deletes them, and their table grows.",
            "Run flask idempotent prune once a day.",
        )


def own_commits(app: Flask, transacted: Routes) -> Iterator[Finding]:
    """Find views that seem to commit the session by themselves."""
    committing = [
        named(route)
        for route in transacted
        if any(_commits(code) for layer in layers(app, route) for code in codes_of(layer))
    ]
    if committing:
        yield warning(
            "commits",
            "A view has transaction= and seems to commit a session by itself: a crash between its "
            f"commit and that of its answer makes it run again. {listed(committing, transacted)}",
            "Replace commit() by flush(), and leave the commit to the library. What must be "
            "committed earlier needs a session of its own.",
        )


def _commits(code: CodeType) -> bool:
    """Whether a function has ``session.commit`` or ``session.begin``.

    A local variable is left out: what opens a session of its own, for what must be committed
    earlier, keeps it in one.
    """
    return any(
        owner.opname in _LOADS
        and str(owner.argval).lower().endswith("session")
        and attribute.argval in _COMMITTING
        for owner, attribute in pairwise(dis.get_instructions(code))
    )


def other_threads(app: Flask, transacted: Routes) -> Iterator[Finding]:
    """Find async views whose session would be another one than the library's."""
    lost = [
        named(route)
        for route in transacted
        if isinstance(route.settings.transaction, InspectableTransaction)
        and route.settings.transaction.is_thread_local
        and any(iscoroutinefunction(layer) for layer in layers(app, route))
    ]
    if lost:
        yield error(
            "async",
            "An async view runs in a thread of its own, where a scoped_session is another one: "
            f"what it writes is not committed with its answer. {listed(lost, transacted)}",
            "Use Flask-SQLAlchemy's session, or give scoped_session a scopefunc that returns the "
            "same in both threads, such as the identity of the application context.",
        )
