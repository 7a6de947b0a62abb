"""``ConfirmingClient``: what is sent for ``min_replicas``, and what follows from each reply."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreUnavailable, TooFewReplicas
from flask_idempotent.record_format import encode
from flask_idempotent.stores.redis.commands import Command, Script, pack
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.replicas import ConfirmingClient
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.topology import SingleServer
from flask_idempotent.stores.redis.translation import ScriptUnknown
from tests.stores.harness import running
from tests.stores.redis.helpers import KEY


class ScriptedTopology(SingleServer):
    """Answers exchanges with the replies that a test says, in order.

    :param replies: the replies of each exchange, or the error that it raises.
    """

    def __init__(self, *replies: list[Any] | Exception) -> None:
        super().__init__(Server.from_url("redis://127.0.0.1:1/0"))
        self._replies = list(replies)
        self.sent: list[bytes] = []
        self.rechecks = 0

    def exchange(self, storage_key: str, packed: bytes, count: int) -> list[Any]:
        self.sent.append(packed)
        replies = self._replies.pop(0)
        if isinstance(replies, Exception):
            raise replies
        assert len(replies) == count
        return replies

    def recheck(self, node: Node) -> None:
        self.rechecks += 1

    def asked(self) -> list[bool]:
        """Whether the replicas were asked in each exchange."""
        return [pack(("WAIT", 1, 700)) in packed for packed in self.sent]


RECORD = encode(running())
SET = Command("SET", wrote=lambda reply: reply is None)
COMPLETE = Script("complete", wrote=lambda reply: reply == 1)


class TestConfirmingClient:
    """What is sent, and what follows from each reply."""

    def test_in_the_same_write(self) -> None:
        """WAIT is sent behind the command, in the same write, and waits 700 ms."""
        topology = ScriptedTopology([None, 1])
        assert ConfirmingClient(topology, 1).call(SET, KEY, RECORD) is None
        assert topology.sent == [
            SET.pack(KEY, RECORD) + b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$3\r\n700\r\n"
        ]

    def test_unknown_script(self) -> None:
        """A server that lacks the script is sent its source, with WAIT behind it."""
        topology = ScriptedTopology([ScriptUnknown("NOSCRIPT", sent=False), 1], [1, 1])
        assert ConfirmingClient(topology, 1).run(COMPLETE, KEY, RECORD) == 1
        assert topology.sent[1].startswith(COMPLETE.by_source.pack(KEY, RECORD))
        assert topology.asked() == [True, True]

    @pytest.mark.parametrize("confirmed", [0, 1])
    def test_nothing_written(self, confirmed: int) -> None:
        """Where nothing was written, it does not matter how many replicas have confirmed."""
        topology = ScriptedTopology([RECORD, confirmed])
        assert ConfirmingClient(topology, 1).call(SET, KEY, RECORD) == RECORD
        assert topology.rechecks == 0

    def test_other_commands(self) -> None:
        """A command or script of which nothing must be confirmed is sent as it is."""
        topology = ScriptedTopology([b"OK"], [1])
        client = ConfirmingClient(topology, 1)
        assert client.call(Command("SET"), KEY, RECORD) == b"OK"
        assert client.run(Script("release"), KEY, RECORD) == 1
        assert topology.asked() == [False, False]

    def test_error(self) -> None:
        """An error of the command itself is raised, whatever WAIT says."""
        topology = ScriptedTopology([StoreUnavailable("down", sent=False), 1])
        with pytest.raises(StoreUnavailable, match="down"):
            ConfirmingClient(topology, 1).call(SET, KEY, RECORD)

    def test_wait_is_not_permitted(self) -> None:
        """A WAIT that fails leaves a record that must be released, and says why."""
        refusal = StoreUnavailable("NOPERM this user has no permissions", sent=False)
        topology = ScriptedTopology([None, refusal])
        with pytest.raises(TooFewReplicas, match="1 replicas must confirm: NOPERM") as caught:
            ConfirmingClient(topology, 1).call(SET, KEY, RECORD)
        assert caught.value.sent

    def test_topology_is_asked_again(self) -> None:
        """Each time that replicas do not confirm, it is asked where the server is."""
        topology = ScriptedTopology([None, 0], [None], [1, 0])
        client = ConfirmingClient(topology, 1)
        for _ in range(2):
            with pytest.raises(TooFewReplicas):
                client.call(SET, KEY, RECORD)
        assert topology.rechecks == 2

    def test_back(self) -> None:
        """After a confirmation WAIT travels with the command, and old connections are dropped."""
        topology = ScriptedTopology([None, 0], [None], [1, 1], [None, 1])
        client, (node,) = ConfirmingClient(topology, 1), topology.nodes()
        with pytest.raises(TooFewReplicas):
            client.call(SET, KEY, RECORD)
        before = node.generation
        client.call(SET, KEY, RECORD)
        assert node.generation == before + 1
        client.call(SET, KEY, RECORD)
        assert topology.asked() == [True, False, True, True]
        assert node.generation == before + 1

    @pytest.mark.parametrize(
        "question",
        [
            [0, 1],
            [StoreUnavailable("broken", sent=False), 1],
            [1, StoreUnavailable("broken", sent=False)],
            StoreUnavailable("all 50 connections are in use", sent=False),
        ],
        ids=["another's", "error", "wait fails", "not sent"],
    )
    def test_question_fails(self, question: list[Any] | Exception) -> None:
        """However the question apart fails, the record that was written must be released."""
        topology = ScriptedTopology([None, 0], [None], question)
        client = ConfirmingClient(topology, 1)
        for _ in range(2):
            with pytest.raises(TooFewReplicas) as caught:
                client.call(SET, KEY, RECORD)
            assert caught.value.sent

    def test_slow_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two slow commands would break the bound of two seconds: the second is not sent."""
        monkeypatch.setattr(_timing, "CONFIRM_WITHIN", -1.0)
        topology = ScriptedTopology([None, 0], [None])
        client = ConfirmingClient(topology, 1)
        for _ in range(2):
            with pytest.raises(TooFewReplicas):
                client.call(SET, KEY, RECORD)
        assert topology.asked() == [True, False]

    def test_each_server_by_itself(self) -> None:
        """Missing replicas of one server do not matter to the keys of another."""

        class Two(ScriptedTopology):
            def node_of(self, storage_key: str) -> Node:
                return nodes[storage_key]

        nodes = {key: ScriptedTopology().nodes()[0] for key in ("one", "two")}
        topology = Two([None, 0], [None, 1])
        client = ConfirmingClient(topology, 1)
        with pytest.raises(TooFewReplicas):
            client.call(SET, "one", RECORD)
        client.call(SET, "two", RECORD)
        assert topology.asked() == [True, True]
