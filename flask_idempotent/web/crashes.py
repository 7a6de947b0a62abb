"""Crashes: asks the application's own function what follows the death of an owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from flask_idempotent._logging import logger
from flask_idempotent._redact import redacted
from flask_idempotent.crash import Crash
from flask_idempotent.web.request_state import note_claim
from flask_idempotent.web.running import make_response, settle
from flask_idempotent.web.transacted import begin_decision, commit_decision, discard_decision

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from flask_idempotent.engine.claims import Claim
    from flask_idempotent.engine.outcomes import Outcome
    from flask_idempotent.stores.base import Store
    from flask_idempotent.web.protected_request import ProtectedRequest

_RERUN: Literal["rerun"] = "rerun"
_HOLD: Literal["hold"] = "hold"


def decide(current: ProtectedRequest, claim: Claim) -> Response | Outcome:
    """Ask the function of ``on_crash`` about the run that died, and do what it says.

    :param claim: the claim that was taken over; its lease is renewed while the function thinks.
    :returns: the function's response, which is the key's; the claim, when the view is to run; or
        why neither is so.
    :raises StoreError: when the store does not let the view run, or does not say which steps the
        run that died has begun.
    :raises RecordUnreadable: when what it has of them is damaged.
    """
    engine, is_transacted = current.state.engine, current.settings.transaction is not None
    crash = _crash_of(claim, engine.store)
    note_claim(current.request, claim)
    current.body.hand_to_view()
    if is_transacted:
        begin_decision(current)
    decision: Any = _HOLD
    try:
        decision = _ask(current, claim, crash)
    finally:
        if is_transacted and isinstance(decision, str):
            discard_decision(current)
    if decision == _HOLD:
        return engine.hold(claim)
    if decision == _RERUN:
        return engine.begin(claim)
    claim.view_returned = True
    if is_transacted:
        return commit_decision(current, claim, decision)
    return settle(current, claim, decision, always_kept=True)


def _ask(current: ProtectedRequest, claim: Claim, crash: Crash) -> Any:
    """Call the function: a response, ``"rerun"``, or ``"hold"``, also where it fails."""
    function = current.settings.on_crash
    assert callable(function), "only such a claim is to decide"
    try:
        decision: Any = current.app.ensure_sync(function)(crash)
        if decision not in (_RERUN, _HOLD):
            decision = make_response(current, decision)
    except Exception:
        logger.exception(
            "on_crash failed, so the key is held: key %s, record %s",
            redacted(claim.key), claim.storage_key,
        )  # fmt: skip
        return _HOLD
    logger.warning(
        "crash: key %s, record %s, endpoint %s; attempt %d died: %s, process %d; on_crash says %s",
        redacted(claim.key), claim.storage_key, current.request.endpoint, crash.attempt,
        crash.host, crash.pid, decision if isinstance(decision, str) else decision.status,
    )  # fmt: skip
    return decision


def _crash_of(claim: Claim, store: Store) -> Crash:
    dead = claim.record
    steps = store.read_steps(claim.storage_key, dead.fingerprint)
    return Crash(
        key=claim.key,
        storage_key=claim.storage_key,
        attempt=dead.died,
        started=dead.started,
        host=dead.host,
        pid=dead.pid,
        steps={step.name: step.state for step in steps},
    )
