"""Replaying: the stored response of a key, and what is reported of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask_idempotent import signals
from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.errors import RecordUnreadable, StoreError
from flask_idempotent.http.responses import replay
from flask_idempotent.records import CompletedRecord
from flask_idempotent.web.answering import response_not_kept, response_unreadable
from flask_idempotent.web.sessions import repeat_changes

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from flask_idempotent.engine.outcomes import Replay
    from flask_idempotent.web.protected_request import ProtectedRequest


def replay_stored(current: ProtectedRequest, outcome: Replay) -> Response:
    """Make the stored response again.

    :raises Problem: when it was not kept or cannot be read.
    """
    completed = outcome.completed
    if completed.body is None:
        raise response_not_kept(current)
    try:
        response = replay(completed, current.app.response_class, current.settings)
        if completed.session:
            repeat_changes(current, completed.session)
    except RecordUnreadable as error:
        raise response_unreadable(current, error) from None
    _report(current, completed, outcome.waited)
    return response


def _report(current: ProtectedRequest, completed: CompletedRecord, waited: float) -> None:
    age, status = max(0.0, time.time() - completed.time), completed.status_code
    logger.info(
        "replay: key %s, record %s, status %d, stored %.1f s ago, waited %.3f s",
        redacted(current.key), current.storage_key, status, age, waited,
    )  # fmt: skip
    signals.send(
        signals.replayed,
        current.app,
        key=current.key,
        storage_key=current.storage_key,
        status=status,
        waited=waited,
        age=age,
    )


def fetch_stored(current: ProtectedRequest) -> Response | None:
    """Fetch the response that another request with the key got; None where there is none yet."""
    assert current.storage_key is not None, "another request has this key"
    try:
        record = current.state.engine.store.read(current.storage_key)
        if not isinstance(record, CompletedRecord) or record.body is None:
            return None
        return replay(record, current.app.response_class, current.settings)
    except (StoreError, RecordUnreadable) as error:
        logger.error("record %s cannot be read: %s", current.storage_key, error)
        return None
