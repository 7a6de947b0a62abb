"""The run of a view, as its session sees it: who began it, and whether the view has committed."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, SessionTransaction

from flask_idempotent.contrib.sqlalchemy.sessions import (
    Source,
    current_session,
    fixed_session,
    held_connections,
    scope_of,
)
from flask_idempotent.errors import SettingsError


@dataclass(eq=False)
class _Run:
    """A view that runs, between ``begin`` and the end of its transaction.

    :param source: what its session was taken from.
    :param session: its session.
    :param scope: what its source has one session for; None where that is not known.
    :param outer: the run that a view was in when it sent a request to its own application.
    :param has_committed: whether the view has committed by itself.
    :param ended: whether its transaction has ended; other contexts may still refer to it.
    :param thread: number of the thread that commits.
    """

    source: Source
    session: Session
    scope: object
    outer: _Run | None
    has_committed: bool = False
    ended: bool = False
    thread: int = field(default_factory=threading.get_ident)


#: Async views get a copy of the context that has this, and run in another thread.
_current: ContextVar[_Run | None] = ContextVar("flask_idempotent_sqlalchemy_run", default=None)


def listen(source: Source) -> None:
    """Follow the transactions of a source's sessions.

    ``after_commit``, because ``before_commit`` is also called for a commit that fails then. Both
    are called for savepoints too.
    """
    session = fixed_session(source) or Session
    for name, function in (
        ("after_commit", _note_commit),
        ("after_transaction_create", _refuse_other_thread),
    ):
        try:
            event.listen(session, name, function)
        except ArgumentError:
            # Its factory is a function, so it is not known which sessions it makes.
            event.listen(Session, name, function)


def begin_run(source: Source, session: Session) -> None:
    """Note that the view runs next."""
    outer = _active_run()
    if outer is not None and outer.session is session:
        outer = outer.outer
    _current.set(_Run(source, session, scope_of(source), outer))


def end_run(session: Session) -> None:
    """Forget the run of a session."""
    run = _run_of(session)
    if run is not None:
        run.ended = True
        _current.set(run.outer)


def has_committed(session: Session) -> bool:
    """Whether the view has committed by itself since its run began."""
    run = _run_of(session)
    return (run is not None and run.has_committed) or any(
        connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        for connection in held_connections(session)
    )


def _active_run() -> _Run | None:
    run = _current.get()
    return None if run is None or run.ended else run


def _run_of(session: Session) -> _Run | None:
    """The active run, if this is its session, or the one that follows its ``remove()``."""
    run = _active_run()
    if run is None or run.session is session:
        return run
    is_in_scope = run.scope is not None and run.scope == scope_of(run.source)
    return run if is_in_scope and _is_current(run.source, session) else None


def _note_commit(session: Session) -> None:
    run = _run_of(session)
    if run is None or session.in_nested_transaction():
        return
    # Without a connection nothing was sent, so there was nothing to commit.
    run.has_committed |= bool(held_connections(session))


def _refuse_other_thread(session: Session, transaction: SessionTransaction) -> None:
    run = _active_run()
    if (
        run is not None
        and run.session is not session
        and run.thread != threading.get_ident()
        and transaction.parent is None
        and _is_current(run.source, session)
    ):
        raise SettingsError(_OTHER_THREAD)


def _is_current(source: Any, session: Session) -> bool:
    return current_session(source) is session


_OTHER_THREAD = (
    "the view uses its scoped_session in another thread than the one that commits, as async views "
    "do, and would get another session there: give scoped_session a scopefunc that is the same in "
    "both, such as scopefunc=lambda: id(app_ctx._get_current_object()), which Flask-SQLAlchemy has"
)
