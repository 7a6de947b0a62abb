"""Servers behind TLS and behind a socket file."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.base import Claimed
from flask_idempotent.stores.factory import adopt_store, open_store
from tests.stores.harness import HOUR, answer, running
from tests.support.redis_servers import Server, free_port, redis_binary, valkey_binary
from tests.support.sentinel_sets import SERVICE, Sentinel

KEY = "IDEMPOTENT_{address}"


class TestTls:
    @pytest.fixture
    def port(self, tmp_path: Path) -> Iterator[int]:
        """The TLS port of a server whose certificate is for 127.0.0.1."""
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        port = free_port()
        server = Server(
            redis_binary(), tmp_path,
            "--tls-port", str(port), "--tls-auth-clients", "no",
            "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem",
            "--tls-ca-cert-file", "ca.pem", "--requirepass", "pw",
        )  # fmt: skip
        server.start()
        yield port
        server.stop()

    def test_claims_and_wakes(self, port: int, tmp_path: Path) -> None:
        """Over TLS a key is claimed and completed, and its waiter woken."""
        url = f"rediss://:pw@127.0.0.1:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        store = open_store(url, "tests")
        try:
            store.claim(KEY, running(), ttl_ms=2 * HOUR)
            with store.listen(KEY, 5) as waiter:
                store.complete(KEY, answer(body=b"x" * 10_000), ttl_ms=HOUR)
                assert waiter.wait(5) == answer(body=b"x" * 10_000)
        finally:
            store.close()

    def test_sentinel(self, port: int, tmp_path: Path) -> None:
        """Sentinels and their primary are reached over TLS, with a password each."""
        tls_port, certificate = free_port(), f"ssl_ca_certs={tmp_path / 'ca.pem'}"
        config = [
            f"tls-port {tls_port}", "tls-auth-clients no", "tls-replication yes",
            "tls-cert-file cert.pem", "tls-key-file key.pem", "tls-ca-cert-file ca.pem",
            f"sentinel auth-pass {SERVICE} pw", "user watch on >another +@all",
        ]  # fmt: skip
        sentinel = Sentinel(redis_binary(), tmp_path, port, config=config).start()
        login = "sentinel_username=watch&sentinel_password=another"
        url = f"rediss+sentinel://:pw@127.0.0.1:{tls_port}/{SERVICE}?{certificate}&{login}"
        store = open_store(url, "tests")
        try:
            assert store.claim(KEY, running(), ttl_ms=2 * HOUR) == Claimed(1)
            assert store.facts()[0]["transport"] == "tls"
        finally:
            store.close()
            sentinel.stop()

    def test_unknown_certificate_is_refused(self, port: int) -> None:
        """A server whose certificate no authority signed is refused."""
        store = open_store(f"rediss://:pw@127.0.0.1:{port}/0", "tests")
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
            store.ping()
        store.close()

    @pytest.mark.parametrize("level", ["none", "CERT_NONE"])
    def test_unchecked_certificate(self, port: int, level: str) -> None:
        """With ssl_cert_reqs=none neither the certificate nor its host name is checked."""
        store = open_store(f"valkeys://:pw@localhost:{port}/0?ssl_cert_reqs={level}", "tests")
        store.ping()
        store.close()

    @pytest.mark.parametrize("level", ["none", ssl.CERT_NONE])
    def test_unchecked_certificate_of_a_client(self, port: int, level: Any) -> None:
        """The same applies to a redis-py client."""
        given = redis.Redis("localhost", port, password="pw", ssl=True, ssl_cert_reqs=level)
        store = adopt_store(given)
        store.ping()
        store.close()


class TestSocketFile:
    def test_claims_and_wakes(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Over a socket file, in another database, a key is claimed and its waiter woken."""
        folder = tmp_path_factory.mktemp("u")
        server = Server(valkey_binary(), folder, "--unixsocket", str(folder / "s")).start()
        store = open_store(f"unix://{folder / 's'}?db=3", "tests")
        try:
            store.claim(KEY, running(), ttl_ms=2 * HOUR)
            with store.listen(KEY, 5) as waiter:
                store.complete(KEY, answer(), ttl_ms=HOUR)
                assert waiter.wait(5) == answer()
            assert server.client.info("keyspace")["db3"]["keys"] == 1
        finally:
            store.close()
            server.stop()
