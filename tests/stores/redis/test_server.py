"""How to connect to a server: from an address, or as a redis-py client does."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.server import Server as StoreServer
from tests.support.redis_servers import Server


class TestConnect:
    def test_driver_is_looked_up_once(self) -> None:
        """What redis-py says of itself to a server is looked up once, not for each connection."""
        server = StoreServer.from_url("redis://localhost")
        one, other = server.connection(), server.connection()
        assert one is not other
        # Releases before 7.2 keep it elsewhere.
        assert getattr(one, "driver_info", None) is getattr(other, "driver_info", None)

    def test_at_another_address(self) -> None:
        """The same options lead to another address, and the first one stays what it was."""
        server = StoreServer.from_url("redis://user:pw@one:7/3")
        other = server.at("other", 8)
        assert (str(server), str(other)) == ("redis://one:7/3", "redis://other:8/3")
        connection: Any = other.connection()
        assert (connection.host, connection.port, connection.db) == ("other", 8, 3)
        assert server.connection().host == "one"

    @pytest.mark.parametrize("url", ["redis://:s3/cret@h:1/0", "redis://h:s3cret/0"])
    def test_bad_address(self, url: str) -> None:
        """An address that redis-py cannot use is a settings error that quotes none of it."""
        with pytest.raises(SettingsError, match="address cannot be used") as caught:
            StoreServer.from_url(url)
        assert "s3" not in str(caught.value)

    def test_unknown_option(self) -> None:
        """An option that this kind of connection does not take is a settings error."""
        with pytest.raises(SettingsError, match=r"option 1 .* is unknown"):
            StoreServer.from_url("redis://h/0?ssl_ca_certs=ca.pem")
        StoreServer.from_url("rediss://h/0?ssl_ca_certs=ca.pem")

    def test_redis_client_with_decoding(self, clean_valkey: Server) -> None:
        """Of a redis-py client that decodes replies the address is taken, not the decoding."""
        given = redis.Redis(port=clean_valkey.port, db=3, decode_responses=True)
        client = Client.from_redis(given)
        client.execute("SET", "k", b"\xff")
        assert client.execute("GET", "k") == b"\xff"
        assert client.topology.database == 3
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
        """Anything but a redis-py client is refused, with what was expected."""
        with pytest.raises(SettingsError, match=r"store= must be .* not"):
            Client.from_redis(given)


class TestDescription:
    def test_representation_names_the_place(self) -> None:
        """A client and its server say where they connect."""
        assert repr(Client.from_url("redis://h:7/3")) == "<Client redis://h:7/3>"
        assert repr(Client.from_url("rediss://h:7/3")) == "<Client rediss://h:7/3>"
        assert repr(Client.from_url("unix:///run/r?db=2")) == "<Client unix:///run/r?db=2>"

    @pytest.mark.parametrize(
        ("url", "transport"),
        [
            ("rediss://db.example", "tls"),
            ("unix:///tmp/s", "socket"),
            ("redis://localhost", "loopback"),
            ("redis://db.example", "network"),
        ],
    )
    def test_transport(self, url: str, transport: str) -> None:
        """A server says how commands travel to it."""
        assert StoreServer.from_url(url).transport == transport
