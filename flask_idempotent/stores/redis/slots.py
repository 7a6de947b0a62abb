"""The slots of a cluster, as redis-py computes and reads them."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.cluster import parse_cluster_slots
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from flask_idempotent.stores.redis.connection import Place

#: How many slots a cluster has.
SLOTS: int = REDIS_CLUSTER_HASH_SLOTS


class SlotRange(NamedTuple):
    """Slots that one node has.

    :param first: the first of them.
    :param last: the last of them.
    :param place: where the node is.
    """

    first: int
    last: int
    place: Place


def slot_of(name: str) -> int:
    """Return the slot of a key or a channel."""
    slot: int = key_slot(name.encode("utf-8", "surrogateescape"))
    return slot


def read_slots(reply: Any, host: str) -> list[SlotRange]:
    """Read a reply to ``CLUSTER SLOTS``.

    :param host: the host of the node that was asked, which may leave out its own.
    :raises ValueError: when it is not such a reply.
    """
    try:
        slots = parse_cluster_slots(reply, current_host=host)
        ranges = [SlotRange(*bounds, node["primary"]) for bounds, node in slots.items()]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError("not a reply to CLUSTER SLOTS") from error
    # A node that does not know another one's host name says "?".
    return [slot_range for slot_range in ranges if slot_range.place[0] != "?"]
