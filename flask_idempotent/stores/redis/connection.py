"""What this library uses of redis-py's connections, which lack type annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Connection(Protocol):
    """A connection to a server, open or not."""

    #: The socket; None while it is not open. redis-py 6.0 has no public name for this.
    _sock: Any

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> None: ...

    def send_command(self, *command: str, check_health: bool) -> None: ...

    def can_read(self, timeout: float) -> bool: ...

    def read_response(self) -> Any: ...
