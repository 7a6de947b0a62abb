"""Pending writes: responses and releases that the store did not accept at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask_idempotent._logging import logger
from flask_idempotent.errors import StoreError, StoreUnavailable


@dataclass(eq=False, slots=True)
class PendingWrite:
    """A write that the store has not accepted yet.

    :param storage_key: the record that it is about.
    :param run: writes, or raises ``StoreError``.
    :param until: monotonic time after which it is of no use.
    :param on_lost: called with the reason when the store never accepted it.
    """

    storage_key: str
    run: Callable[[], object]
    until: float
    on_lost: Callable[[str], None]
    #: Why the store did not accept it the last time.
    failure: str = ""


class PendingWrites:
    """The writes that the store has not accepted yet, in the order in which they are tried."""

    def __init__(self) -> None:
        self._writes: list[PendingWrite] = []
        self._running = threading.Lock()

    def __len__(self) -> int:
        return len(self._writes)

    @property
    def storage_keys(self) -> list[str]:
        """The records that the writes are about."""
        return [write.storage_key for write in self._writes]

    @property
    def is_running(self) -> bool:
        """Whether a thread is trying them now."""
        return self._running.locked()

    def add(self, write: PendingWrite) -> None:
        """Add a write, which the next call of ``run`` tries."""
        # Without a lock: a destructor may interrupt the thread that holds it.
        self._writes.append(write)

    def run(self, storage_key: str | None = None) -> None:
        """Try the writes once more, unless another thread is trying them.

        :param storage_key: the one record whose writes are tried; None for all of them.
        :raises StoreUnavailable: when the store is still unavailable; the rest is not tried.
        """
        if not self._writes or not self._running.acquire(blocking=False):
            return
        try:
            for write in list(self._writes):
                if storage_key in (None, write.storage_key):
                    self._try(write)
        finally:
            self._running.release()

    def _try(self, write: PendingWrite) -> None:
        try:
            write.run()
        except StoreError as error:
            write.failure = str(error)
            if time.monotonic() < write.until:
                # This one alone may break the connection: the others come first next time.
                self._writes.append(write)
                self._writes.remove(write)
                if isinstance(error, StoreUnavailable):
                    raise
                return
            write.on_lost(str(error))
        except Exception as error:
            # A write that can never succeed must not keep the others from being tried.
            logger.exception("a pending write cannot be carried out")
            write.on_lost(str(error))
        self._writes.remove(write)

    def give_up(self, reason: str) -> None:
        """Report every write as lost."""
        for write in self._writes:
            write.on_lost(f"{reason}; {write.failure}" if write.failure else reason)
