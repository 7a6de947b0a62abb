"""Services that run a view once for each key: by the engine alone, or a whole application."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Flask

from flask_idempotent import Idempotent, signals
from flask_idempotent._timing import STORE_FAILS_WITHIN
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import FingerprintMismatch, Replay, StillRunning
from flask_idempotent.errors import StoreError
from flask_idempotent.stores.factory import open_store
from flask_idempotent.web.state import EXTENSION_KEY
from tests.chaos.pauses import in_time
from tests.support.clients import Gate, post
from tests.support.engines import request

View = Callable[[], bytes]
#: What a client sees: a status, and a body where the view's response came.
Answer = tuple[int, bytes]

#: A request learns within this time that the store is dead, with a little for the machine.
DEAD_WITHIN = STORE_FAILS_WITHIN + 0.3


class Failed(Exception):
    """A view that fails."""


class Tally:
    """Counts what happens in tests that share one row of the table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._counts[what] += count

    def take(self) -> Counter[str]:
        """Return what was counted since the last call."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
            return taken


tally = Tally()


def counted(view: View) -> View:
    def run() -> bytes:
        tally.add("runs")
        return view()

    return run


class Service:
    """Serves a view that runs once for each key, as one process would.

    :param url: where records live.
    :param view: gives the body, or raises ``Failed``.
    :param settings: ``lease``, ``timeout``, ``expire`` and so on.
    """

    def __init__(self, url: str, view: View, **settings: Any) -> None:
        raise NotImplementedError

    engine: Engine
    sender: object
    #: The key of a request that names none.
    key = "one"

    def send(self, key: str | None = None, payload: str = "one") -> Answer:
        """Send a request and get its answer."""
        tally.add("requests")
        answer = self._send(key or self.key, payload)
        if answer[0] in (409, 503):
            tally.add("faults")
        return answer

    def _send(self, key: str, payload: str) -> Answer:
        raise NotImplementedError


class EngineService(Service):
    """The engine, with the shortest form of what an application does around it."""

    def __init__(self, url: str, view: View, **settings: Any) -> None:
        self.sender = object()
        self._waiters = settings.pop("max_waiters", None)
        self.engine = Engine(open_store(url, "tests"), self.sender, self._waiters)
        self._view = counted(view)
        self._settings = settings

    def _send(self, key: str, payload: str) -> Answer:
        try:
            outcome = self.engine.claim(
                request(payload, storage_key=f"IDEMPOTENT_{{{key}}}", key=key, **self._settings)
            )
        except StoreError:
            return 503, b""
        if isinstance(outcome, Claim):
            return self._run(outcome)
        if isinstance(outcome, Replay):
            assert outcome.completed.body is not None
            return 200, outcome.completed.body
        if isinstance(outcome, FingerprintMismatch):
            return 422, b""
        assert isinstance(outcome, StillRunning)
        return 409, b""

    def _run(self, claim: Claim) -> Answer:
        try:
            body = self._view()
        except Failed:
            self.engine.release(claim, "failed")
            return 500, b""
        self.engine.complete(claim, 200, (), body)
        return 200, body


class AppService(Service):
    """A Flask application with its own engine."""

    def __init__(self, url: str, view: View, **settings: Any) -> None:
        app = Flask("chaos")
        waiters = settings.pop("max_waiters", None)
        app.config.update(REDIS_URL=url, IDEMPOTENT_MAX_WAITERS=waiters)
        Idempotent(app, **settings)
        app.add_url_rule("/", "view", counted(view), methods=["POST"])
        app.register_error_handler(Failed, lambda error: (b"", 500))
        self.app = self.sender = app
        self.engine = app.extensions[EXTENSION_KEY].engine

    def _send(self, key: str, payload: str) -> Answer:
        response = post(self.app, key, data=payload)
        return response.status_code, response.data if response.status_code == 200 else b""


SERVICES: dict[str, type[Service]] = {"engine": EngineService, "app": AppService}


@dataclass
class Timed:
    """An answer, when it was asked for, and when it came."""

    status: int
    body: bytes
    since: float
    to: float

    @property
    def seconds(self) -> float:
        return self.to - self.since

    def within(self, bound: float) -> bool:
        """Whether it took less than ``bound`` seconds."""
        return in_time(self.since, self.to, bound)


def timed(service: Service, key: str | None = None, payload: str = "one") -> Timed:
    since = time.monotonic()
    status, body = service.send(key, payload)
    return Timed(status, body, since, time.monotonic())


def late(answers: Iterable[Timed], bound: float) -> list[Timed]:
    """The answers that took longer than ``bound`` seconds."""
    return [answer for answer in answers if not answer.within(bound)]


@contextmanager
def lost_leases(*services: Service) -> Iterator[list[str]]:
    """Collect the owners for which ``lease_lost`` is sent."""
    owners: list[str] = []

    def note(sender: object, owner: str, **data: Any) -> None:
        if any(sender is service.sender for service in services):
            owners.append(owner)

    with signals.lease_lost.connected_to(note):
        yield owners


class CountingView:
    """A view that counts its runs.

    :param seconds: how long each takes.
    :param failures: how many fail before one succeeds.
    """

    def __init__(self, seconds: float = 0.0, failures: int = 0) -> None:
        self.count = 0
        self.began = threading.Semaphore(0)
        self._seconds = seconds
        self._failures = failures
        self._lock = threading.Lock()

    def __call__(self) -> bytes:
        with self._lock:
            self.count += 1
            number = self.count
        self.began.release()
        # The view takes this long; the test does not wait for anything here.
        time.sleep(self._seconds)
        if number <= self._failures:
            raise Failed
        return b"run %d" % number


class GatedView(CountingView):
    """Counts its runs, each of which waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def __call__(self) -> bytes:
        body = super().__call__()
        self.gate()
        return body


T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Do something in many threads at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))
