"""Checks of how several servers keep the records: replicas, Sentinel, Cluster."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from flask_idempotent.doctor.findings import Finding, error, note, ok, warning
from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.base import Store

Facts = Mapping[str, str]

_SLOTS = 16384


class Replica(NamedTuple):
    """A replica, as its primary sees it.

    :param address: its host and port.
    :param is_online: whether it follows, or is still being copied to.
    :param behind: how many bytes it has not confirmed yet.
    :param silent: seconds since it last confirmed something.
    """

    address: str
    is_online: bool
    behind: int
    silent: int


def replicas_of(facts: Facts) -> Iterator[Replica]:
    """Yield the replicas that a primary reports."""
    for number in count():
        line = facts.get(f"slave{number}")
        if line is None:
            return
        fields = dict(field.split("=", 1) for field in line.split(",") if "=" in field)
        behind = int(facts.get("master_repl_offset", 0)) - int(fields.get("offset", 0))
        yield Replica(
            f"{fields.get('ip')}:{fields.get('port')}",
            fields.get("state") == "online",
            max(0, behind),
            int(fields.get("lag", 0)),
        )


def asked(servers: Sequence[Facts]) -> Iterator[Finding]:
    """Say which servers are asked, where the address does not."""
    addresses = [facts["address"] for facts in servers]
    kinds = {facts.get("topology") for facts in servers}
    if "sentinel" in kinds:
        yield ok("topology", f"The Sentinels name {addresses[0]} as the primary.")
    elif "cluster" in kinds:
        yield ok("topology", f"The primaries of the cluster are {', '.join(addresses)}.")
    for facts in servers:
        if "failure" in facts:
            yield error(
                "topology",
                f"{facts['address']} does not answer: {facts['failure'].rstrip('.')}. Requests "
                "whose keys it has get 503.",
                "Check that it runs and can be reached; one of its replicas should replace it.",
            )


def cluster(facts: Facts) -> Iterator[Finding]:
    """Check that the store is used as the cluster that it is, and that all slots are served."""
    if facts.get("cluster_enabled") != "1":
        return
    if facts.get("topology") != "cluster":
        if int(facts.get("cluster_size", 0)) > 1:
            yield error(
                "cluster",
                "This server is one node of a cluster, and other nodes have a part of the slots: "
                "requests with keys in these get 503.",
                _USE_CLUSTER,
            )
        else:
            yield note(
                "cluster",
                "This server is the only node of a cluster that has slots: requests fail as soon "
                "as another one gets some.",
                _USE_CLUSTER,
            )
        return
    served = int(facts.get("cluster_slots_ok", _SLOTS))
    if served < _SLOTS:
        yield error(
            "cluster",
            f"{_SLOTS - served} of the cluster's {_SLOTS} slots have no primary that answers: "
            "requests with keys in these get 503.",
            "See CLUSTER SHARDS: start or replace the failed primary, or assign the slots.",
        )
    if facts.get("cluster-require-full-coverage") == "yes":
        yield warning(
            "cluster",
            "cluster-require-full-coverage is yes: while one primary without a replica is down, "
            "all requests with a key get 503, those of the other primaries too.",
            "Set cluster-require-full-coverage no on every node.",
        )


def replication(facts: Facts) -> Iterator[Finding]:
    """Check the server's role, and report its replicas and how far they lag behind."""
    if facts.get("role") == "slave":
        yield error(
            "replication",
            "This server is a replica, which refuses writes: requests with a new key get 503.",
            "Set REDIS_URL to the primary, or to the Sentinels: redis+sentinel://.",
        )
        return
    replicas = list(replicas_of(facts))
    if not replicas:
        yield ok("replication", "The server has no replicas that could lag behind.")
        return
    listed = "; ".join(map(_described, replicas))
    yield note(
        "replication",
        f"Replicas follow asynchronously: {listed}. After a failover the last claims and responses "
        "may be missing, and retries of those requests run again. min-replicas-to-write, which "
        "makes this rarer but does not exclude it, is "
        f"{facts.get('min-replicas-to-write', 'unknown')}.",
        "Where a view must not run again after a failover, set min_replicas=1.",
    )


def _described(replica: Replica) -> str:
    if not replica.is_online:
        return f"{replica.address} is being copied to"
    return (
        f"{replica.address} is {replica.behind} bytes behind and confirmed something "
        f"{replica.silent} s ago"
    )


def wanted_replicas(store: Store, min_replicas: int) -> Generator[Finding, None, int]:
    """Check that the store knows ``min_replicas``, and return how many each primary must have.

    :param min_replicas: the largest that a view has.
    """
    if not min_replicas:
        return 0
    try:
        if store.confirmed_by(min_replicas) is not store:
            return min_replicas
    except SettingsError as failure:
        yield error(
            "min_replicas",
            f"{failure}. Requests to views with it fail.",
            "Leave min_replicas out, or implement confirmed_by() in the store.",
        )
    else:
        yield note(
            "min_replicas", f"{type(store).__name__} has no replicas, and ignores min_replicas."
        )
    return 0


def replicas(servers: Sequence[Facts], wanted: int) -> Iterator[Finding]:
    """Check that each primary has the replicas that ``min_replicas`` wants, and one to spare."""
    following = {
        facts["address"]: sum(replica.is_online for replica in replicas_of(facts))
        for facts in servers
        if "role" in facts
    }
    if not wanted or not following:
        return
    fewest = min(following.values())
    counts = ", ".join(f"{address} has {number}" for address, number in following.items())
    if fewest < wanted:
        yield error(
            "min_replicas",
            f"min_replicas is {wanted}, and of replicas that follow {counts}: requests with a new "
            "key get 503 where they are too few.",
            "Add replicas, or lower min_replicas.",
        )
    elif fewest == wanted:
        yield warning(
            "min_replicas",
            f"min_replicas is {wanted}, and of replicas that follow {counts}: while one of them is "
            "away, or was promoted, requests with a new key get 503 where none is to spare.",
            f"Give each primary {wanted + 1} replicas.",
        )
    else:
        yield ok("min_replicas", f"min_replicas is {wanted}, and every primary has one to spare.")


_USE_CLUSTER = "Set REDIS_URL to redis+cluster://, with the addresses of some of the nodes."
