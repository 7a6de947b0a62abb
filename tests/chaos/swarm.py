"""Clients that do what good clients do: send a request with the same key until it is answered."""

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

#: No client sends one request more often, or goes on for longer (seconds).
MOST_TRIES = 500
ANSWER_WITHIN = 60.0
#: What clients count as faults: each makes them send the request again.
BROKEN = "broken connection"


#: Tells the requests of all swarms apart.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Job:
    """One request, to be sent until it is answered."""

    key: str
    path: str


@dataclass(frozen=True)
class Answer:
    """What a client took for the last word on a key."""

    job: Job
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.job.key

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
) -> Iterator[Job]:
    """Requests in random order: ``window`` keys at a time, each ``copies`` times.

    :param keys: how many at most.
    :param path: chooses where a key is sent.
    :param on: whether to go on with another window.
    """
    dice = random.Random(name)
    for first in range(0, keys, window):
        if not on():
            return
        numbers = range(first, min(keys, first + window))
        jobs = [Job(f"{name}-{number}", path(dice)) for number in numbers] * copies
        dice.shuffle(jobs)
        yield from jobs


class Swarm:
    """Many clients at once, each with a connection that is kept alive.

    :param port: the server's.
    :param clients: how many.
    :param jobs: what to send; the clients share it.
    """

    def __init__(self, port: int, clients: int, jobs: Iterator[Job]) -> None:
        self._port = port
        self._jobs = jobs
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.answers: list[Answer] = []
        self.unanswered: list[Job] = []
        #: Why requests were sent again.
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed),), name="swarm")
            for seed in range(clients)
        ]

    def __enter__(self) -> Swarm:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.stop()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Send nothing new."""
        self._stopped.set()

    def absorb(self, other: Swarm) -> None:
        """Count what another swarm did as our own."""
        self.answers += other.answers
        self.unanswered += other.unanswered
        self.faults += other.faults
        self.requests += other.requests

    def _next(self) -> Job | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._jobs, None)

    def _work(self, dice: random.Random) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        while (job := self._next()) is not None:
            answer = self._until_answered(connection, job, dice)
            with self._lock:
                if answer is None:
                    self.unanswered.append(job)
                else:
                    self.answers.append(answer)
        connection.close()

    def _until_answered(
        self, connection: HTTPConnection, job: Job, dice: random.Random
    ) -> Answer | None:
        deadline = time.monotonic() + ANSWER_WITHIN
        for _ in range(MOST_TRIES):
            answer = self._send(connection, job)
            fault = BROKEN if answer is None else _fault(answer)
            if answer is not None and not fault:
                return answer
            with self._lock:
                self.faults[fault] += 1
            if time.monotonic() > deadline or self._stopped.is_set():
                break
            if answer is not None and dice.random() < 0.5:
                # As a client may, it does what Retry-After says or does not.
                self._stopped.wait(float(answer.headers.get("retry-after", 0)))
        return None

    def _send(self, connection: HTTPConnection, job: Job) -> Answer | None:
        with self._lock:
            self.requests += 1
        headers = {"Idempotency-Key": job.key, "X-Request": str(next(_numbers))}
        try:
            connection.request("POST", job.path, headers=headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, HTTPException):
            connection.close()
            return None
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(job, reply.status, found, body)


def _fault(answer: Answer) -> str:
    if answer.status >= 500:
        return str(answer.status)
    return answer.problem if answer.problem == "in-progress" else ""


def ask(port: int, clients: int, jobs: list[Job]) -> Swarm:
    """Send so many requests and wait for their answers."""
    with Swarm(port, clients, iter(jobs)) as swarm:
        pass
    return swarm
