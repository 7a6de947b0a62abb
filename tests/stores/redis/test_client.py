"""Commands: bounded waiting, one more sending, translated errors, no password anywhere."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import redis
import redis.exceptions

from flask_idempotent import _timing
from flask_idempotent.errors import (
    StoreError,
    StoreUnavailable,
)
from flask_idempotent.stores.redis import node as module
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import Script
from tests.support.pauses import within
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server, free_port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that accepts no more connections, and does not refuse them either."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        with suppress(TimeoutError):
            while True:
                stack.enter_context(socket.create_connection(listener.getsockname(), 0.1))
        yield listener.getsockname()[1]


class TestBounds:
    def test_dead_server_is_noticed(self) -> None:
        """A port where nobody listens is an error within 2 seconds, and nothing was sent."""
        client = Client.from_url(f"redis://127.0.0.1:{free_port()}/0")
        with within(2), pytest.raises(StoreUnavailable) as caught:
            client.execute("PING")
        assert caught.value.sent is False

    def test_silent_server_is_noticed(self, silent_port: int) -> None:
        """A server that accepts and never answers is an error within 2 seconds."""
        client = Client.from_url(f"redis://127.0.0.1:{silent_port}/0")
        with within(2), pytest.raises(StoreUnavailable):
            client.execute("PING")

    def test_deaf_server_is_noticed(self, deaf_port: int) -> None:
        """A server that takes no connection is an error within 2 seconds, and nothing was sent."""
        client = Client.from_url(f"redis://127.0.0.1:{deaf_port}/0")
        with within(2), pytest.raises(StoreUnavailable) as caught:
            client.execute("PING")
        assert caught.value.sent is False

    def test_users_patience_does_not_count(self, silent_port: int) -> None:
        """Long timeouts and many retries of a redis-py client do not make this longer."""
        patient = redis.Redis(port=silent_port, socket_timeout=30, socket_connect_timeout=30)
        with within(2), pytest.raises(StoreUnavailable):
            Client.from_redis(patient).execute("PING")

    def test_users_shorter_patience_counts(self, silent_port: int) -> None:
        """A shorter timeout in the address is used."""
        client = Client.from_url(f"redis://127.0.0.1:{silent_port}/0?socket_timeout=0.05")
        with within(_timing.REPLY_TIMEOUT), pytest.raises(StoreUnavailable):
            client.execute("PING")

    def test_crowd_before_a_silent_server(self, silent_port: int) -> None:
        """However many wait for a few connections to a silent server, each fails in time."""
        options = "socket_timeout=0.3&max_connections=1"
        client = Client.from_url(f"redis://127.0.0.1:{silent_port}/0?{options}")

        def ask(_: int) -> None:
            with pytest.raises(StoreUnavailable):
                client.execute("PING")

        with within(2), ThreadPoolExecutor(10) as pool:
            list(pool.map(ask, range(10)))

    def test_full_pool_blocks(self, client: Client) -> None:
        """If there are more threads than connections they take turns, and none fails."""
        threads = module._MAX_CONNECTIONS + 30
        barrier, failures = threading.Barrier(threads), []

        def work() -> None:
            barrier.wait()
            try:
                client.execute("PING")
            except StoreError as error:
                failures.append(error)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert failures == []


class TestResend:
    @pytest.fixture
    def noticed_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count a broken connection as noticed at once, however slow this machine is."""
        monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)

    @pytest.mark.usefixtures("noticed_at_once")
    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_broken_connection_is_mended(self, proxy: Proxy, client: Client, action: str) -> None:
        """A command whose connection breaks is sent once more, and nobody notices."""
        client.execute("SET", "counter", 0)
        proxy.faults.append(Fault(b"INCR", action))  # type: ignore[arg-type]
        count = client.execute("INCR", "counter")
        assert count == (1 if action == "cut before" else 2)
        assert proxy.happened == [action]

    @pytest.mark.usefixtures("noticed_at_once")
    def test_once_only(self, proxy: Proxy, client: Client) -> None:
        """A command that breaks twice is an error whose outcome is unknown."""
        proxy.faults.append(Fault(b"INCR", "lose reply", times=2))
        with pytest.raises(StoreUnavailable) as caught:
            client.execute("INCR", "counter")
        assert caught.value.sent is True
        assert client.execute("GET", "counter") == b"2"

    def test_not_after_a_silence(self, proxy: Proxy, client: Client) -> None:
        """A command whose reply did not come in time is not sent again."""
        proxy.faults.append(Fault(b"INCR", "swallow"))
        with pytest.raises(StoreUnavailable):
            client.execute("INCR", "counter")
        assert client.execute("GET", "counter") is None

    @pytest.mark.usefixtures("noticed_at_once")
    def test_idle_connection_that_was_closed(self, proxy: Proxy, client: Client) -> None:
        """A connection that the server closed meanwhile is replaced."""
        client.execute("PING")
        proxy.cut_all()
        assert client.execute("PING") == b"PONG"


class TestScripts:
    def test_flushed_scripts_are_sent_again(self, clean_valkey: Server, client: Client) -> None:
        """After SCRIPT FLUSH, or on a new server, a script is sent whole."""
        script = Script("release")
        clean_valkey.client.script_flush()
        assert client.run(script, "IDEMPOTENT_{x}", b"o" * 16, 1000, "@0") == 0
        clean_valkey.client.script_flush()
        replies = client.run_many(script, [(f"k{n}", b"o" * 16, 1000, "@0") for n in range(3)])
        assert replies == [0, 0, 0]


class TestErrors:
    def test_real_error_reply(self, client: Client) -> None:
        """An error reply leaves the connection usable."""
        client.execute("SET", "text", "x")
        with pytest.raises(StoreUnavailable, match="not an integer"):
            client.execute("INCR", "text")
        assert client.execute("GET", "text") == b"x"


class TestSecrets:
    def test_password_is_nowhere(self, clean_valkey: Server) -> None:
        """Neither the representation nor an error shows the password."""
        url = f"redis://user:s3cret@127.0.0.1:{clean_valkey.port}/0"
        client = Client.from_url(url)
        with pytest.raises(StoreUnavailable) as caught:
            client.execute("PING")
        assert "s3cret" not in str(caught.value) + repr(client) + repr(caught.value)


class TestInterruption:
    def test_reply_is_nobody_elses(
        self, client: Client, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reply to a command that a signal interrupted is not read as the next one's."""
        client.execute("PING")

        def interrupted(*_: object) -> object:
            monkeypatch.undo()
            raise SystemExit

        proxy.faults.append(Fault(b"first", "delay", 0.05))
        monkeypatch.setattr(module, "read_reply", interrupted)
        with pytest.raises(SystemExit):
            client.execute("ECHO", "first")
        assert client.execute("ECHO", "second") == b"second"

    def test_greeting_is_nobody_elses(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same applies to the reply to a greeting."""

        def interrupted(connection: object, **options: object) -> object:
            monkeypatch.undo()
            raise SystemExit

        monkeypatch.setattr(redis.Connection, "read_response", interrupted)
        with pytest.raises(SystemExit):
            client.execute("ECHO", "first")
        assert client.execute("ECHO", "second") == b"second"
