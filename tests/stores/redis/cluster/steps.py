"""The steps of the protocol, each as one command to a cluster that a test can answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_idempotent.stores import base
from flask_idempotent.stores.base import Busy, Claimed, Completion, StepResult
from flask_idempotent.stores.redis.commands import Script
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.harness import ENDS, HOUR, answer, owner, renewal, running
from tests.stores.redis.helpers import KEY, claim


@dataclass(frozen=True)
class Step:
    """One step, of a key that ada has claimed.

    :param needle: bytes by which a proxy knows its command.
    :param act: takes the step.
    :param succeeds: whether what it returned is right.
    """

    needle: bytes
    act: Callable[[RedisStore], Any]
    succeeds: Callable[[Any], bool]


def _script(name: str) -> bytes:
    return Script(name).digest.encode()


def _contend(store: RedisStore) -> Any:
    return store.contend(KEY, running("bob"), ttl_ms=2 * HOUR, takeover=False)


#: A step of ada's view.
ENDED = base.Step("reserve", owner("ada"), 1.5, b"")

STEPS = {
    "claim": Step(b"$3\r\nSET\r\n", claim, lambda result: result in (Claimed(1), running())),
    "contend": Step(_script("contend"), _contend, lambda result: isinstance(result, Busy)),
    "step": Step(
        _script("step"),
        lambda store: store.write_step(KEY, running(), ENDED, ttl_ms=2 * HOUR),
        lambda result: result is StepResult.WRITTEN,
    ),
    "read_steps": Step(
        b"HGETALL",
        lambda store: store.read_steps(KEY, running().fingerprint),
        lambda result: result == [],
    ),
    "complete": Step(
        _script("complete"),
        lambda store: store.complete(KEY, answer(), ttl_ms=HOUR),
        lambda result: result is Completion.STORED,
    ),
    "release": Step(
        _script("release"),
        lambda store: store.release(KEY, owner("ada"), **ENDS),
        lambda result: result in (True, False),
    ),
    "renew": Step(
        _script("renew"),
        lambda store: store.renew([renewal(KEY, running())], restore_within_ms=HOUR),
        lambda result: result == [True],
    ),
}
