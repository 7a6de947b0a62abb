"""Clients that send a request with the same key again until it is answered."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

#: No client sends a request more often, or keeps trying for more seconds.
MOST_TRIES = 500
ANSWER_WITHIN = 60.0
#: A fault that makes a client send its request again.
BROKEN = "broken connection"


#: Numbers for the requests of all clients.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Request:
    """A request that is sent until it is answered."""

    key: str
    path: str


@dataclass(frozen=True)
class Answer:
    """The final answer to a request."""

    request: Request
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.request.key

    @property
    def replayed(self) -> bool:
        return "idempotent-replayed" in self.headers

    @property
    def content(self) -> tuple[object, ...]:
        """What a replay must repeat."""
        named = ("content-type", "content-length", "x-run")
        return (self.status, self.body, *(self.headers.get(name) for name in named))

    @property
    def problem(self) -> str:
        """The last part of a problem's type, or nothing."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(json.loads(self.body)["type"]).rpartition(":")[2]


def rounds(
    name: str,
    *,
    keys: int,
    copies: int,
    window: int,
    path: Callable[[random.Random], str],
    on: Callable[[], bool] = lambda: True,
) -> Iterator[Request]:
    """Requests in random order: ``window`` keys at a time, each ``copies`` times.

    :param keys: how many at most.
    :param path: chooses the path to which a key is sent.
    :param on: whether another window follows.
    """
    dice = random.Random(name)
    for first in range(0, keys, window):
        if not on():
            return
        numbers = range(first, min(keys, first + window))
        requests = [Request(f"{name}-{number}", path(dice)) for number in numbers] * copies
        dice.shuffle(requests)
        yield from requests


class RetryingClients:
    """Many clients at once, each with a kept-alive connection.

    :param port: the server's.
    :param count: how many clients.
    :param requests: what to send; the clients share it.
    """

    def __init__(self, port: int, count: int, requests: Iterator[Request]) -> None:
        self._port = port
        self._jobs = requests
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.answers: list[Answer] = []
        self.unanswered: list[Request] = []
        #: Why requests were sent again.
        self.faults: Counter[str] = Counter()
        self.sent = 0
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed),), name="clients")
            for seed in range(count)
        ]

    def __enter__(self) -> RetryingClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.stop()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Send no new request."""
        self._stopped.set()

    def absorb(self, other: RetryingClients) -> None:
        """Add the counts of other clients to these."""
        self.answers += other.answers
        self.unanswered += other.unanswered
        self.faults += other.faults
        self.sent += other.sent

    def _next(self) -> Request | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._jobs, None)

    def _work(self, dice: random.Random) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        while (request := self._next()) is not None:
            answer = self._until_answered(connection, request, dice)
            with self._lock:
                if answer is None:
                    self.unanswered.append(request)
                else:
                    self.answers.append(answer)
        connection.close()

    def _until_answered(
        self, connection: HTTPConnection, request: Request, dice: random.Random
    ) -> Answer | None:
        deadline = time.monotonic() + ANSWER_WITHIN
        for _ in range(MOST_TRIES):
            answer = self._send(connection, request)
            fault = BROKEN if answer is None else _fault(answer)
            if answer is not None and not fault:
                return answer
            with self._lock:
                self.faults[fault] += 1
            if time.monotonic() > deadline or self._stopped.is_set():
                break
            if answer is not None and dice.random() < 0.5:
                # Some clients respect Retry-After, some do not.
                self._stopped.wait(float(answer.headers.get("retry-after", 0)))
        return None

    def _send(self, connection: HTTPConnection, request: Request) -> Answer | None:
        with self._lock:
            self.sent += 1
        headers = {"Idempotency-Key": request.key, "X-Request": str(next(_numbers))}
        try:
            connection.request("POST", request.path, headers=headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, HTTPException):
            connection.close()
            return None
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(request, reply.status, found, body)


def _fault(answer: Answer) -> str:
    if answer.status >= 500:
        return str(answer.status)
    return answer.problem if answer.problem == "in-progress" else ""


def send_all(port: int, count: int, requests: list[Request]) -> RetryingClients:
    """Send requests and wait for their answers."""
    with RetryingClients(port, count, iter(requests)) as clients:
        pass
    return clients
