"""The primary that Sentinels name: how to connect to it, and what follows when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self

from flask_idempotent import _timing
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.redis.connection import Connection, Place
from flask_idempotent.stores.redis.fleet_addresses import SentinelAddress
from flask_idempotent.stores.redis.sentinels import Sentinels
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.topology import SingleServer
from flask_idempotent.stores.redis.translation import ERRORS


class _Primary:
    """Connects to the server that Sentinels name, if it is a primary.

    :param server: the options of its connections.
    :param sentinels: know its address.
    """

    def __init__(self, server: Server, sentinels: Sentinels) -> None:
        self._server = server
        self._sentinels = sentinels
        self.database = server.database
        self.max_connections = server.max_connections
        self.trusted_idle = server.trusted_idle

    @property
    def transport(self) -> str:
        place = self._sentinels.place
        return (self._server.at(*place) if place else self._server).transport

    def __str__(self) -> str:
        place = self._sentinels.place
        return str(self._server.at(*place)) if place else "the primary that the Sentinels name"

    def connection(self) -> Connection:
        connection = self._server.connection()
        longest = _timing.CONNECT_TIMEOUT - _timing.SENTINEL_AT_LEAST
        connection.socket_connect_timeout = min(connection.socket_connect_timeout, longest)
        return connection

    def open(self, connection: Connection, since: float) -> None:
        error: Exception | None = None
        for place in self._sentinels.places(since):
            if error is not None and time.monotonic() > since + _timing.SENTINEL_WITHIN:
                break
            try:
                _connect(connection, place)
                return
            except (*ERRORS, StoreUnavailable) as this:
                error = this
        assert error is not None
        raise error

    def forget(self) -> None:
        self._sentinels.forget()


def _connect(connection: Connection, place: Place) -> None:
    """Connect to a server that must be a primary.

    :raises StoreUnavailable: when it is not.
    """
    connection.disconnect()
    connection.host, connection.port = place
    connection.connect()
    connection.send_command("ROLE", check_health=False)
    role = connection.read_response()
    if not isinstance(role, list) or role[:1] != [b"master"]:
        raise StoreUnavailable("the server that the Sentinels name is not a primary", sent=False)


class SentinelPrimary(SingleServer):
    """The primary that Sentinels name has all keys.

    :param server: the options of its connections; their address does not count.
    :param sentinels: how to connect to each Sentinel.
    :param service: the name by which they know the primary.
    :param clock: returns seconds, for the idle times and ages of connections.
    """

    kind = "sentinel"

    def __init__(
        self,
        server: Server,
        sentinels: Sequence[Server],
        service: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sentinels = Sentinels(sentinels, service, self._move, self._is_used)
        super().__init__(_Primary(server, self._sentinels), clock=clock)
        scheme = "rediss" if server.transport == "tls" else "redis"
        hosts = ",".join(sentinel.place for sentinel in sentinels)
        self._name = f"{scheme}+sentinel://{hosts}/{service}/{server.database}"

    @classmethod
    def at(cls, address: SentinelAddress, clock: Callable[[], float] = time.monotonic) -> Self:
        """Make it from an address.

        :raises SettingsError: when the address has an option with a wrong value.
        """
        sentinels = [Server.from_url(url) for url in address.sentinel_urls]
        return cls(Server.from_url(address.primary_url), sentinels, address.service, clock)

    def __str__(self) -> str:
        return self._name

    def _move(self) -> None:
        self._node.drop()

    def _is_used(self) -> bool:
        # Connections that nobody watches over must not be used again.
        return not self._node.close_unused(_timing.SENTINEL_UNUSED_AFTER)

    def close(self) -> None:
        self._sentinels.close()
        super().close()
