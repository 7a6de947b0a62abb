"""Addresses: which store each names, and that no error shows a password."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap

import fakeredis
import pytest
import redis
import redis.asyncio

from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.embedded import open_embedded
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.stores.urls import (
    SCHEMES,
    adopt_store,
    check_url,
    open_store,
    without_password,
)

SECRETS = [
    pytest.param("redis://:s3cret@host:1/0", id="password"),
    pytest.param("redis://user:s3cret@host", id="user-and-password"),
    pytest.param("redis://:a/s3cret@host", id="slash"),
    pytest.param("redis://:a@s3cret@host", id="at"),
    pytest.param("redis://:a:s3cret@host", id="colon"),
    pytest.param("redis://:a#s3cret@host", id="hash"),
    pytest.param("redis://:a?s3cret@host", id="question-mark"),
    pytest.param("redis://host/0?password=s3cret", id="query"),
    pytest.param("unix:///socket?db=1&password=s3cret&x=1", id="query-inside"),
    pytest.param("redis:/:s3cret@host", id="one-slash"),
    pytest.param("redis:s3cret@host", id="no-slash"),
    pytest.param("user:s3cret@host", id="no-scheme"),
    pytest.param("redis://:s3\ncret@host", id="newline"),
]


class TestCheckUrl:
    @pytest.mark.parametrize(
        ("url", "scheme"),
        [
            ("redis://localhost:6379/0", "redis"),
            ("redis://", "redis"),
            ("redis://:password@127.0.0.1:7000/3?socket_timeout=1", "redis"),
            ("redis://[::1]:6379", "redis"),
            ("rediss://user:password@host", "rediss"),
            ("unix:///var/run/redis.sock?db=2", "unix"),
            ("valkey://user:password@host:6379/2", "valkey"),
            ("valkeys://host", "valkeys"),
            ("rediss://host?ssl_cert_reqs=none", "rediss"),
            ("rediss://host?ssl_cert_reqs=CERT_NONE", "rediss"),
            ("rediss://host?ssl_cert_reqs=CERT_REQUIRED", "rediss"),
            ("embedded://", "embedded"),
            ("memory://", "memory"),
        ],
    )
    def test_good(self, url: str, scheme: str) -> None:
        """An address names its scheme; nothing connects."""
        assert check_url(url) == scheme
        assert scheme in SCHEMES

    @pytest.mark.parametrize(
        "url",
        ["", "localhost", "localhost:6379", "http://localhost", "redis:localhost", "redis:/host",
         "REDIS://host", " redis://host", "redis+sentinel://host", "memory:", "://"],
    )  # fmt: skip
    def test_unknown_scheme(self, url: str) -> None:
        """An unknown scheme is an error that names REDIS_URL and the known ones."""
        with pytest.raises(
            SettingsError,
            match=r"REDIS_URL must begin with one of redis://, rediss://, .*memory://; got",
        ):
            check_url(url)

    @pytest.mark.parametrize("url", ["memory://x", "memory:///0", "embedded://host"])
    def test_unused_parts(self, url: str) -> None:
        """What stands behind a scheme that takes nothing is an error, not ignored."""
        with pytest.raises(SettingsError, match="takes nothing behind the scheme"):
            check_url(url)

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("redis://host:port", id="port"),
            pytest.param("redis://host:99999999", id="port-range"),
            pytest.param("redis://host?db=one", id="database"),
            pytest.param("redis://host?socket_timeout=soon", id="time"),
            pytest.param("redis://host?no_such_option=1", id="unknown-option"),
            pytest.param("redis://[::1", id="bracket"),
            pytest.param("rediss://host?ssl_cert_reqs=CERT_SOME", id="certificate"),
        ],
    )
    def test_unusable(self, url: str) -> None:
        """An address that redis-py cannot use is an error at the start."""
        with pytest.raises(SettingsError, match=r"address (cannot be used|has an unknown option)"):
            check_url(url)

    @pytest.mark.parametrize("url", SECRETS)
    @pytest.mark.parametrize("scheme", ["redsi", "memory", "http"])
    def test_errors_hide_passwords(self, url: str, scheme: str) -> None:
        """No error of an address shows its password, however the address is wrong."""
        wrong = url.replace("redis", scheme).replace("unix", scheme)
        with pytest.raises(SettingsError) as raised:
            check_url(wrong)
        assert "s3" not in str(raised.value)


class TestWithoutPassword:
    @pytest.mark.parametrize("url", SECRETS)
    def test_hidden(self, url: str) -> None:
        """The password is gone, wherever it stands and whatever it is made of."""
        assert "s3" not in without_password(url)
        assert "cret" not in without_password(url)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://user:pw@host:1/0", "redis://***@host:1/0"),
            ("redis://host:1/0", "redis://host:1/0"),
            ("unix:///a?password=x&db=1", "unix:///a?password=***&db=1"),
            ("memory://", "memory://"),
        ],
    )
    def test_the_rest_is_shown(self, url: str, shown: str) -> None:
        """All that is no password stays, so that the error helps."""
        assert without_password(url) == shown


class TestOpenStore:
    @pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///no"])
    def test_redis(self, url: str) -> None:
        """A Redis address opens a Redis store, which does not connect yet."""
        store = open_store(url, "app")
        assert isinstance(store, RedisStore)
        store.close()

    def test_memory(self, caplog: pytest.LogCaptureFixture) -> None:
        """A memory store says in the log that it protects one process alone."""
        with caplog.at_level(logging.WARNING, "flask_idempotent"):
            store = open_store("memory://", "app")
        assert isinstance(store, MemoryStore)
        assert "memory:// keeps idempotency records in this process alone" in caplog.text

    def test_memory_is_never_shared(self) -> None:
        """Two applications never share a memory store, even under one name."""
        assert open_store("memory://", "app") is not open_store("memory://", "app")

    def test_embedded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The embedded store is opened for the application, by its own module."""
        opened = []
        monkeypatch.setattr(
            "flask_idempotent.stores.embedded.open_embedded", lambda app: opened.append(app)
        )
        open_store("embedded://", "app")
        assert opened == ["app"]
        assert callable(open_embedded)

    def test_wrong(self) -> None:
        """A wrong address opens nothing."""
        with pytest.raises(SettingsError):
            open_store("http://host", "app")

    def test_embedded_is_imported_where_it_is_chosen(self) -> None:
        """Nothing of the embedded store is imported before it is chosen."""
        program = """
            import sys
            from flask_idempotent.stores.urls import check_url, open_store

            check_url("embedded://")
            open_store("redis://127.0.0.1:1", "app").close()
            sys.exit("flask_idempotent.stores.embedded" in sys.modules)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], timeout=30, check=False
        )
        assert done.returncode == 0


class TestAdoptStore:
    def test_store(self) -> None:
        """A store is taken as it is."""
        store = MemoryStore()
        assert adopt_store(store) is store

    def test_redis_client(self) -> None:
        """A redis-py client is taken as a Redis store that connects as it does."""
        client = redis.Redis(host="127.0.0.1", port=1, db=4)
        store = adopt_store(client)
        assert isinstance(store, RedisStore)
        assert "127.0.0.1:1/4" in repr(store._client)
        store.close()
        client.close()

    @pytest.mark.parametrize("wrong", ["redis://host", 5, None, object(), MemoryStore])
    def test_neither(self, wrong: object) -> None:
        """Anything else is an error that says what is taken."""
        with pytest.raises(SettingsError, match="store= must be a store"):
            adopt_store(wrong)

    @pytest.mark.parametrize(
        "client",
        [
            fakeredis.FakeRedis(),
            fakeredis.FakeRedis.from_url("redis://host"),
            fakeredis.FakeServer(),
        ],
    )
    def test_fakeredis(self, client: object) -> None:
        """What only looks like redis-py's client is refused, with what tests use instead."""
        with pytest.raises(
            SettingsError,
            match=r"not fakeredis\.Fake.* memory:// or the pytest fixture idempotency",
        ):
            adopt_store(client)

    def test_other_clients(self) -> None:
        """A client of another kind is refused with the way to give its server's address."""
        with pytest.raises(SettingsError, match=r"not redis\.Redis.* set IDEMPOTENT_REDIS_URL"):
            adopt_store(redis.asyncio.Redis())

    def test_connections_of_the_applications_own(self) -> None:
        """A redis-py client whose connections greet the server in their own way is taken."""

        class Greeting(redis.Connection):
            def on_connect(self) -> None:
                raise NotImplementedError

        pool = redis.ConnectionPool(connection_class=Greeting)
        assert isinstance(adopt_store(redis.Redis(connection_pool=pool)), RedisStore)
