"""Two addresses of one real node of a cluster, which say what a test says about the slots.

Both lead to the same node, so that whatever is sent to either is carried out. What a node answers
that does not have a key's slot, and which addresses have which slots, comes from the test.
"""

from __future__ import annotations

from redis.crc import key_slot

from tests.support.proxy import EVER, Fault, Proxy
from tests.support.redis_fleets import SLOTS, Cluster

#: First and last slot, and the port of the node that has them.
Shown = tuple[int, int, int]
_ASK_FOR_SLOTS = b"$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"


class ShownCluster:
    """The first address has all slots until a test says otherwise.

    :param cluster: a real cluster.
    :param key: a key, whose node both addresses lead to.
    """

    def __init__(self, cluster: Cluster, key: str) -> None:
        self.slot = key_slot(key.encode())
        port = cluster.node_of(key).port
        self.first, self.second = Proxy(port), Proxy(port)
        self._shown = [Fault(_ASK_FOR_SLOTS, "refuse", times=EVER) for _ in range(2)]
        self.first.faults.append(self._shown[0])
        self.second.faults.append(self._shown[1])
        self.show((0, SLOTS - 1, self.first.port))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.first.port},127.0.0.1:{self.second.port}"

    def show(self, *ranges: Shown, host: bytes = b"127.0.0.1") -> None:
        """Answer this to CLUSTER SLOTS."""
        self.answer(slots_reply(*ranges, host=host))

    def answer(self, reply: bytes, proxy: Proxy | None = None) -> None:
        """Answer these bytes to CLUSTER SLOTS, at one address or both."""
        for shown, at in zip(self._shown, (self.first, self.second), strict=True):
            if proxy in (None, at):
                shown.reply = reply

    def asked_for_slots(self) -> int:
        """How often either address was asked which slots it has."""
        return sum(EVER - shown.times for shown in self._shown)

    def close(self) -> None:
        for proxy in (self.first, self.second):
            proxy.close()


def slots_reply(*ranges: Shown, host: bytes = b"127.0.0.1") -> bytes:
    """Return a reply to CLUSTER SLOTS, as bytes."""
    nodes = [
        b"*3\r\n:%d\r\n:%d\r\n*3\r\n$%d\r\n%b\r\n:%d\r\n$2\r\nid\r\n"
        % (first, last, len(host), host, port)
        for first, last, port in ranges
    ]
    return b"*%d\r\n%b" % (len(nodes), b"".join(nodes))
