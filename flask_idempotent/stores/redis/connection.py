"""What this library uses of redis-py's connections, which lack type annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

#: The host and port of a server.
Place = tuple[str, int]


class Connection(Protocol):
    """A connection to a server, open or not."""

    #: The socket; None while it is not open. redis-py 6.0 has no public name for this.
    _sock: Any
    host: str
    port: int
    #: Seconds that connecting may take.
    socket_connect_timeout: float

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> None: ...

    def send_command(self, *command: str, check_health: bool) -> None: ...

    def can_read(self, timeout: float) -> bool: ...

    def read_response(self) -> Any: ...


class Connector(Protocol):
    """Makes connections to a server, and opens them."""

    #: The number of the database that they use.
    database: int
    #: The largest number of them at the same time.
    max_connections: int
    #: Seconds for which one may be idle and still be used unchecked.
    trusted_idle: float

    def connection(self) -> Connection:
        """Make a connection that is not open yet."""
        ...

    def open(self, connection: Connection, since: float) -> None:
        """Connect a connection that is not open.

        :param since: monotonic time at which the caller began to wait for the server.
        """
        ...

    def forget(self) -> None:
        """Look the address up again before the next connection is opened: it may be wrong."""
        ...

    @property
    def transport(self) -> str:
        """How commands travel: ``"tls"``, ``"socket"``, ``"loopback"`` or ``"network"``."""
        ...
