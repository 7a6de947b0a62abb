"""Checks of the store's server."""

from __future__ import annotations

import re
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from flask_idempotent.doctor import topology_checks
from flask_idempotent.doctor.findings import Finding, error, note, ok, warning
from flask_idempotent.errors import IdempotentError, StoreError
from flask_idempotent.http.keys import storage_key
from flask_idempotent.records import FINGERPRINT_SIZE, OWNER_SIZE, CompletedRecord, RunningRecord
from flask_idempotent.stores.base import Step, Store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore

Facts = Mapping[str, str]

_LOWEST = {"redis": (6, 0), "valkey": (7, 2)}
_PINGS = 5
_SLOW, _VERY_SLOW = 0.005, 0.05
_PROBE_TTL_MS = 10_000
_NOTIFIED_WITHIN = 0.5
_NEARLY_FULL = 0.9
FactsCheck = Callable[[Facts], Iterator[Finding]]


def examine(store: Store, prefix: str, min_replicas: int = 0) -> Iterator[Finding]:
    """Check whether the server answers, how it is configured, and whether it keeps a record.

    :param min_replicas: the largest that a view has.
    """
    wanted = yield from topology_checks.wanted_replicas(store, min_replicas)
    if isinstance(store, MemoryStore):
        return
    if not isinstance(store, InspectableStore):
        yield note(
            "server",
            f"The store is a {type(store).__name__}, which cannot be inspected, so it was not "
            "checked.",
            "Derive it from InspectableStore.",
        )
        return
    try:
        yield latency(store)
    except StoreError as failure:
        yield error(
            "server",
            f"{store} does not answer: {_message(failure)}. Requests with a key get 503.",
            "Check that the server runs and can be reached, and REDIS_URL with its password.",
        )
        # The other nodes of a cluster may answer.
        with suppress(StoreError):
            yield from of_servers(store.facts(), wanted)
        return
    yield from _configuration(store, wanted)
    yield from probe(store, prefix)


def latency(store: InspectableStore) -> Finding:
    """Measure a round trip, of which a first request needs two."""
    store.ping()  # To connect.
    times = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        store.ping()
        times.append(time.perf_counter() - began)
    median = statistics.median(times)
    text = f"{store} answers within {median * 1000:.1f} ms."
    if median < _SLOW:
        return ok("server", text)
    text += " Each first request waits for two round trips, each replay for one."
    fix = "Run the application and the server in the same data centre."
    return (warning if median > _VERY_SLOW else note)("server", text, fix)


def _configuration(store: InspectableStore, wanted: int) -> Iterator[Finding]:
    try:
        servers = store.facts()
    except StoreError as failure:
        yield note(
            "facts",
            f"The server does not reveal its version, eviction, persistence and replication: "
            f"{_message(failure)}.",
            'Allow the user +info and +config|get, or check these by hand: see the page "Stores".',
        )
        return
    yield from of_servers(servers, wanted)


def of_servers(servers: Sequence[Facts], wanted: int) -> Iterator[Finding]:
    """Check what servers reveal of themselves, and their replicas."""
    yield from topology_checks.asked(servers)
    for check in FACTS:
        yield from _of_each(servers, check)
    yield from topology_checks.replicas(servers, wanted)


def _of_each(servers: Sequence[Facts], check: FactsCheck) -> Iterator[Finding]:
    """Check each server; what is found of all of them is reported once."""
    answering = [facts for facts in servers if "failure" not in facts]
    addresses_of: dict[Finding, list[str]] = {}
    for facts in answering:
        for finding in check(facts):
            addresses_of.setdefault(finding, []).append(facts["address"])
    for finding, addresses in addresses_of.items():
        if len(addresses) < len(answering):
            finding = replace(finding, text=f"{', '.join(addresses)}: {finding.text}")
        yield finding


def version(facts: Facts) -> Iterator[Finding]:
    name = "valkey" if "valkey_version" in facts else "redis"
    number = facts.get(f"{name}_version", "")
    numbers = tuple(map(int, re.findall(r"\d+", number)[:2]))
    if not numbers:
        yield note("version", "The server does not reveal its version.")
    elif numbers < _LOWEST[name]:
        yield warning(
            "version",
            f"The server is {name} {number}, which is older than the oldest tested version.",
            "Use Redis 6.0 or later, or Valkey 7.2 or later.",
        )
    else:
        yield ok("version", f"The server is {name} {number}.")


def eviction(facts: Facts) -> Iterator[Finding]:
    policy, limit = facts.get("maxmemory_policy"), int(facts.get("maxmemory", 0))
    if policy is None:
        yield note(
            "eviction",
            "The server does not reveal its eviction policy.",
            "Make sure that maxmemory-policy is noeviction.",
        )
    elif policy == "noeviction":
        yield from _memory(int(facts.get("used_memory", 0)), limit)
    elif limit:
        yield error(
            "eviction",
            f"maxmemory-policy is {policy}: when memory is full, the server evicts records, and "
            "the retry of an evicted request runs its view again.",
            "Set maxmemory-policy noeviction.",
        )
    else:
        yield warning(
            "eviction",
            f"maxmemory-policy is {policy}. No maxmemory is set, so nothing is evicted now; with "
            "a limit, the retry of an evicted request would run its view again.",
            "Set maxmemory-policy noeviction.",
        )


def _memory(used: int, limit: int) -> Iterator[Finding]:
    if limit and used > limit * _NEARLY_FULL:
        yield warning(
            "eviction",
            f"Nothing is evicted, but {used / limit:.0%} of maxmemory is in use: when it is full, "
            "new requests with a key get 503.",
            "Raise maxmemory, or lower IDEMPOTENT_EXPIRE or IDEMPOTENT_MAX_BODY.",
        )
    else:
        yield ok("eviction", "Nothing is evicted (noeviction).")


def persistence(facts: Facts) -> Iterator[Finding]:
    if "err" in (facts.get("aof_last_write_status"), facts.get("rdb_last_bgsave_status")):
        yield error(
            "persistence",
            "The server's last write to disk failed. It may refuse writes, and "
            "requests with a key get 503.",
            "Look at the server's log, its free disk space and its permissions.",
        )
    if facts.get("aof_enabled") == "1":
        yield ok("persistence", "An append-only file is written: records survive a restart.")
    elif facts.get("save") == "":
        yield warning("persistence", "Nothing is written to disk" + _FORGOTTEN, _APPEND)
    elif "save" in facts:
        yield warning(
            "persistence",
            "Only snapshots are written. A restart loses the responses since the last one, and "
            "retries of those requests run again.",
            _APPEND,
        )
    else:
        yield note(
            "persistence",
            "There is no append-only file, and the server does not reveal whether it writes "
            "snapshots" + _FORGOTTEN,
            _APPEND,
        )


def transport(facts: Facts) -> Iterator[Finding]:
    way = facts.get("transport", "")
    if way == "network":
        yield note(
            "transport",
            "Commands travel without TLS: anyone who can listen on the network can read the "
            "password and the stored responses.",
            "On a network that you do not trust, use rediss://.",
        )
    elif way in _WAYS:
        yield ok("transport", f"Commands travel over {_WAYS[way]}.")


FACTS: tuple[FactsCheck, ...] = (
    version,
    eviction,
    persistence,
    topology_checks.cluster,
    topology_checks.replication,
    transport,
)


def probe(store: InspectableStore, prefix: str) -> Iterator[Finding]:
    """Claim a key, complete it and wait for its notification; its record expires after 10 s."""
    key, record = _probe_record(prefix)
    response = CompletedRecord(record.owner, record.fingerprint, 1, 204)
    try:
        store.claim(key, record, ttl_ms=_PROBE_TTL_MS)
        with store.listen(key, _NOTIFIED_WITHIN) as waiter:
            # Not complete(): within its own process that notifies without a message.
            store.release(
                key, record.owner, response_ttl_ms=_PROBE_TTL_MS, tombstone_ttl_ms=_PROBE_TTL_MS
            )
            notified = waiter.wait_until_notified(_NOTIFIED_WITHIN)
        store.claim(key, record, ttl_ms=_PROBE_TTL_MS)
        yield from _probe_steps(store, key, record)
        store.complete(key, response, ttl_ms=_PROBE_TTL_MS, has_steps=True)
        store.delete([key])
    except IdempotentError as failure:
        yield error(
            "writing",
            f"The server refuses to keep a record: {_message(failure)}. Requests with a new key "
            "get 503.",
            _fix(str(failure)),
        )
        return
    if notified:
        yield ok("writing", "A key was claimed and completed; waiters are notified.")
    else:
        yield warning(
            "writing",
            "A record was kept, but its notification did not arrive: duplicates that wait get "
            "their response up to a second late.",
            f"Allow the user the channels: &{prefix}* and +subscribe +unsubscribe +publish.",
        )


def _probe_steps(store: InspectableStore, key: str, record: RunningRecord) -> Iterator[Finding]:
    step = Step("doctor", record.owner, 0.0, b"")
    try:
        store.write_step(key, record, step, ttl_ms=_PROBE_TTL_MS)
        store.read_steps(key, record.fingerprint)
    except IdempotentError as failure:
        yield error(
            "steps",
            f"The server refuses to keep a step: {_message(failure)}. step() fails, and requests "
            "get 503 whose key has a run that died.",
            _fix(str(failure)),
        )


def _probe_record(prefix: str) -> tuple[str, RunningRecord]:
    key = storage_key(prefix, "flask-idempotent doctor", None, secrets.token_hex())
    return key, RunningRecord(secrets.token_bytes(OWNER_SIZE), bytes(FINGERPRINT_SIZE))


def _fix(message: str) -> str:
    if "maxmemory" in message:
        return _FULL
    return _CLUSTER if _OTHER_NODE.search(message) else _REFUSED


def _message(failure: Exception) -> str:
    return str(failure).rstrip(".")


#: What a node of a cluster answers about keys that other nodes have, or none.
_OTHER_NODE = re.compile("MOVED |hash slot|CLUSTERDOWN", re.IGNORECASE)
_CLUSTER = (
    "The server is a node of a cluster. Set REDIS_URL to redis+cluster://; if it is that already, "
    "CLUSTER SHARDS shows which slots are not served."
)
_FULL = "Its memory is full. Raise maxmemory, or store less with a smaller expire= or max_body=."
_REFUSED = 'The page "Stores" lists the permissions that a user needs, and other causes.'
_FORGOTTEN = ": a restart may lose every response, and retries of those requests run again."
_APPEND = "Set appendonly yes."
_WAYS = {
    "tls": "TLS",
    "socket": "a Unix socket, on this machine",
    "loopback": "the loopback interface, on this machine",
}
