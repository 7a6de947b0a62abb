"""A program: sends requests in forked processes, which kill themselves at the points of a case.

``python -m tests.chaos.step_cases /asked/after-claim /unknown/before-complete`` sends a request to
each path again and again, until it is answered. No lease is waited for: it is ended in the store
when its owner is dead. The program has one thread, so that it may fork.
"""

from __future__ import annotations

import os
import sys
from itertools import count

import redis
from werkzeug.test import TestResponse

from flask_idempotent.record_format import decode
from flask_idempotent.records import RunningRecord
from flask_idempotent.web.state import state_of
from tests.chaos.notes import note
from tests.chaos.step_app import app

#: No case takes more requests than this.
MOST_TRIES = 8

_numbers = count(1)


def ask(path: str) -> bool:
    """Send a request in a process of its own; whether that lived to answer for good."""
    child = os.fork()
    if not child:
        _answer(path)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def ask_here(path: str) -> TestResponse:
    """Send a request in this process."""
    headers = {"Idempotency-Key": key_of(path), "X-Request": str(next(_numbers))}
    return app.test_client().post(path, headers=headers)


def _answer(path: str) -> None:
    """Send a request, note its answer, and end: with 0 where nothing is to be sent again."""
    response = ask_here(path)
    problem = response.json["type"].rpartition(":")[2] if response.status_code >= 400 else ""
    again = problem != "" and response.json["retryable"]
    note("response", kind="services", key=key_of(path), status=response.status_code,
         problem=problem)  # fmt: skip
    os._exit(2 if again else 0)


def key_of(path: str) -> str:
    """The key that is sent to a path."""
    return path.strip("/").replace("/", "-").replace(",", "-and-")


def end_leases(server: redis.Redis) -> None:
    """End the lease of each claim: its owner is dead."""
    for name in server.scan_iter("IDEMPOTENT_*}"):
        record = decode(server.get(name))
        if isinstance(record, RunningRecord):
            server.pexpire(name, record.grace_ms)


def warm_up() -> None:
    """Do here what the first request of a process does, so that it is not done in each child."""
    ask_here("/unknown/no-point")
    state_of(app).engine.close()


def main() -> None:
    warm_up()
    with redis.Redis.from_url(app.config["REDIS_URL"]) as server:
        for path in sys.argv[1:]:
            for _ in range(MOST_TRIES):
                next(_numbers)
                if ask(path):
                    break
                end_leases(server)
            server.flushall()


if __name__ == "__main__":
    main()
