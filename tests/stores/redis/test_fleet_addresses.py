"""The addresses of several servers: how each is read, and that no error quotes any part."""

from __future__ import annotations

import pytest

from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.factory import check_url
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.fleet_addresses import (
    ClusterAddress,
    SentinelAddress,
    read_address,
)


class TestSentinel:
    @pytest.mark.parametrize(
        ("url", "sentinels", "service", "primary"),
        [
            pytest.param(
                "redis+sentinel://s1:26379,s2:26380/shop/2",
                ["redis://s1:26379/0?", "redis://s2:26380/0?"],
                "shop",
                "redis://primary/2?",
                id="hosts",
            ),
            pytest.param(
                "redis+sentinel://s1,s2/shop",
                ["redis://s1:26379/0?", "redis://s2:26379/0?"],
                "shop",
                "redis://primary/?",
                id="default-port-and-database",
            ),
            pytest.param(
                "redis+sentinel://user:p%40w@s1/shop/0/",
                ["redis://s1:26379/0?"],
                "shop",
                "redis://user:p%40w@primary/0?",
                id="credentials-of-the-primary",
            ),
            pytest.param(
                "redis+sentinel://:pw@s1/shop?sentinel_username=watch&sentinel_password=a%26b",
                ["redis://s1:26379/0?username=watch&password=a%26b"],
                "shop",
                "redis://:pw@primary/?",
                id="credentials-of-the-sentinels",
            ),
            pytest.param(
                "redis+sentinel://s1/shop?db=3&socket_timeout=0.5&password=pw",
                ["redis://s1:26379/0?socket_timeout=0.5"],
                "shop",
                "redis://primary/?db=3&socket_timeout=0.5&password=pw",
                id="options",
            ),
            pytest.param(
                "rediss+sentinel://s1/shop-eu.1?ssl_ca_certs=/etc/ca.pem",
                ["rediss://s1:26379/0?ssl_ca_certs=%2Fetc%2Fca.pem"],
                "shop-eu.1",
                "rediss://primary/?ssl_ca_certs=%2Fetc%2Fca.pem",
                id="tls",
            ),
            pytest.param(
                "valkeys+sentinel://[::1],[fe80::1]:7,10.0.0.1,[::1]/shop",
                ["rediss://[::1]:26379/0?", "rediss://[fe80::1]:7/0?", "rediss://10.0.0.1:26379/0?"],
                "shop",
                "rediss://primary/?",
                id="ipv6-and-the-same-host-twice",
            ),
        ],
    )  # fmt: skip
    def test_good(self, url: str, sentinels: list[str], service: str, primary: str) -> None:
        """Hosts, the primary's name, credentials and options, with their defaults."""
        assert read_address(url) == SentinelAddress(service, tuple(sentinels), primary)
        assert check_url(url) == url.partition("://")[0]

    def test_client(self) -> None:
        """A client of such an address says where it connects, without credentials."""
        url = "valkey+sentinel://user:s3cret@s1,[::1]:7/shop/2?sentinel_password=s3cret"
        client = Client.from_url(url)
        assert repr(client) == "<Client redis+sentinel://s1:26379,[::1]:7/shop/2>"
        assert client.topology.database == 2
        assert Client.from_url("rediss+sentinel://s/shop").topology.transport == "tls"

    @pytest.mark.parametrize(
        ("url", "fault"),
        [
            ("redis+sentinel://s1", "name of the primary is missing"),
            ("redis+sentinel://s1/", "name of the primary is missing"),
            ("redis+sentinel://s1//0", "name of the primary is missing"),
            ("redis+sentinel://s1/my shop", "name of the primary has characters"),
            ("redis+sentinel://s1/shop/one", "not a database number"),
            ("redis+sentinel://s1/shop/0/1", "not a database number"),
            ("redis+sentinel:///shop", "a host is missing"),
            ("redis+sentinel://s1,/shop", "a host is missing"),
            ("redis+sentinel://s1,:26379/shop", "a host is missing"),
            ("redis+sentinel://s1:x/shop", "host or port is not valid"),
            ("redis+sentinel://s1:26379:1/shop", "host or port is not valid"),
            ("redis+sentinel://::1/shop", "host or port is not valid"),
            ("redis+sentinel://[::1/shop", "host or port is not valid"),
            ("redis+sentinel://s1:0/shop", "a port is not between 1 and 65535"),
            ("redis+sentinel://s1:70000/shop", "a port is not between 1 and 65535"),
            ("redis+sentinel://s1, s2/shop", "its host has characters"),
            ("redis+sentinel://[s1]/shop", "its host has characters"),
            ("redis+sentinel://s1&password=x/shop", "its host has characters"),
            ("redis+sentinel://s1/shop#0", 'it has a "#"'),
            ("redis+sentinel://s1/shop?sentinel_pasword=x", "perhaps sentinel_password= was meant"),
            ("redis+sentinel://s1/shop?db=0&pass=x", 'option 2 after the "?" is unknown'),
            ("redis+sentinel://s1/shop?host=s2", "hosts stand before a slash"),
            ("redis+sentinel://s1/shop?db=one", "an option has a value that it cannot have"),
            ("redis+sentinel://s1/shop?ssl_ca_certs=x", 'option 1 after the "?" is unknown'),
        ],
    )
    def test_bad(self, url: str, fault: str) -> None:
        """What is wrong with an address is said, and how one looks that is right."""
        with pytest.raises(SettingsError, match=r"cannot be used: .*must look like") as error:
            check_url(url)
        assert fault in str(error.value)


class TestCluster:
    @pytest.mark.parametrize(
        ("url", "urls"),
        [
            ("redis+cluster://n1:7000,n2", ["redis://n1:7000/0?", "redis://n2:6379/0?"]),
            ("rediss+cluster://user:p%2Fw@n1/", ["rediss://user:p%2Fw@n1:6379/0?"]),
            ("valkey+cluster://[::1]/0?db=0&socket_timeout=1",
             ["redis://[::1]:6379/0?db=0&socket_timeout=1"]),
        ],
    )  # fmt: skip
    def test_good(self, url: str, urls: list[str]) -> None:
        """Hosts, credentials and options, with their defaults."""
        assert read_address(url) == ClusterAddress(tuple(urls))

    @pytest.mark.parametrize(
        ("url", "fault"),
        [
            ("redis+cluster://n1/1", "only database 0"),
            ("redis+cluster://n1/shop", "only database 0"),
            ("redis+cluster://n1?db=2", "only database 0"),
            ("redis+cluster://", "a host is missing"),
            ("redis+cluster://n1:port", "host or port is not valid"),
            ("redis+cluster://n1?sentinel_password=x", 'option 1 after the "?" is unknown'),
        ],
    )
    def test_bad(self, url: str, fault: str) -> None:
        """What is wrong with an address is said."""
        with pytest.raises(SettingsError, match="address cannot be used") as error:
            read_address(url)
        assert fault in str(error.value)


class TestSecrets:
    @pytest.mark.parametrize("kind", ["sentinel", "cluster"])
    @pytest.mark.parametrize(
        "rest",
        [
            ":s3cret@h:port/shop", ":a/s3cret@h/shop", ":a@s3cret&h/shop", ":a#s3cret@h/shop",
            ":a?s3cret@h/shop", ":a,s3cret@,h/shop", "user:s3cret/shop", "h/s3 cret", "[s3cret",
            "h/shop/s3cret", "h/shop?s3cret", "h/shop?pasword=s3cret", "h/shop?db=s3cret",
            "h/shop?sentinel_passwort=s3cret", "h,s3cret&/shop", "h:s3cret,i/shop",
        ],
    )  # fmt: skip
    def test_errors_hide_passwords(self, kind: str, rest: str) -> None:
        """No error shows the password, in whatever way the address is wrong."""
        with pytest.raises(SettingsError) as raised:
            Client.from_url(f"redis+{kind}://{rest}")
        assert "s3" not in str(raised.value)
        assert "cret" not in str(raised.value)

    def test_representation(self) -> None:
        """What was read of an address does not show it either."""
        for url in ("redis+sentinel://:s3cret@s/shop?sentinel_password=s3cret",
                    "redis+cluster://:s3cret@n?password=s3cret"):  # fmt: skip
            assert "s3cret" not in repr(read_address(url))
