"""Signals (Blinker): sent when the library has done something, with the application as sender.

``key`` is the client's own key and ``storage_key`` the name of its record in the store. A receiver
runs in the thread that sends the signal. ``completed``, ``released``, ``lease_lost`` and
``store_failed`` may be sent by a background thread, outside any request.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from blinker import NamedSignal, Namespace

from flask_idempotent._logging import logger

_signals = Namespace()

#: A request claimed its key and its view is about to run.
#: ``key``, ``storage_key``: str; ``attempt``: int, 1 on a first run, 0 without the store;
#: ``owner``: str; ``took_over``: bool, whether the previous owner died.
claimed = _signals.signal("claimed")

#: A duplicate is about to wait for the first request. A receiver can return what that request may
#: need, such as a database connection.
#: ``key``, ``storage_key``: str.
before_wait = _signals.signal("before_wait")

#: The view's response is stored, or the answer that its own database has kept.
#: ``key``, ``storage_key``: str; ``status``: int; ``kept``: bool, False when the body was too
#: large or incomplete, so that a retry gets 409 "response-not-kept"; ``seconds``: float, how long
#: the store took.
completed = _signals.signal("completed")

#: The claim was released; the next request with this key runs the view.
#: ``key``, ``storage_key``: str; ``reason``: ``"failed"`` (an exception left the view),
#: ``"not-stored"`` (``store_if``, ``dont_keep`` or a status that is never kept) or
#: ``"by-view"`` (the view called ``current_claim.release()``).
released = _signals.signal("released")

#: A duplicate got the stored response.
#: ``key``, ``storage_key``: str; ``status``: int; ``waited``: float, seconds; ``age``: float,
#: seconds since the response was stored.
replayed = _signals.signal("replayed")

#: A duplicate has waited for the first request, with or without getting its response.
#: ``key``, ``storage_key``: str; ``seconds``: float.
waited = _signals.signal("waited")

#: A request was answered with one of the library's problems.
#: ``key``: str or None; ``storage_key``: str or None; ``problem``: str, the last part of the
#: problem's type; ``status``: int; ``instance``: str, the URI that names this one answer.
rejected = _signals.signal("rejected")

#: A run has lost its claim: its lease ended before it was renewed, and another request may have
#: claimed its key.
#: ``key``, ``storage_key``, ``owner``: str; ``attempt``: int.
lease_lost = _signals.signal("lease_lost")

#: An operator has answered for an owner that died, or has let the view run again, with
#: ``flask idempotent resolve``. It is sent in the process of that command.
#: ``storage_key``: str; ``status``: int, or None where the next request runs the view.
resolved = _signals.signal("resolved")

#: The store failed to carry out a command.
#: ``operation``: ``"claim"``, ``"step"``, ``"complete"``, ``"release"`` or ``"renew"``;
#: ``error``: exception.
store_failed = _signals.signal("store_failed")

ALL: Iterable[NamedSignal] = (
    claimed,
    before_wait,
    completed,
    released,
    replayed,
    waited,
    rejected,
    lease_lost,
    resolved,
    store_failed,
)


def send(signal: NamedSignal, sender: object, **data: Any) -> None:
    """Send a signal to its receivers.

    An exception of a receiver is logged; the other receivers are still called.
    """
    if not signal.receivers or signal.is_muted:
        return
    # Not signal.send(), which stops at the first receiver that raises.
    for receiver in list(signal.receivers_for(sender)):
        try:
            if inspect.iscoroutinefunction(receiver):
                raise TypeError("a receiver must be a plain function, not an async one")
            receiver(sender, **data)
        except Exception:
            logger.exception("a receiver of the signal %s failed", signal.name)
