"""What servers report about themselves and their settings."""

from __future__ import annotations

from contextlib import suppress

from flask_idempotent.errors import StoreError
from flask_idempotent.stores.redis.node import Node
from flask_idempotent.stores.redis.topology import Topology

_SETTINGS = ("save", "min-replicas-to-write")
_CLUSTER_SETTINGS = ("cluster-require-full-coverage",)


def facts_of(topology: Topology) -> list[dict[str, str]]:
    """Return the facts of each server that has keys; see ``InspectableStore.facts``.

    :raises StoreError: when none of them says anything.
    """
    servers, failures = [], []
    for node in topology.nodes():
        try:
            facts = _facts_of_node(node)
        except StoreError as error:
            failures.append(error)
            facts = {"failure": str(error)}
        # The connection is open now, so that the address of a Sentinel's primary is known.
        place = {"topology": topology.kind, "address": str(node), "transport": topology.transport}
        servers.append(facts | place)
    if len(failures) == len(servers):
        raise failures[0]
    return servers


def _facts_of_node(node: Node) -> dict[str, str]:
    """Return a server's facts by their names in INFO, CONFIG and CLUSTER INFO.

    :raises StoreError: when it does not answer to INFO.
    """
    facts = _lines(node.execute("INFO"))
    settings = [*_SETTINGS]
    if facts.get("cluster_enabled") == "1":
        settings += _CLUSTER_SETTINGS
        with suppress(StoreError):
            facts |= _lines(node.execute("CLUSTER", "INFO"))
    # Hosted servers often forbid CONFIG. Redis before 7.0 returns one at a time.
    for name in settings:
        with suppress(StoreError):
            facts[name] = node.execute("CONFIG", "GET", name)[1].decode()
    return facts


def _lines(reply: bytes) -> dict[str, str]:
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
