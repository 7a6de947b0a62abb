"""The ports that tests give to the servers that they start."""

from __future__ import annotations

import socket

import pytest

from tests.support import redis_servers
from tests.support.redis_servers import free_port


class TestFreePort:
    @pytest.fixture
    def unused(self) -> int:
        """A port that is not marked as taken any more."""
        port = free_port()
        redis_servers._taken.pop().close()
        return port

    @pytest.fixture
    def chosen(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The ports that are chosen next, instead of random ones."""
        ports: list[int] = []
        monkeypatch.setattr(redis_servers, "_any_port", lambda: ports.pop(0))
        return ports

    def test_taken(self, unused: int, chosen: list[int]) -> None:
        """A port is given once, by all processes together, though nothing listens on it yet."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another_process:
            another_process.bind(("127.0.0.1", 0))
            taken = another_process.getsockname()[1]
            chosen += [taken, unused, unused]
            assert free_port() == unused
            with pytest.raises(IndexError):
                free_port()

    def test_listener(self, unused: int, chosen: list[int]) -> None:
        """A port on which something listens is not given."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            chosen += [listener.getsockname()[1], unused]
            assert free_port() == unused
