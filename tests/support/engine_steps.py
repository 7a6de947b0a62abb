"""Runs with steps, as tests of the engine begin, repeat and overtake them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blinker import NamedSignal

from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.steps import Steps
from tests.support.engines import KEY, claimed
from tests.support.faulty_store import Clock, FaultyStore


def run_step(steps: Steps, name: str, value: Any = None, *, once: bool = False) -> Any:
    """Carry a step out; the value of an earlier run in a list."""
    recorded = steps.begin(name, once=once)
    if recorded is not None:
        return [recorded.value]
    steps.end(name, value)
    return value


def steps_of(engine: Engine, **changes: Any) -> Steps:
    return engine.steps_of(claimed(engine, **changes))


def again(engine: Engine, steps: Steps, **changes: Any) -> Steps:
    """Release a run, and claim the next one."""
    engine.release(steps.claim, "failed")
    return steps_of(engine, **changes)


def overtake(engine: Engine, faulty: FaultyStore, steps: Steps) -> Claim:
    """Let the lease of a run end unnoticed, and another request take its key over."""
    advance(faulty, 31)
    claim = claimed(engine)
    steps.claim.renewed -= 31
    return claim


def advance(faulty: FaultyStore, seconds: float) -> None:
    assert isinstance(faulty.clock, Clock)
    faulty.clock.now += seconds


def ttl(faulty: FaultyStore) -> int:
    (info,) = faulty.inspect([KEY])
    return info.ttl_ms


def info_steps(faulty: FaultyStore) -> dict[str, str]:
    (info,) = faulty.inspect([KEY])
    return dict(info.steps)


def record_options(faulty: FaultyStore, name: str, seen: list[Any]) -> None:
    """Record the keywords with which a method of the store is called."""
    method = getattr(faulty, name)

    def recording(*args: Any, **options: Any) -> Any:
        seen.append(options)
        return method(*args, **options)

    setattr(faulty, name, recording)


@contextmanager
def signals_of(signal: NamedSignal) -> Iterator[list[dict[str, Any]]]:
    """Record what a signal says."""
    seen: list[dict[str, Any]] = []

    def note(_: object, **data: Any) -> None:
        seen.append(data)

    with signal.connected_to(note):
        yield seen
