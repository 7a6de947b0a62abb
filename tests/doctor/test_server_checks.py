"""The doctor's checks of the server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flask_idempotent.doctor import server_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.memory import MemoryStore
from tests.support.faulty_store import FaultyStore, fail
from tests.support.redis_servers import Server, free_port

GOOD = {
    "redis_version": "7.4.1", "maxmemory_policy": "noeviction", "maxmemory": "0",
    "used_memory": "5", "aof_enabled": "1", "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok", "role": "master", "connected_slaves": "0", "transport": "tls",
    "address": "redis://one:6379/0", "topology": "server",
}  # fmt: skip


def findings_of(facts: Mapping[str, str]) -> dict[str, Finding]:
    """What is wrong, by check; of two findings the first."""
    found = [finding for check in server_checks.FACTS for finding in check(facts)]
    return {f.check: f for f in reversed(found) if f.level != "ok"}


class TestFacts:
    def test_good(self) -> None:
        """A server as the stores page asks for has nothing wrong."""
        assert findings_of(GOOD) == {}

    @pytest.mark.parametrize(
        ("change", "check", "level"),
        [
            ({"redis_version": "5.0.14"}, "version", "warning"),
            ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "version", "warning"),
            ({"redis_version": ""}, "version", "note"),
            ({"maxmemory_policy": "allkeys-lru"}, "eviction", "warning"),
            ({"maxmemory_policy": "volatile-ttl", "maxmemory": "9"}, "eviction", "error"),
            ({"used_memory": "95", "maxmemory": "100"}, "eviction", "warning"),
            ({"aof_enabled": "0", "save": ""}, "persistence", "warning"),
            ({"aof_enabled": "0", "save": "3600 1"}, "persistence", "warning"),
            ({"aof_enabled": "0"}, "persistence", "note"),
            ({"aof_last_write_status": "err"}, "persistence", "error"),
            ({"rdb_last_bgsave_status": "err"}, "persistence", "error"),
            ({"role": "slave"}, "replication", "error"),
            ({"slave0": "ip=two,port=6379,state=online,offset=5,lag=1"}, "replication", "note"),
            ({"transport": "network"}, "transport", "note"),
        ],
    )
    def test_wrong(self, change: dict[str, str], check: str, level: str) -> None:
        """Each fact that can break a promise has a finding, with what follows and how to fix it."""
        (finding,) = findings_of(GOOD | change).values()
        assert (finding.check, finding.level) == (check, level)
        assert finding.fix or finding.level == "note"

    def test_silent_server(self) -> None:
        """What a server does not tell is a note, never a guess."""
        findings = findings_of({"transport": "tls", "address": "redis://one:6379/0"})
        assert {f.level for f in findings.values()} == {"note"}
        assert set(findings) == {"version", "eviction", "persistence"}


def examined(store: Store) -> dict[str, Finding]:
    try:
        return {finding.check: finding for finding in server_checks.examine(store, "IDEMPOTENT_")}
    finally:
        store.close()


def refused(message: str) -> Finding:
    """What is found where the server refuses a record."""
    store = FaultyStore()
    store.before["claim"] = [fail(StoreUnavailable(message))]
    (finding,) = server_checks.probe(store, "IDEMPOTENT_")
    return finding


class TestExamine:
    def test_real_server(self, server: Server) -> None:
        """A real server answers, tells of itself, keeps a record, and keeps none of the doctor."""
        found = examined(open_store(server.url, "tests"))
        checks = ["server", "version", "eviction", "persistence", "replication", "transport",
                  "writing"]  # fmt: skip
        assert list(found) == checks
        assert {check for check, f in found.items() if f.level != "ok"} == {"persistence"}
        assert server.client.dbsize() == 0

    def test_dead_server(self) -> None:
        """Of a server that does not answer nothing else is asked."""
        found = examined(open_store(f"redis://:geheim@127.0.0.1:{free_port()}/0", "tests"))
        assert list(found) == ["server"]
        assert found["server"].level == "error"
        assert "geheim" not in found["server"].text
        assert found["server"].text.startswith("redis://127.0.0.1:")

    def test_user_of_the_application(self, clean_valkey: Server) -> None:
        """A user with few rights learns which checks and which uses they prevent."""
        rights = ("+@all", "-info", "-subscribe")
        clean_valkey.client.execute_command("ACL", "SETUSER", "few", "on", ">pw", "~*", *rights)
        found = examined(open_store(f"redis://few:pw@127.0.0.1:{clean_valkey.port}/0", "tests"))
        clean_valkey.client.execute_command("ACL", "DELUSER", "few")
        assert {check: f.level for check, f in found.items()} == {
            "server": "ok", "facts": "note", "writing": "warning",
        }  # fmt: skip
        assert "&IDEMPOTENT_*" in found["writing"].fix

    def test_refused_steps(self, clean_valkey: Server) -> None:
        """A user who may not keep steps is an error of its own: first requests work."""
        rights = ("+@all", "-hset")
        acl = ("ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", *rights)
        clean_valkey.client.execute_command(*acl)
        found = examined(open_store(f"redis://few:pw@127.0.0.1:{clean_valkey.port}/0", "tests"))
        clean_valkey.client.execute_command("ACL", "DELUSER", "few")
        assert found["steps"].level == "error"
        assert "lists the permissions that a user needs" in found["steps"].fix
        assert "hset" in found["steps"].text.lower()
        assert clean_valkey.client.dbsize() == 0

    def test_refused_writes(self, clean_valkey: Server) -> None:
        """A server whose memory is full is an error, which is not explained with permissions."""
        clean_valkey.client.config_set("maxmemory", 1)
        try:
            found = examined(open_store(clean_valkey.url, "tests"))
        finally:
            clean_valkey.client.config_set("maxmemory", 0)
        assert found["writing"].level == "error"
        assert "Raise maxmemory" in found["writing"].fix
        assert found["eviction"].level == "warning"

    def test_memory(self) -> None:
        """Memory has no server to check."""
        assert examined(MemoryStore()) == {}

    @pytest.mark.parametrize(
        ("seconds", "level"), [(0.0001, "ok"), (0.02, "note"), (0.2, "warning")]
    )
    def test_latency(self, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str) -> None:
        """The middle one of several round trips is judged."""
        now = iter([0.0, seconds] * 3 + [0.0, 9.0] * 2)
        monkeypatch.setattr("time.perf_counter", lambda: next(now))
        assert server_checks.latency(MemoryStore()).level == level

    def test_trailing_dot(self) -> None:
        """What the server said ends where our sentence ends."""
        assert "to keep a record: No. Requests with" in refused("No.").text
