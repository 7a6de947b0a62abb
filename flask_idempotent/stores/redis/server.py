"""How to connect to a server."""

from __future__ import annotations

import copy
import inspect
import re
from functools import lru_cache, partial

from redis.backoff import NoBackoff
from redis.connection import Connection as TCPConnection
from redis.connection import (
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import RedisError
from redis.retry import Retry

from flask_idempotent.stores.redis.addresses import check_address, unusable_address
from flask_idempotent.stores.redis.connection import Connection, Place
from flask_idempotent.stores.redis.options import connection_options, trusted_idle

_VALKEY_SCHEME = re.compile("^valkey(s?)://")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Server:
    """One server, and how to connect to it.

    :param pool: a redis-py connection pool, for its kind of connections and their options; its own
        connections are not used.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        pool_options = pool.connection_kwargs
        self.database = int(pool_options.get("db") or 0)
        self.max_connections: int = pool.max_connections
        #: Seconds for which a connection may be idle and still be used unchecked.
        self.trusted_idle = trusted_idle(pool_options)
        self._encrypted = issubclass(pool.connection_class, SSLConnection)
        self._options = connection_options(pool_options, encrypted=self._encrypted)
        self._make = partial(pool.connection_class, **self._options, retry=Retry(NoBackoff(), 0))
        # This does not connect, but raises now if an option is unknown.
        driver = getattr(self._make(), "driver_info", None)
        if driver is not None:
            # Without it redis-py reads its version from its package's files for each connection.
            self._make = partial(self._make, driver_info=driver)

    @classmethod
    def from_url(cls, url: str) -> Server:
        """Read a ``redis://``, ``rediss://`` or ``unix://`` address.

        ``valkey://`` and ``valkeys://`` are other names of the first two.

        :raises SettingsError: when the address cannot be used.
        """
        url = _VALKEY_SCHEME.sub(r"redis\1://", url)
        check_address(url, option_names(url.partition("://")[0]))
        try:
            return cls(ConnectionPool.from_url(url))
        except (TypeError, ValueError, RedisError):
            # The messages of these errors quote the address, perhaps its password.
            raise unusable_address("an option has a value that it cannot have") from None

    def connection(self) -> Connection:
        connection: Connection = self._make()
        return connection

    def at(self, host: str, port: int) -> Server:
        """Return the server at another address, with the same options."""
        other = copy.copy(self)
        other._options = {**self._options, "host": host, "port": port}
        other._make = partial(self._make, host=host, port=port)
        return other

    def open(self, connection: Connection, since: float) -> None:
        connection.connect()

    def forget(self) -> None:
        pass  # The system looks a name up for each connection.

    @property
    def transport(self) -> str:
        if self._encrypted:
            return "tls"
        if "path" in self._options:
            return "socket"
        local = self._options.get("host", "localhost") in _LOOPBACK
        return "loopback" if local else "network"

    def __str__(self) -> str:
        if "path" in self._options:
            return f"unix://{self._options['path']}?db={self.database}"
        scheme = "rediss" if self._encrypted else "redis"
        return f"{scheme}://{self.place}/{self.database}"

    @property
    def endpoint(self) -> Place:
        """The host and the port."""
        return self._options.get("host", "localhost"), int(self._options.get("port", 6379))

    @property
    def place(self) -> str:
        """The host and the port, as an address has them."""
        host, port = self.endpoint
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache
def option_names(scheme: str) -> frozenset[str]:
    """Return the names of the options that an address of this scheme may have."""
    kinds = {"rediss": SSLConnection, "unix": UnixDomainSocketConnection}
    makers = (ConnectionPool, *kinds.get(scheme, TCPConnection).__mro__)
    names = {name for maker in makers for name in inspect.signature(maker).parameters}
    return frozenset(names - {"args", "kwargs", "connection_kwargs"})
