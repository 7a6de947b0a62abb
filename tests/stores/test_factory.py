"""Addresses: which store each opens, and that no error shows a password."""

from __future__ import annotations

import logging
import random
import re
import subprocess
import sys
import textwrap

import pytest

from flask_idempotent.errors import SettingsError
from flask_idempotent.settings import resolve
from flask_idempotent.stores.embedded import open_embedded
from flask_idempotent.stores.factory import (
    SCHEMES,
    check_url,
    open_store,
)
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore

SECRETS = [
    pytest.param("redis://:s3cret@host:port", id="password"),
    pytest.param("redis://user:s3cret@host:port", id="user-and-password"),
    pytest.param("redis://:a/s3cret@host", id="slash"),
    pytest.param("redis://:1/s3cret@host", id="slash-after-a-port"),
    pytest.param("redis://:a@s3cret&host", id="at"),
    pytest.param("redis://:a:s3cret@host:port", id="colon"),
    pytest.param("redis://:a#s3cret@host", id="hash"),
    pytest.param("redis://:1#s3cret@host", id="hash-after-a-port"),
    pytest.param("redis://:a?s3cret@host", id="question-mark"),
    pytest.param("redis://:1?s3cret=@host", id="question-mark-after-a-port"),
    pytest.param("redis://host?pasword=s3cret", id="misnamed"),
    pytest.param("redis://host?db=1&s3cret=1", id="option-named-so"),
    pytest.param("redis://host?s3cret", id="option-without-a-value"),
    pytest.param("redis://host?db=s3cret", id="value-of-another"),
    pytest.param("redis://host?ssl_password=s3cret&nil=1", id="query-inside"),
    pytest.param("redis://host&password=s3cret", id="ampersand"),
    pytest.param("redis://host/0&password=s3cret", id="ampersand-after-a-database"),
    pytest.param("redis://?host=host%26password=s3cret", id="ampersand-in-an-option"),
    pytest.param("redis://host/s3cret", id="database"),
    pytest.param("redis://host\0s3cret", id="nul"),
    pytest.param("redis://user:s3cret", id="no-host"),
    pytest.param("redis://[s3cret]", id="bracket"),
    pytest.param("unix:///socket&password=s3cret", id="ampersand-after-a-path"),
    pytest.param("unix:///user:s3cret@/socket", id="a-slash-too-many"),
    pytest.param("unix://user:s3cret@host/socket", id="host-of-a-socket"),
    pytest.param("unix://:s3cret@", id="no-path"),
    pytest.param("redis:/:s3cret@host", id="one-slash"),
    pytest.param("redis:/host&password=s3cret", id="one-slash-and-no-at"),
    pytest.param("redis:s3cret", id="no-slash"),
    pytest.param("redis//:s3cret%40host", id="no-colon"),
    pytest.param("user:s3cret@host", id="no-scheme"),
    pytest.param("s3cret", id="alone"),
    pytest.param("http://host?Password=s3cret", id="another-scheme"),
    pytest.param("memory://:s3cret", id="memory"),
    pytest.param("embedded://s3cret@", id="embedded"),
    pytest.param("redis://:s3\ncret@host:port", id="newline"),
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
         "REDIS://host", " redis://host", "redis+sentinels://host", "memory:", "://"],
    )  # fmt: skip
    def test_unknown_scheme(self, url: str) -> None:
        """An unknown scheme is an error that names REDIS_URL and the known ones."""
        with pytest.raises(
            SettingsError, match=r"REDIS_URL must begin with one of redis://, rediss://, .*memory"
        ):
            check_url(url)

    @pytest.mark.parametrize(
        ("url", "meant"),
        [("redis:/host", "redis"), (" REDISS://host", "rediss"), ("memmory://", "memory")],
    )
    def test_scheme_that_was_meant(self, url: str, meant: str) -> None:
        """An error names the scheme that was probably meant."""
        with pytest.raises(SettingsError, match=f"Did you mean {meant}://"):
            check_url(url)

    @pytest.mark.parametrize("url", ["memory://x", "memory:///0", "embedded://host"])
    def test_unused_parts(self, url: str) -> None:
        """Anything after a scheme that takes nothing is an error, not ignored."""
        with pytest.raises(SettingsError, match="has nothing after the scheme"):
            check_url(url)

    @pytest.mark.parametrize(
        ("url", "fault"),
        [
            pytest.param("redis://host:port", "its host or port", id="port"),
            pytest.param("redis://host:99999999", "its host or port", id="port-range"),
            pytest.param("redis://host:0", "its port is 0", id="port-0"),
            pytest.param("redis://[::1", "its host or port", id="bracket"),
            pytest.param("redis://ho st", "its host has characters", id="host"),
            pytest.param("redis://host/zero", "not a database number", id="database"),
            pytest.param("redis://host?db=one", "an option has a value", id="database-option"),
            pytest.param("redis://host?socket_timeout=soon", "an option has a value", id="time"),
            pytest.param("redis://host?db=1&x=1", 'option 2 after the "?" is unknown', id="option"),
            pytest.param("redis://host?Passwd=x", "perhaps password= was meant", id="misnamed"),
            pytest.param(
                "rediss://host?ssl_cert_reqs=CERT_SOME", "an option has a value", id="certificate"
            ),
            pytest.param("redis://host#1", 'it has a "#"', id="fragment"),
            pytest.param("unix://run/redis", "a third slash", id="two-slashes"),
            pytest.param("unix://", "its path cannot be the path of a socket", id="no-path"),
        ],
    )
    def test_unusable(self, url: str, fault: str) -> None:
        """An address that means nothing, or something else than it seems to, is an error."""
        with pytest.raises(SettingsError, match="address cannot be used: .*" + re.escape(fault)):
            check_url(url)

    @pytest.mark.parametrize("url", SECRETS)
    def test_errors_hide_passwords(self, url: str) -> None:
        """No error shows the password of an address, in whatever way the address is wrong."""
        with pytest.raises(SettingsError) as raised:
            check_url(url)
        assert "s3" not in str(raised.value)
        assert "cret" not in str(raised.value)

    def test_thousands_of_malformed_addresses(self) -> None:
        """Whatever is missing, doubled, swapped or misspelt, no error shows the password, and an
        address that is accepted shows a valid host."""
        chance = random.Random(12)
        taken = 0
        for _ in range(3_000):
            left, right = "qx7Zj", "Kw9vY"
            url = malformed(chance, left + chance.choice(":/?#@&=%[]; \n\\") + right)
            of_a_server = url.startswith(("redis://", "rediss://", "unix://"))
            try:
                shown = repr(Client.from_url(url) if of_a_server else check_url(url))
                taken += 1
            except SettingsError as error:
                shown = str(error)
                assert left not in shown, url
                assert right not in shown, url
            hosts = re.findall(rf"[^ /]*(?:{left}|{right})[^ /]*:", shown, re.IGNORECASE)
            assert all(re.fullmatch(r"[\w.-]+:", host) for host in hosts), url
        assert 150 < taken < 2_400

    def test_settings_hide_it(self) -> None:
        """The repr of the settings leaves the address out."""
        assert "s3cret" not in repr(resolve({"REDIS_URL": "redis://:s3cret@host"}))


def malformed(chance: random.Random, secret: str) -> str:
    """An address with a password, in which up to three things are wrong."""
    option = chance.choice(["password", "pasword", "PASSWORD", "pass", "auth", "ssl_password", ""])
    parts = chance.choice(
        [
            ["redis", ":", "/", "/", "user", ":", secret, "@", "host", ":", "6379", "/", "0"],
            ["rediss", ":", "/", "/", ":", secret, "@", "host", "/", "1", "?", "db", "=", "2"],
            ["redis", ":", "/", "/", "host", "/", "0", "?", option, "=", secret, "&", "db=1"],
            ["unix", ":", "/", "/", "user", ":", secret, "@", "/", "run", "/", "s", "?", "db=1"],
            ["unix", ":", "/", "/", "/", "run", "/", "s", "?", "db=1", "&", option, "=", secret],
            [chance.choice(SCHEMES), ":", "/", "/", secret],
        ]
    )
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(parts))
        match chance.randrange(4):
            case 0:
                parts[place] = ""
            case 1:
                parts.insert(place, chance.choice(":/?#@&=%[] \n"))
            case 2:
                other = chance.randrange(len(parts))
                parts[place], parts[other] = parts[other], parts[place]
            case 3:
                parts[place] = parts[place].replace("?", "&").replace("@", "%40").upper()
    return "".join(parts)


class TestOpenStore:
    @pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///no"])
    def test_redis(self, url: str) -> None:
        """A Redis address opens a Redis store, which does not connect yet."""
        store = open_store(url, "app")
        assert isinstance(store, RedisStore)
        store.close()

    def test_memory(self, caplog: pytest.LogCaptureFixture) -> None:
        """A memory store warns in the log that it protects a single process."""
        with caplog.at_level(logging.WARNING, "flask_idempotent"):
            store = open_store("memory://", "app")
        assert isinstance(store, MemoryStore)
        assert "memory:// keeps idempotency records in this process only" in caplog.text

    def test_memory_is_never_shared(self) -> None:
        """Two applications never share a memory store, even under one name."""
        assert open_store("memory://", "app") is not open_store("memory://", "app")

    def test_embedded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The embedded store is opened for the application."""
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
            from flask_idempotent.stores.factory import check_url, open_store

            check_url("embedded://")
            open_store("redis://127.0.0.1:1", "app").close()
            sys.exit("flask_idempotent.stores.embedded" in sys.modules)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], timeout=30, check=False
        )
        assert done.returncode == 0
