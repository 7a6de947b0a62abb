"""A primary, two replicas and three Sentinels that watch them, all on free loopback ports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from tests.support.polling import until
from tests.support.redis_servers import Server

SERVICE = "shop"

#: Milliseconds. By default INFO and hello messages are exchanged every 10 and 2 s, and a Sentinel
#: that was held up by a busy machine does nothing for 30 s.
_PERIODS = {
    "info-period": 200,
    "publish-period": 200,
    "ping-period": 200,
    "ask-period": 200,
    "tilt-period": 1000,
}


class Sentinel(Server):
    """A Sentinel that watches one primary.

    :param primary: its port.
    :param down_after: milliseconds of silence after which it takes the primary for dead.
    :param config: more lines of its configuration.
    """

    def __init__(
        self,
        binary: str,
        folder: Path,
        primary: int,
        down_after: int = 15_000,
        config: Iterable[str] = (),
    ) -> None:
        super().__init__(binary, folder)
        self._asking = redis.Redis(port=self.port, protocol=2, decode_responses=True)
        self._asking.response_callbacks.clear()
        self._config = folder / f"sentinel-{self.port}.conf"
        self._config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after}\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
            f"sentinel parallel-syncs {SERVICE} 2\n" + "\n".join(config)
        )
        self._command = [binary, str(self._config), "--sentinel"]

    def start(self) -> Sentinel:
        super().start()
        self.ask("DEBUG", *(word for pair in _PERIODS.items() for word in pair))
        return self

    def ask(self, *question: object) -> Any:
        """Send a command of SENTINEL; its reply is not parsed."""
        return self._asking.execute_command("SENTINEL", *question)

    def stop(self) -> None:
        self._asking.close()
        super().stop()

    @property
    def primary_port(self) -> int:
        """Where it says that the primary is."""
        return int(self.ask("GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def knows_all(self) -> bool:
        """Whether it knows the others, and two replicas that may be promoted."""
        replicas = [_pairs(reply) for reply in self.ask("REPLICAS", SERVICE)]
        ready = [r for r in replicas if r["flags"] == "slave" and r["master-link-status"] == "ok"]
        others = [_pairs(reply) for reply in self.ask("SENTINELS", SERVICE)]
        primary = _pairs(self.ask("MASTER", SERVICE))
        return [len(ready), len(others), primary["flags"]] == [2, 2, "master"] and all(
            "s_down" not in other["flags"] and "disc" not in other["flags"] for other in others
        )


def _pairs(reply: list[str]) -> dict[str, str]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


class SentinelSet:
    """One primary, two replicas, three Sentinels.

    :param binary: the program of the servers and the Sentinels.
    :param folder: where they keep their files.
    :param down_after: milliseconds of silence after which a primary is taken for dead. Long, so
        that a busy machine makes no failover; ``watch_closely`` shortens it.
    """

    def __init__(self, binary: str, folder: Path, down_after: int = 15_000) -> None:
        # Without the pauses before a replica gets its copy.
        options = ("--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "no")
        self.servers = [Server(binary, folder, *options, "--dbfilename", f"{n}") for n in range(3)]
        primary = self.servers[0].port
        self.sentinels = [Sentinel(binary, folder, primary, down_after) for _ in range(3)]

    @property
    def url(self) -> str:
        """An address that names the three Sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> SentinelSet:
        primary, *replicas = self.servers
        primary.start()
        for replica in replicas:
            replica.start()
            follow(replica, primary.port)
        for sentinel in self.sentinels:
            sentinel.start()
        self.until_whole()
        return self

    def until_whole(self, seconds: float = 30) -> None:
        """Wait until all Sentinels agree on the primary, and know two replicas."""
        until(self._is_whole, seconds, every=0.02)

    def _is_whole(self) -> bool:
        try:
            known = all(sentinel.knows_all() for sentinel in self.sentinels)
            # What they know of a replica may be from before it was started again.
            return (
                known
                and len({sentinel.primary_port for sentinel in self.sentinels}) == 1
                and all(_follows(replica, self.primary.port) for replica in self.replicas)
            )
        except (redis.RedisError, KeyError):
            return False

    @property
    def primary(self) -> Server:
        """The server that the first Sentinel names."""
        port = self.sentinels[0].primary_port
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[Server]:
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def watch_closely(self, down_after: int = 500) -> None:
        """Let the Sentinels take the primary for dead after so many milliseconds."""
        for sentinel in self.sentinels:
            sentinel.ask("SET", SERVICE, "down-after-milliseconds", down_after)

    def fail_over(self) -> None:
        """Promote a replica while the primary works, as an operator does for maintenance."""
        self.sentinels[0].ask("FAILOVER", SERVICE)

    def until_moved(self, former: Server, seconds: float = 30) -> Server:
        """Wait until all Sentinels name another primary than before, and return it."""
        until(lambda: all(s.primary_port != former.port for s in self.sentinels), seconds, 0.02)
        return self.primary

    def restart(self, server: Server) -> None:
        """Start a server that was killed, as a replica."""
        server.start()
        follow(server, self.primary.port)

    def restore(self) -> None:
        """Start the servers that were killed, and empty them."""
        for server in self.servers:
            if not server.is_running:
                self.restart(server)
        self.until_whole()
        self.primary.client.flushall()

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def __enter__(self) -> SentinelSet:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def _follows(replica: Server, port: int) -> bool:
    said = replica.client.info("replication")
    return said.get("master_port") == port and said["master_link_status"] == "up"


def follow(replica: Server, port: int) -> None:
    """Make a server the replica of another one."""
    replica.client.execute_command("REPLICAOF", "127.0.0.1", str(port))
