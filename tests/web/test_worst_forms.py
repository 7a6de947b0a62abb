"""W7: forms that are made to take long cost a real server no more than others.

Takes a minute and a machine that does nothing else, so it runs only where the environment says
how large the forms are, as in ``LARGE_BODY_MB=20``; ``test_body_costs`` tries the same forms in
memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from tests.support.redis_servers import Server
from tests.support.web_servers import connected, serving
from tests.support.worst_bodies import WORST, worst_body

SIZE = int(os.environ.get("LARGE_BODY_MB", "0")) * 1_000_000
#: How many times the time of bare Flask a form may take: without a key, and with one, for which its
#: bytes are digested. A boundary of one letter takes longer to find than all else.
MOST_TIME, MOST_TIME_WITH_KEY = 4, 6
MOST_MEMORY = 1.2
ROUNDS = 5

pytestmark = [
    pytest.mark.skipif(not SIZE, reason="LARGE_BODY_MB is not set"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux says the memory of a process"),
]


@dataclass(frozen=True)
class Cost:
    """What uploads cost: seconds of the fastest, and KiB that the server needed at most."""

    time: float
    memory: int


#: What the servers of these tests have in their environment besides: one heap for all threads, so
#: that their memory does not depend on which of them serves.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}


@pytest.fixture
def cost(clean_valkey: Server, tmp_path: Path) -> Callable[..., Cost]:
    """Measures uploads to a server that nothing else is sent to."""

    def measure(path: str, kind: str, body: bytes, *, key: bool = False) -> Cost:
        environment = {"REDIS_URL": clean_valkey.url, **ONE_HEAP}
        app = "tests.support.applications:large"
        with serving("gunicorn", app, tmp_path, **environment) as port:
            upload(port, path, "text/plain", b"", key=True)
            before = peak(port)
            seconds = min(upload(port, path, kind, body, key=key) for _ in range(ROUNDS))
            return Cost(seconds, peak(port) - before)

    return measure


# The key's own field would be a key in the uploads that are to have none.
@pytest.mark.parametrize("name", [name for name in WORST if name != "the field"])
def test_w7_time_and_memory(cost: Callable[..., Cost], name: str) -> None:
    """W7: a view that reads the bytes is about as soon, and takes no more memory."""
    kind, body = worst_body(name, SIZE)
    # What bare Flask needs differs by 20 MB from server to server: whether a copy of the body is
    # freed before the next one is made.
    bare = [cost("/exempt/bytes", kind, body) for _ in range(3)]
    most_memory, bare_time = max(b.memory for b in bare), median(b.time for b in bare)
    for key, most_time in ((False, MOST_TIME), (True, MOST_TIME_WITH_KEY)):
        ours = cost("/bytes", kind, body, key=key)
        assert ours.memory <= MOST_MEMORY * most_memory
        assert ours.time <= most_time * bare_time


def upload(port: int, path: str, kind: str, body: bytes, *, key: bool = False) -> float:
    """Send a form to a view that counts its bytes.

    :returns: seconds until the whole answer was there.
    """
    headers = {"Content-Type": kind}
    if key:
        headers["Idempotency-Key"] = uuid.uuid4().hex
    with connected(port) as connection:
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        answer = json.loads(connection.getresponse().read())
        seconds = time.perf_counter() - began
    assert answer == {"size": len(body)}
    return seconds


def peak(port: int) -> int:
    """The most memory that the server has held, in KiB."""
    with connected(port) as connection:
        connection.request("GET", "/peak")
        return int(connection.getresponse().read())
