"""Where Sentinels say that the primary is.

Each Sentinel is asked in a thread of its own, so that a dead or silent one holds nobody up: when a
connection is opened, and twice a second as long as there is traffic. A demoted primary may go on
answering for seconds, and what its clients write in that time is lost; so they must not wait until
it refuses them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flask_idempotent import _timing
from flask_idempotent._forks import ForkAware
from flask_idempotent._logging import logger
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.redis.background import Background
from flask_idempotent.stores.redis.commands import pack
from flask_idempotent.stores.redis.connection import Connection, Place
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.translation import ERRORS, read_reply


class Answer(NamedTuple):
    """What a Sentinel said.

    :param asked_at: monotonic time at which it was asked.
    :param place: where the primary is; None when it does not know, or did not answer.
    :param epoch: the number of the failover that made it the primary; 0 when that is not known.
    :param fault: why there is no place.
    """

    asked_at: float
    place: Place | None = None
    epoch: int = 0
    fault: str = ""


class Sentinel(ForkAware):
    """One Sentinel, asked in a thread of its own.

    :param server: how to connect to it.
    :param service: the name by which it knows the primary.
    :param on_answer: called after each question; returns the seconds until the next one, or None.
    """

    def __init__(self, server: Server, service: str, on_answer: Callable[[], float | None]) -> None:
        self._server = server
        # A Sentinel answers both before it does anything else, so the epoch belongs to the address.
        self._question = b"".join(
            pack(("SENTINEL", word, service)) for word in ("GET-MASTER-ADDR-BY-NAME", "MASTER")
        )
        self._on_answer = on_answer
        self._background = Background(self._ask, "flask-idempotent-sentinel")
        super().__init__()

    def reset(self) -> None:
        self._connection: Connection | None = None
        #: What it said last.
        self.answer = Answer(float("-inf"), fault="it was not asked")

    def ask(self) -> None:
        """Ask it soon.

        :raises RuntimeError: when the process can have no more threads.
        """
        self._background.start()

    def _ask(self) -> float | None:
        asked_at = time.monotonic()
        try:
            self.answer = self._answer(asked_at)
        except ERRORS as error:
            self._disconnect()
            self.answer = Answer(asked_at, fault=str(error) or type(error).__name__)
        return self._on_answer()

    def _answer(self, asked_at: float) -> Answer:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._server.connection()
            connection.connect()
        connection.send_packed_command((self._question,), check_health=False)
        place, details = read_reply(connection), read_reply(connection)
        match place:
            case [bytes(host), bytes(port)] if port.isdigit():
                return Answer(asked_at, (host.decode(errors="replace"), int(port)), _epoch(details))
            case None:
                return Answer(asked_at, fault="it does not know a primary of this name")
            case Exception():
                return Answer(asked_at, fault=f"it answers: {place}")
            case _:
                return Answer(asked_at, fault=f"it answers {place!r}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def close(self) -> None:
        """End the thread and the connection."""
        self._background.close()
        self._disconnect()


def _epoch(reply: object) -> int:
    """Read the configuration epoch from a reply to SENTINEL MASTER, which may be refused."""
    if isinstance(reply, list):
        epoch = dict(zip(reply[::2], reply[1::2], strict=False)).get(b"config-epoch")
        if isinstance(epoch, bytes) and epoch.isdigit():
            return int(epoch)
    return 0


class Sentinels(ForkAware):
    """All Sentinels of a primary.

    :param servers: how to connect to each.
    :param service: the name by which they know the primary.
    :param on_move: called when they name another primary than before.
    :param is_used: whether to go on asking.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        service: str,
        on_move: Callable[[], None],
        is_used: Callable[[], bool],
    ) -> None:
        self._on_move = on_move
        self._is_used = is_used
        self._all = [Sentinel(server, service, self._on_answer) for server in servers]
        super().__init__()

    def reset(self) -> None:
        self._changed = threading.Condition()
        #: Where the primary was when they answered last.
        self.place: Place | None = None
        self._forgotten_at = float("-inf")

    def forget(self) -> None:
        """Believe only what they say from now on."""
        self._forgotten_at = time.monotonic()

    def places(self, since: float) -> list[Place]:
        """Return where the primary may be, the likeliest first.

        :param since: monotonic time at which the caller began to wait for the server.
        :raises StoreUnavailable: when no Sentinel says in time where it is.
        """
        now = time.monotonic()
        after = max(self._forgotten_at, now - 2 * _timing.SENTINEL_EVERY)
        until = max(since + _timing.SENTINEL_WITHIN, now + _timing.SENTINEL_AT_LEAST)
        try:
            for sentinel in self._all:
                sentinel.ask()
        except RuntimeError as error:
            raise StoreUnavailable(f"the Sentinels cannot be asked: {error}", sent=False) from error
        with self._changed:
            self._changed.wait_for(lambda: self._most_answered(after), until - now)
            places = self._ranked()
            if not places and self.place is not None:
                # It was right before all Sentinels became unavailable, and its role is checked.
                places = [self.place]
        if not places:
            faults = "; ".join(dict.fromkeys(sentinel.answer.fault for sentinel in self._all))
            raise StoreUnavailable(f"no Sentinel names the primary: {faults}", sent=False)
        return places

    def _most_answered(self, after: float) -> bool:
        answered = sum(sentinel.answer.asked_at >= after for sentinel in self._all)
        return answered > len(self._all) // 2

    def _ranked(self) -> list[Place]:
        """Return the places that were named after the last failover, the one of most votes first.

        What Sentinels name that have not heard of that failover is the former primary. It may still
        answer, and must not be used even if the new one cannot be reached.
        """
        answers = [sentinel.answer for sentinel in self._all if sentinel.answer.place is not None]
        last = max((answer.epoch for answer in answers), default=0)
        votes = Counter(answer.place for answer in answers if answer.epoch == last)
        return [place for place, _ in votes.most_common() if place is not None]

    def _on_answer(self) -> float | None:
        """Note where the primary is, and return the seconds until the next question."""
        with self._changed:
            before = self.place
            place = self.place = next(iter(self._ranked()), before)
            self._changed.notify_all()
        if before is not None and place is not None and place != before:
            text = "the Sentinels name another primary: %s:%s instead of %s:%s"
            logger.warning(text, *place, *before)
            self._on_move()
        if self._is_used():
            return _timing.SENTINEL_EVERY
        self.forget()
        return None

    def close(self) -> None:
        """End the threads and connections."""
        for sentinel in self._all:
            sentinel.close()
