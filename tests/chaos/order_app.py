"""The application of ``app.py`` with views that write orders into a database of their own.

The path of a request names a point and what happens to the worker there: the first time that a
request with its key reaches this point, the worker kills or stops itself.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from flask import Response, g, has_request_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_idempotent import current_claim, idempotent, signals
from tests.chaos.app import app, run
from tests.chaos.notes import FOLDER, note
from tests.chaos.order_tables import Base, Order, transaction_of

if app.config.get("FLASK_SQLALCHEMY"):
    source: Any = SQLAlchemy(app, metadata=Base.metadata)
    session = source.session
else:
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})
    engine = create_engine(app.config["SQLALCHEMY_DATABASE_URI"], **options)
    session = source = scoped_session(sessionmaker(engine))
transaction = transaction_of(source)

#: What a worker does to itself.
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "slow": signal.SIGCONT}
#: A worker is killed in COMMIT so many seconds after it was sent; the server takes longer.
INTO_COMMIT = 0.1
SLOWNESS = 0.5


@app.before_request
def _load_user() -> None:
    # A transaction that began here may not see what was committed before the view.
    if app.config.get("LOADS_USER"):
        session.execute(select(Order.id).limit(1))


@app.teardown_appcontext
def _remove_session(error: BaseException | None) -> None:
    session.remove()


def reach(point: str) -> None:
    """Kill or stop this worker, where the request asks for it and no other try of it was here."""
    if not has_request_context() or g.get("point") != point:
        return
    marker = Path(os.environ[FOLDER]) / f"struck-{g.key}"
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    note("strike", kind="strikes", key=g.key, point=point, action=g.action)
    if point == "in-commit":
        threading.Timer(INTO_COMMIT, signal.raise_signal, [SIGNALS[g.action]]).start()
    else:
        # To this thread: a signal to the process may reach another one, while this one goes on.
        signal.raise_signal(SIGNALS[g.action])


@event.listens_for(session, "before_flush")
def _flushing(session: Session, *_: Any) -> None:
    reach("before-flush")


@event.listens_for(Engine, "commit")
def _committing(connection: Connection) -> None:
    if has_request_context() and g.get("wrote"):
        reach("before-commit")
        reach("in-commit")


@event.listens_for(session, "after_commit")
def _committed(session: Session) -> None:
    reach("after-commit")


@signals.completed.connect_via(app)
def _completed(sender: object, **_: Any) -> None:
    reach("after-redis")


def write_order(milliseconds: int) -> tuple[Response, int, dict[str, str]]:
    """Write an order, and answer with the run that wrote it."""
    response, status, headers = run(milliseconds)
    slowness = SLOWNESS if g.get("point") == "in-commit" else 0.0
    session.add(Order(key=current_claim.key, run=headers["X-Run"], slowness=slowness))
    session.flush()
    g.wrote = True
    reach("after-flush")
    return response, status, headers


@app.post("/orders/<int:milliseconds>")
@idempotent(transaction=transaction)
def create_order(milliseconds: int) -> tuple[Response, int, dict[str, str]]:
    """Write an order."""
    return write_order(milliseconds)


@app.post("/orders/<int:milliseconds>/<action>/<point>")
@idempotent(transaction=transaction)
def create_order_under_attack(
    milliseconds: int, action: str, point: str
) -> tuple[Response, int, dict[str, str]]:
    """Write an order; a worker's first try with a key does not survive this point."""
    g.key, g.action, g.point = current_claim.key, action, point
    return write_order(milliseconds)


@app.post("/refused/<int:milliseconds>")
@idempotent(transaction=transaction)
def refuse_order(milliseconds: int) -> tuple[Response, int, dict[str, str]]:
    """Write an order, and then refuse it."""
    response, _, headers = write_order(milliseconds)
    return response, 422, headers
