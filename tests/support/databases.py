"""Real databases for the tests: SQLite files, and servers of PostgreSQL and MariaDB.

The servers are Debian's. Each runs in a folder of its own below the temporary one, as an
unprivileged user where the tests run as root, and needs about a second to start.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import psycopg
import pymysql

from tests.support.redis_servers import free_port, missing

#: Databases refuse to run as root.
_RUN_AS = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}


class Database(NamedTuple):
    """An empty database of one test.

    :param kind: ``sqlite``, ``postgresql`` or ``mariadb``.
    :param url: its address for SQLAlchemy.
    :param server: the server that it is on; None for a file.
    """

    kind: str
    url: str
    server: DatabaseServer | None = None


def sqlite_file(folder: Path) -> Database:
    """An SQLite file that does not exist yet."""
    return Database("sqlite", f"sqlite:///{folder}/shop.db")


class DatabaseServer(ABC):
    """A database server on a free loopback port, which a test can stop, kill and start again.

    :param durable: whether what was committed survives ``kill``. It is slower.
    """

    kind: str
    _crash = signal.SIGKILL

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"idempotent-{self.kind}-"))
        if _RUN_AS:
            shutil.chown(self.folder, _RUN_AS["user"], _RUN_AS["group"])
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs to start."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _execute(self, statement: str) -> None: ...

    @abstractmethod
    def new_database(self) -> Database:
        """Make an empty database."""

    def start(self) -> DatabaseServer:
        """Start the server, or start it again with what it had."""
        if not any(self.folder.iterdir()):
            self._prepare()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self.folder, **_RUN_AS
            )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, f"{self.kind} does not answer"
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except (psycopg.OperationalError, pymysql.OperationalError):
            return False
        return True

    def kill(self) -> None:
        """End it as a crash does: it writes nothing, and its clients' connections break."""
        self.signal(self._crash)
        assert self._process is not None
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgreSQLServer(DatabaseServer):
    """A PostgreSQL server. A database of a test is a schema, which takes 3 ms and not 200."""

    kind = "postgresql"
    # The server kills its other processes; on SIGKILL they would outlive it for a while.
    _crash = signal.SIGQUIT

    def _prepare(self) -> None:
        subprocess.run(
            [
                _postgresql_binary("initdb"), "-D", str(self.folder / "data"), "--no-sync",
                "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale",
            ],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **_RUN_AS,
        )  # fmt: skip

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "shared_buffers": "16MB", "autovacuum": "off", "max_wal_size": "256MB",
        }  # fmt: skip
        if not self.durable:
            settings |= dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit"), "off")
        options = [part for pair in settings.items() for part in ("-c", "=".join(pair))]
        data = str(self.folder / "data")
        return [_postgresql_binary("postgres"), "-D", data, "-p", str(self.port), *options]

    def _execute(self, statement: str) -> None:
        address = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def new_database(self) -> Database:
        schema = f"test_{next(self._numbers)}"
        self._execute(f"CREATE SCHEMA {schema}")
        return Database(self.kind, self.url(schema), self)

    def url(self, schema: str, port: int | None = None) -> str:
        """The address of a schema, perhaps through a proxy's port."""
        return (
            f"postgresql+psycopg://postgres@127.0.0.1:{port or self.port}/postgres"
            f"?options=-csearch_path%3D{schema}&sslmode=disable"
        )


class MariaDBServer(DatabaseServer):
    """A MariaDB server without users and privileges, so that it needs no installation."""

    kind = "mariadb"

    def _prepare(self) -> None:
        # The server wants a folder for its own tables, and starts without them.
        system = self.folder / "data" / "mysql"
        system.mkdir(parents=True)
        if _RUN_AS:
            for folder in (system.parent, system):
                shutil.chown(folder, _RUN_AS["user"], _RUN_AS["group"])
        if self.durable:
            # A server that is killed soon after it has made its first files cannot start again.
            self._run_once()

    def _run_once(self) -> None:
        subprocess.run(
            [*self._command(), "--bootstrap"],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=self.folder, **_RUN_AS,
        )  # fmt: skip

    def _command(self) -> list[str]:
        binary = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        if not Path(binary).exists():
            missing("mariadbd")
        flush = "1" if self.durable else "0"
        return [
            binary, "--no-defaults", f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}",
            "--bind-address=127.0.0.1", f"--port={self.port}", "--skip-grant-tables",
            "--skip-networking=0", "--skip-name-resolve", "--performance-schema=0",
            f"--innodb-flush-log-at-trx-commit={flush}", f"--innodb-doublewrite={flush}",
            "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
            "--innodb-data-file-path=ibdata1:4M:autoextend",
            "--innodb-temp-data-file-path=ibtmp1:2M:autoextend", "--aria-log-file-size=8M",
        ]  # fmt: skip

    def _execute(self, statement: str) -> None:
        with (
            pymysql.connect(
                host="127.0.0.1", port=self.port, user="root", connect_timeout=5
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)

    def new_database(self) -> Database:
        name = f"test_{next(self._numbers)}"
        # Debian's default; names that differ only in case are equal in it.
        self._execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return Database(self.kind, self.url(name), self)

    def url(self, name: str, port: int | None = None) -> str:
        """The address of a database, perhaps through a proxy's port."""
        return f"mysql+pymysql://root@127.0.0.1:{port or self.port}/{name}?charset=utf8mb4"


def _postgresql_binary(name: str) -> str:
    """Debian keeps them in a folder for each version, which is not on the PATH."""
    binary = shutil.which(name) or max(
        map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None
    )
    if binary is None:
        missing(f"PostgreSQL's {name}")
    assert binary is not None
    return binary
