"""The door to redis-py: bounded waiting, one resend, translated errors, no password anywhere."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import redis
import redis.exceptions

from flask_idempotent import _timing
from flask_idempotent.errors import (
    RecordUnreadable,
    SettingsError,
    StoreError,
    StoreUnavailable,
    WriteRefused,
)
from flask_idempotent.stores.redis import client as module
from flask_idempotent.stores.redis.client import Client, Script
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server, free_port


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    client = Client.from_url(proxy.url)
    yield client
    client.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that takes no more connections, and does not say so."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        with suppress(TimeoutError):
            while True:
                stack.enter_context(socket.create_connection(listener.getsockname(), 0.1))
        yield listener.getsockname()[1]


class TestBounds:
    def test_dead_server_is_told_at_once(self) -> None:
        """A port where nobody listens is an error within 2 seconds, and nothing was sent."""
        client = Client.from_url(f"redis://127.0.0.1:{free_port()}/0")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            client.execute("PING")
        assert time.monotonic() - started < 2
        assert caught.value.sent is False

    def test_silent_server_is_told(self, silent_port: int) -> None:
        """A server that accepts and never answers is an error within 2 seconds."""
        client = Client.from_url(f"redis://127.0.0.1:{silent_port}/0")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            client.execute("PING")
        assert time.monotonic() - started < 2

    def test_deaf_server_is_told(self, deaf_port: int) -> None:
        """A server that takes no connection is an error within 2 seconds, and nothing was sent."""
        client = Client.from_url(f"redis://127.0.0.1:{deaf_port}/0")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            client.execute("PING")
        assert time.monotonic() - started < 2
        assert caught.value.sent is False

    def test_users_patience_does_not_count(self, silent_port: int) -> None:
        """A redis-py client with long timeouts and many retries is told within 2 seconds too."""
        patient = redis.Redis(port=silent_port, socket_timeout=30, socket_connect_timeout=30)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            Client.from_redis(patient).execute("PING")
        assert time.monotonic() - started < 2

    def test_users_shorter_patience_counts(self, silent_port: int) -> None:
        """A shorter timeout of the user's is kept."""
        client = Client.from_url(f"redis://127.0.0.1:{silent_port}/0?socket_timeout=0.05")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            client.execute("PING")
        assert time.monotonic() - started < _timing.REPLY_TIMEOUT

    def test_crowd_before_a_silent_server(self, silent_port: int) -> None:
        """However many wait for the few connections to a silent server, each is told in time."""
        options = "socket_timeout=0.3&max_connections=1"
        client = Client.from_url(f"redis://127.0.0.1:{silent_port}/0?{options}")

        def ask(_: int) -> float:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                client.execute("PING")
            return time.monotonic() - started

        with ThreadPoolExecutor(10) as pool:
            assert max(pool.map(ask, range(10))) < 2

    def test_full_pool_blocks(self, client: Client) -> None:
        """More threads than connections wait their turn; none fails."""
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
        """A broken connection is noticed at once, however slow this machine is."""
        monkeypatch.setattr(_timing, "RESEND_WITHIN", 10.0)

    @pytest.mark.usefixtures("noticed_at_once")
    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_broken_connection_is_mended(self, proxy: Proxy, client: Client, action: str) -> None:
        """A command whose connection breaks is sent once more, without a word."""
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
        """A command that waited in vain is not sent again: its time is over."""
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
    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            ("OOM command not allowed when used memory > 'maxmemory'.", WriteRefused),
            ("READONLY You can't write against a read only replica.", WriteRefused),
            ("MISCONF Redis is configured to save RDB snapshots", WriteRefused),
            ("NOREPLICAS Not enough good replicas to write.", WriteRefused),
            ("@user_script: 40: -READONLY You can't write against a replica.", WriteRefused),
            ("ERR unknown key NO-OOM", StoreUnavailable),
            ("ERR unknown command", StoreUnavailable),
        ],
    )
    def test_error_replies(self, message: str, kind: type[StoreError]) -> None:
        """A server that takes no writes is told apart from one that fails."""
        error = module._refusal(redis.exceptions.ResponseError(message))
        assert isinstance(error, StoreError)
        assert type(error) is kind
        assert error.sent is False
        assert str(error) == message

    @pytest.mark.parametrize("before", ["", "ERR Error running script (call to f_1): @user: 7: "])
    def test_another_kind_of_value(self, before: str) -> None:
        """Where the key holds a list, say, the server is well and the record is unreadable."""
        message = f"{before}WRONGTYPE Operation against a key holding the wrong kind of value"
        error = module._refusal(redis.exceptions.ResponseError(message))
        assert type(error) is RecordUnreadable

    def test_real_error_reply(self, client: Client) -> None:
        """An error reply leaves the connection usable."""
        client.execute("SET", "text", "x")
        with pytest.raises(StoreUnavailable, match="not an integer"):
            client.execute("INCR", "text")
        assert client.execute("GET", "text") == b"x"

    def test_every_error_of_redis_is_translated(self) -> None:
        """Whatever redis-py raises for one server is caught by the names this module catches."""
        errors = [
            value
            for value in vars(redis.exceptions).values()
            if isinstance(value, type) and issubclass(value, Exception)
        ]
        assert len(errors) > 10
        strays = {e.__name__ for e in errors if not issubclass(e, module._ERRORS)}
        of_clusters = {
            "CrossSlotTransactionError",
            "IncorrectPolicyType",
            "InvalidPipelineStack",
            "RedisClusterException",
            "SlotNotCoveredError",
        }
        assert strays <= of_clusters


class TestSecrets:
    def test_password_is_nowhere(self, clean_valkey: Server) -> None:
        """Neither the representation nor an error shows the password."""
        url = f"redis://user:s3cret@127.0.0.1:{clean_valkey.port}/0"
        client = Client.from_url(url)
        with pytest.raises(StoreUnavailable) as caught:
            client.execute("PING")
        assert "s3cret" not in str(caught.value) + repr(client) + repr(caught.value)

    def test_representation_names_the_place(self) -> None:
        """The representation says where it connects."""
        assert repr(Client.from_url("redis://h:7/3")) == "<Client redis://h:7/3>"
        assert repr(Client.from_url("rediss://h:7/3")) == "<Client rediss://h:7/3>"
        assert repr(Client.from_url("unix:///run/r?db=2")) == "<Client unix:///run/r?db=2>"


class TestMaking:
    def test_driver_is_looked_up_once(self) -> None:
        """What redis-py says of itself to the server is found out once, not for each connection."""
        client = Client.from_url("redis://localhost")
        one, other = client._connect(), client._connect()
        assert one is not other
        # Releases before 7.2 keep it elsewhere.
        assert getattr(one, "driver_info", None) is getattr(other, "driver_info", None)

    @pytest.mark.parametrize("url", ["redis://:s3/cret@h:1/0", "redis://h:s3cret/0"])
    def test_bad_address(self, url: str) -> None:
        """An address that redis-py cannot use is a settings error that quotes none of it."""
        with pytest.raises(SettingsError, match="address cannot be used") as caught:
            Client.from_url(url)
        assert "s3" not in str(caught.value)

    def test_unknown_option(self) -> None:
        """An option that this kind of connection does not take is a settings error."""
        with pytest.raises(SettingsError, match=r"option 1 .* is unknown"):
            Client.from_url("redis://h/0?ssl_ca_certs=ca.pem")
        Client.from_url("rediss://h/0?ssl_ca_certs=ca.pem")

    def test_redis_client_with_decoding(self, clean_valkey: Server) -> None:
        """A redis-py client that decodes replies lends its address, not its decoding."""
        given = redis.Redis(port=clean_valkey.port, db=3, decode_responses=True)
        client = Client.from_redis(given)
        client.execute("SET", "k", b"\xff")
        assert client.execute("GET", "k") == b"\xff"
        assert client.database == 3
        client.close()

    def test_credential_provider(self, clean_valkey: Server) -> None:
        """A redis-py client's provider is asked for each connection, so passwords may change."""
        passwords = ["first"]

        class Provider(redis.CredentialProvider):
            def get_credentials(self) -> tuple[str, str]:
                return "shop", passwords[-1]

        def allow(password: str) -> None:
            clean_valkey.client.execute_command(
                "ACL", "SETUSER", "shop", "on", "resetpass", f">{password}", "+ping"
            )

        allow("first")
        given = redis.Redis(port=clean_valkey.port, credential_provider=Provider())
        client = Client.from_redis(given)
        try:
            assert client.execute("PING") == b"PONG"
            allow("second")
            passwords.append("second")
            clean_valkey.client.execute_command("CLIENT", "KILL", "USER", "shop")
            assert client.execute("PING") == b"PONG"
        finally:
            client.close()
            clean_valkey.client.acl_deluser("shop")

    @pytest.mark.parametrize("given", ["redis://h", None, object(), 5])
    def test_something_else(self, given: object) -> None:
        """What is no redis-py client is refused with what was expected."""
        with pytest.raises(SettingsError, match=r"store= must be .* not"):
            Client.from_redis(given)


class TestInterruption:
    def test_reply_is_nobody_elses(
        self, client: Client, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reply to a command that a signal interrupted is not taken for the next one's."""
        client.execute("PING")

        def interrupted(*_: object) -> object:
            monkeypatch.undo()
            raise SystemExit

        proxy.faults.append(Fault(b"first", "delay", 0.05))
        monkeypatch.setattr(module, "_reply", interrupted)
        with pytest.raises(SystemExit):
            client.execute("ECHO", "first")
        assert client.execute("ECHO", "second") == b"second"

    def test_greeting_is_nobody_elses(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither is the reply to a greeting that a signal interrupted."""

        def interrupted(connection: object, **options: object) -> object:
            monkeypatch.undo()
            raise SystemExit

        monkeypatch.setattr(redis.Connection, "read_response", interrupted)
        with pytest.raises(SystemExit):
            client.execute("ECHO", "first")
        assert client.execute("ECHO", "second") == b"second"
