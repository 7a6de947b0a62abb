"""Answers that mean: this is the wrong server, ask another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreError, StoreUnavailable, WriteRefused
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import pack
from tests.support.fake_sentinels import AnsweringServer
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server


class Scripted:
    """A server that answers every command with what a test says, for each connection."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.server = AnsweringServer(self._answer)
        self.url = f"redis://:secret@127.0.0.1:{self.server.port}/0"

    def _answer(self, words: list[bytes], number: int) -> bytes:
        reply = self.answers[min(number, len(self.answers) - 1)]
        if words[0] == b"CLIENT" or (words[0] == b"AUTH" and not reply.startswith(b"-WRONG")):
            reply = b"+OK"
        return reply + b"\r\n"


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    made = []

    def make(*answers: bytes) -> Scripted:
        made.append(Scripted(*answers))
        return made[-1]

    yield make
    for scripted in made:
        scripted.server.close()


TURNED_AWAY = [
    b"-LOADING Redis is loading the dataset in memory",
    b"-NOAUTH Authentication required.",
    b"-WRONGPASS invalid username-password pair or user is disabled.",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"-READONLY You can't write against a read only replica.",
]


@pytest.mark.parametrize("refusal", TURNED_AWAY)
class TestTurnedAway:
    """Answers that mean that this is the wrong server and that nothing was carried out."""

    def test_another_connection_serves(
        self, scripted: Callable[..., Scripted], refusal: bytes
    ) -> None:
        """The command is sent once more, on a new connection."""
        server = scripted(refusal, b"+PONG")
        client = Client.from_url(server.url)
        assert client.execute("PING") == b"PONG"
        assert server.server.connections == 2
        client.close()

    def test_the_same_again(self, scripted: Callable[..., Scripted], refusal: bytes) -> None:
        """The same answer again is an error that says that nothing was carried out."""
        server = scripted(refusal)
        client = Client.from_url(server.url)
        with pytest.raises(StoreError) as caught:
            client.execute("PING")
        assert caught.value.sent is False
        assert isinstance(caught.value, WriteRefused) is refusal.startswith(b"-READONLY")
        assert server.server.connections == 2
        client.close()

    def test_every_command_of_a_batch(
        self, scripted: Callable[..., Scripted], refusal: bytes
    ) -> None:
        """Commands of one round trip are refused together, and leave no reply behind."""
        server = scripted(refusal, refusal, b"+PONG")
        client = Client.from_url(server.url)
        replies = client.nodes()[0].exchange(pack(("PING",)) * 3, 3)
        assert [isinstance(reply, StoreError) for reply in replies] == [True] * 3
        # A reply that comes later must not be read as the next command's.
        client.close()
        assert client.nodes()[0].exchange(pack(("PING",)) * 3, 3) == [b"PONG"] * 3
        client.close()


class TestLoading:
    def test_is_over(self, scripted: Callable[..., Scripted]) -> None:
        """A connection that got this answer is closed, and the next command opens another one."""
        server = scripted(TURNED_AWAY[0])
        client = Client.from_url(server.url)
        with pytest.raises(StoreUnavailable):
            client.execute("PING")
        server.answers[:] = [b"+PONG"]
        assert client.execute("PING") == b"PONG"
        client.close()


class TestDoubt:
    def test_first_sending_was_lost(
        self, proxy: Proxy, clean_valkey: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refusal of the second sending says nothing about the first, whose reply was lost."""
        monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)
        client = Client.from_url(proxy.url)
        client.execute("PING")
        proxy.faults.append(Fault(b"first", "lose reply"))
        proxy.faults.append(Fault(b"first", "refuse", reply=TURNED_AWAY[-1] + b"\r\n", times=9))
        with pytest.raises(WriteRefused) as caught:
            client.execute("SET", "first", "1")
        assert caught.value.sent is True
        assert clean_valkey.client.get("first") == b"1"
        client.close()
