"""A primary and its replica, which a test may pause."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.support.polling import until
from tests.support.redis_servers import Server
from tests.support.repeating import repeated


class ReplicatedServer:
    """A primary and one replica, on free loopback ports.

    :param binary: the program of both.
    :param folder: where their files go.
    """

    def __init__(self, binary: str, folder: Path) -> None:
        self.primary = Server(binary, folder, "--repl-diskless-sync-delay", "0")
        upstream = f"127.0.0.1 {self.primary.port}".split()
        self.replica = Server(binary, folder, "--replicaof", *upstream)
        self.url = self.primary.url

    def start(self) -> ReplicatedServer:
        self.primary.start()
        self.replica.start()
        # WAIT also counts a replica that gets no new writes yet, if its copy has what was written:
        # the first of these may be, the second is not.
        until(lambda: self._confirms() and self._confirms())
        return self

    def _confirms(self) -> bool:
        self.primary.client.set("any", "")
        return self.primary.client.wait(1, 100) == 1

    @contextmanager
    def replica_paused(self, *, ends_waits: bool = True) -> Iterator[None]:
        """Stop the replica, which stays connected.

        :param ends_waits: whether who waits for it is answered at once that it did not confirm, so
            that a test may have stores that wait for a replica as long as a busy machine takes.
        """
        self.replica.signal(signal.SIGSTOP)
        try:
            with repeated(self._end_waits, 0.005) if ends_waits else nullcontext():
                yield
        finally:
            self.replica.signal(signal.SIGCONT)

    def _end_waits(self) -> None:
        client = self.primary.client
        for connection in client.client_list():
            if "b" in connection["flags"]:
                client.client_unblock(connection["id"])

    def stop(self) -> None:
        self.replica.stop()
        self.primary.stop()
