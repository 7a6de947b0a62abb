"""Real web servers, each started once, and what a test needs to talk to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import CompletedRecord
from tests.support.polling import until
from tests.support.redis_servers import Server, free_port
from tests.wire.client import Answer, Connection, Headers, connected, message

ROOT = Path(__file__).parents[2]
APP = "tests.wire.app:application"
START_SECONDS = 30

_GUNICORN = ["gunicorn", APP, "--graceful-timeout", "3", "--bind", "127.0.0.1:{}", "-k"]
# With waitress's default of 16 MiB it works for a second on a stream that its client has left.
_WAITRESS = ["waitress", "--threads", "6", "--outbuf-high-watermark", "100000"]
_WAITRESS += ["--listen", "127.0.0.1:{}"]
_COMMANDS = {
    "dev": ["tests.wire.app", "{}"],
    "sync": [*_GUNICORN, "sync", "--workers", "3", "--preload"],
    "gthread": [*_GUNICORN, "gthread", "--workers", "2", "--threads", "4", "--preload"],
    "gevent": [*_GUNICORN, "gevent", "--workers", "2"],
    "waitress": [*_WAITRESS, APP],
}


class WebServer:
    """A real web server, running.

    :param kind: ``"dev"``, ``"sync"``, ``"gthread"``, ``"gevent"`` or ``"waitress"``.
    :param redis_port: where the store and the notes of the views are.
    :param log: the file that takes what the server prints.
    """

    def __init__(self, kind: str, redis_port: int, log: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self._log = log
        command = [part.format(self.port) for part in _COMMANDS[kind]]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=os.environ | {"WIRE_REDIS_PORT": str(redis_port)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(self._answers, START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            with connected(self.port, message("GET", "/alive")) as connection:
                return connection.answer().status == 200
        except OSError:
            return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Wire:
    """One test's view of a web server, with its own paths and its own key.

    :param server: the web server.
    :param redis_port: where the store and the notes of the views are.
    """

    def __init__(self, server: WebServer, redis_port: int) -> None:
        self.kind = server.kind
        #: Whether the server reads the whole request before it calls the application.
        self.reads_all_first = server.kind == "waitress"
        self.is_gunicorn = server.kind in ("sync", "gthread", "gevent")
        self.server = server
        self.port = server.port
        self.case = uuid.uuid4().hex
        self.key = ("Idempotency-Key", f"key-{self.case}")
        self._redis_port = redis_port
        self._store = Redis(port=redis_port, db=0, decode_responses=True)
        self._notes = Redis(port=redis_port, db=1, decode_responses=True, socket_timeout=20)

    def close(self) -> None:
        self._store.close()
        self._notes.close()

    def path(self, view: str) -> str:
        """The path of a view for this case."""
        return f"/{view}/{self.case}"

    def ask(
        self,
        view: str,
        headers: Headers = (),
        body: bytes | None = b"",
        *,
        method: str = "POST",
        query: str = "",
        version: str = "1.1",
    ) -> Answer:
        """Send one request on a new connection and read the answer."""
        request = message(method, self.path(view) + query, headers, body, version=version)
        return self.exchange(request, method)

    def exchange(self, request: bytes, method: str = "POST") -> Answer:
        """Send bytes on a new connection and read the answer."""
        with connected(self.port, request) as connection:
            return connection.answer(method)

    def connected(self, request: bytes = b"") -> Connection:
        connection = Connection(self.port)
        connection.send(request)
        return connection

    @property
    def runs(self) -> int:
        """How often this case's view ran."""
        return int(self._notes.get(f"runs:{self.case}") or 0)

    @property
    def records(self) -> int:
        """How many keys the store knows; each test begins with none."""
        return self._store.dbsize()

    def nothing_happened(self) -> bool:
        """Whether no view ran and nothing was claimed."""
        return (self.runs, self.records) == (0, 0)

    def rewrite(self, changes: dict[str, Any]) -> None:
        """Change the completed record, as another program may do."""
        with Redis(port=self._redis_port, db=0) as store:
            (name,) = store.keys()
            record = decode(store.get(name))
            assert isinstance(record, CompletedRecord)
            store.set(name, encode(record._replace(**changes)), keepttl=True)

    def replace_by_list(self) -> None:
        """Put another kind of value in the record's place."""
        (name,) = self._store.keys()
        self._store.delete(name)
        self._store.rpush(name, "a list")

    def reached(self) -> None:
        """Wait until a request has reached its view's gate."""
        self._wait(f"reached:{self.case}")

    def open(self) -> None:
        self._notes.lpush(f"gate:{self.case}", 1)

    def done(self) -> None:
        """Wait until the server has finished a request of this test."""
        self._wait(f"done:{self.case}")

    def closed(self) -> None:
        """Wait until a stream's ``call_on_close`` ran."""
        self._wait(f"closed:{self.case}")

    @property
    def closings(self) -> int:
        """How often ``call_on_close`` ran that ``closed`` has not seen."""
        return int(self._notes.llen(f"closed:{self.case}"))

    def completed(self) -> str:
        """Wait until a response is stored; say ``"kept"`` or ``"not kept"``."""
        return self._wait(f"completed:{self.key[1]}")

    def _wait(self, name: str) -> str:
        note = self._notes.blpop([name], 10)
        assert note, f"{name} never happened"
        return str(note[1])

    def waiters(self, number: int) -> None:
        """Wait until this number of processes listens for the end of a request."""
        until(lambda: self._listening() >= number)

    def _listening(self) -> int:
        channels = self._store.pubsub_channels("*IDEMPOTENT_*")
        return sum(count for _, count in self._store.pubsub_numsub(*channels))


@pytest.fixture(scope="session")
def web_servers(
    valkey: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], WebServer]]:
    """Returns the web server of a kind, which starts once for all files of tests.

    With a parametrized fixture pytest would start each kind again for each file: 60 starts, which
    take a second of the processor each.
    """
    folder = tmp_path_factory.mktemp("wire")
    with ExitStack() as stack:

        @cache
        def started(kind: str) -> WebServer:
            server = WebServer(kind, valkey.port, folder / f"{kind}.log")
            stack.callback(server.stop)
            return server

        yield started


#: `make test` takes two that differ most, CI all of them.
_TESTED = list(_COMMANDS) if "SERVERS" in os.environ else ["sync", "waitress"]


@pytest.fixture(params=_TESTED)
def wire(
    request: pytest.FixtureRequest,
    web_servers: Callable[[str], WebServer],
    clean_valkey: Server,
) -> Iterator[Wire]:
    """Each kind of web server in turn, with an empty store."""
    wire = Wire(web_servers(request.param), clean_valkey.port)
    yield wire
    wire.close()
