"""Vigils: waiting awake for a reply that is about to come.

A thread that sleeps on its socket is woken late and finds its processor's caches cold. Where the
server is near, that takes longer than the server takes to answer.
"""

from __future__ import annotations

import os
import select
import time
from types import BuiltinFunctionType
from typing import Any

from flask_idempotent._forks import ProcessBound

#: Seconds to stay awake for one reply.
_AWAKE = 100e-6
#: Seconds that one look takes at most, unless others need the processor or Python's lock.
_UNDISTURBED = 40e-6
#: Replies that are waited for asleep, at most, before the next vigil.
_LONGEST_REST = 1023


class Vigil(ProcessBound):
    """Waits awake for the replies of one server, as long as they come that soon.

    Each vigil in vain doubles the number of replies that are waited for asleep until the next: a
    server that is far, or a processor that others need as well, costs next to nothing.
    """

    def reset(self) -> None:
        # Threads may race for these numbers: a vigil too many or too few comes of it.
        self._rest = 0
        self._resting = 0
        self._possible = _is_possible()

    def keep(self, connection: Any) -> bool:
        """Stay awake until a redis-py connection has something to read, or for a moment in vain.

        :returns: whether that was worth it.
        """
        if self._resting > 0:
            self._resting -= 1
            return False
        if not self._possible:
            return False
        found = _look(connection._sock)
        if found:
            self._rest //= 2
        else:
            self._rest = self._resting = min(2 * self._rest + 1, _LONGEST_REST)
        return found


def _is_possible() -> bool:
    # Windows has no poll, and gevent one of its own: other greenlets need the thread.
    poll = getattr(select, "poll", None)
    return isinstance(poll, BuiltinFunctionType) and hasattr(os, "sched_yield")


def _look(sock: Any) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    began = before = time.perf_counter()
    while True:
        ready = poll.poll(0)
        now = time.perf_counter()
        if now - before > _UNDISTURBED or now - began > _AWAKE:
            return False
        if ready:
            return True
        before = now
        # The server may need this very processor.
        os.sched_yield()
