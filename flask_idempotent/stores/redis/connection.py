"""What this library uses of redis-py's connections, which have no type annotations of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Parser(Protocol):
    """Reads replies off a connection."""

    def read_response(self) -> Any: ...


class Connection(Protocol):
    """A connection to a server, open or not."""

    #: The socket; None while it is not open. redis-py's own check takes 4 us of a 120 us replay.
    _sock: Any
    #: The connection's own ``read_response`` prepares for errors first, which takes longer.
    _parser: Parser

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> None: ...

    def send_command(self, *command: str, check_health: bool) -> None: ...

    def can_read(self, timeout: float) -> bool: ...

    def read_response(self) -> Any: ...
