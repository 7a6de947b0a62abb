"""Claims and completions that replicas have confirmed: ``min_replicas``.

``WAIT`` travels behind the command, in the same write. When replicas are missing it would hold up
every request, replays too. So from then on a command is sent alone, and only what it wrote is
confirmed, by one request each second; the others are taken for unconfirmed at once. As soon as one
is confirmed, ``WAIT`` travels behind the command again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from flask_idempotent import _timing
from flask_idempotent._record_header import OWNER
from flask_idempotent.errors import IdempotentError, StoreError, TooFewReplicas
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import Command, Script, Wrote, pack
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.topology import Topology
from flask_idempotent.stores.redis.translation import ScriptUnknown, or_raise


class _Replicas:
    """Whether the replicas of one server confirm what it writes."""

    def __init__(self) -> None:
        self.are_missing = False
        self._next_question = 0.0

    def may_ask(self) -> bool:
        """Whether it is time for the next question; if so, nobody else asks for a second."""
        now = time.monotonic()
        if now < self._next_question:
            return False
        self._next_question = now + _timing.REPLICAS_EVERY
        return True


class ConfirmingClient(Client):
    """Sends commands about keys, and waits until replicas have confirmed what they wrote.

    :param topology: knows which server has a key.
    :param wanted: how many replicas must confirm it.
    """

    def __init__(self, topology: Topology, wanted: int) -> None:
        super().__init__(topology)
        self._wanted = wanted
        self._wait = pack(("WAIT", wanted, round(_timing.REPLICAS_TIMEOUT * 1000)))
        self._confirm = Script("confirm")
        self._replicas: WeakKeyDictionary[Node, _Replicas] = WeakKeyDictionary()

    def call(self, command: Command, key: str, *arguments: Any) -> Any:
        if command.wrote is None:
            return super().call(command, key, *arguments)
        return self._send_confirmed([command], command.wrote, key, arguments)

    def run(self, script: Script, key: str, *arguments: Any) -> Any:
        if script.wrote is None:
            return super().run(script, key, *arguments)
        commands = [script.by_digest, script.by_source]
        return self._send_confirmed(commands, script.wrote, key, arguments)

    def _send_confirmed(
        self, commands: Sequence[Command], wrote: Wrote, key: str, arguments: tuple[Any, ...]
    ) -> Any:
        """Send a command, and make sure that replicas confirm what it writes.

        :param commands: the command, and what to send where the server does not know its script.
        :raises TooFewReplicas: when it wrote, and they do not confirm it.
        """
        started = time.monotonic()
        node = self.topology.node_of(key)
        replicas = self._replicas.setdefault(node, _Replicas())
        wait, count = (b"", 1) if replicas.are_missing else (self._wait, 2)
        for command in commands:
            packed = command.pack(key, *arguments) + wait
            reply, *confirmed = self.topology.exchange(key, packed, count)
            if type(reply) is not ScriptUnknown:
                break
        if wrote(or_raise(reply)):
            if not confirmed:
                confirmed = [self._confirm_apart(key, replicas, arguments[0][OWNER], started)]
            self._check(node, replicas, confirmed[0])
        return reply

    def _confirm_apart(
        self, key: str, replicas: _Replicas, owner: bytes, started: float
    ) -> int | IdempotentError:
        """Ask the replicas for a record that was written without waiting for them.

        :param started: the monotonic time before the record was written.
        :returns: how many have it, or an error.
        """
        # Two slow commands would take longer than a request may wait.
        is_late = time.monotonic() - started > _timing.CONFIRM_WITHIN
        if is_late or not replicas.may_ask():
            return TooFewReplicas("they did not confirm earlier writes")
        packed = self._confirm.by_source.pack(key, owner) + self._wait
        try:
            is_there, confirmed = self.topology.exchange(key, packed, 2)
        except StoreError as error:
            return error
        if isinstance(is_there, IdempotentError):
            return is_there
        return confirmed if is_there else TooFewReplicas("the record is gone, or another's")

    def _check(self, node: Node, replicas: _Replicas, confirmed: int | IdempotentError) -> None:
        """Note whether enough replicas have confirmed a write.

        :param confirmed: the reply to WAIT, or why there is none.
        :raises TooFewReplicas: when they are too few.
        """
        # The record is written, whatever became of WAIT: it must be released.
        if isinstance(confirmed, IdempotentError):
            raise TooFewReplicas(
                f"{self._wanted} replicas must confirm: {confirmed}"
            ) from confirmed
        if confirmed < self._wanted:
            replicas.are_missing = True
            self.topology.recheck(node)
            raise TooFewReplicas(f"{self._wanted} replicas must confirm, and {confirmed} did")
        if replicas.are_missing:
            replicas.are_missing = False
            # The other connections may lead to a server that was cut off from its replicas.
            node.drop()
