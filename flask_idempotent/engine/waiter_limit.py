"""The limit of the requests that may wait at once in one process."""

from __future__ import annotations

import threading

from flask_idempotent._forks import ForkAware


class WaiterLimit(ForkAware):
    """Counts the requests of this process that wait.

    :param most: how many may wait at once; None for any number.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        super().__init__()

    def reset(self) -> None:
        #: How many wait now.
        self.count = 0
        self._counting = threading.Lock()

    def enter(self) -> bool:
        """Count one more, unless too many wait already.

        :returns: whether it may wait. Then ``leave`` must follow.
        """
        with self._counting:
            if self._most is not None and self.count >= self._most:
                return False
            self.count += 1
            return True

    def leave(self) -> None:
        """Count one less."""
        with self._counting:
            self.count -= 1
