"""Steps that the store loses, by an eviction or somebody's DEL: a run writes them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.outcomes import OutcomeUnknown
from flask_idempotent.engine.steps import Steps
from flask_idempotent.records import ReleasedRecord
from flask_idempotent.stores.factory import open_store
from tests.support.engine_steps import again, run_step, steps_of
from tests.support.engines import KEY, claimed, request, without_thread
from tests.support.redis_servers import Server

STEPS = f"{KEY}:steps"
Lose = Callable[..., object]


@pytest.fixture
def lose(clean_valkey: Server) -> Lose:
    """Deletes keys of the store."""
    return clean_valkey.client.delete


@pytest.fixture
def engine(clean_valkey: Server) -> Iterator[Engine]:
    """An engine on a real server, whose rounds are the test's to run."""
    engine = Engine(open_store(clean_valkey.url, "tests"), None)
    without_thread(engine.worker)
    yield engine
    engine.close()


def states(engine: Engine, steps: Steps) -> dict[str, str]:
    stored = engine.store.read_steps(KEY, steps.claim.record.fingerprint)
    return {step.name: step.state for step in stored}


@pytest.mark.parametrize("lost", [(STEPS,), (KEY, STEPS)])
def test_open_step(engine: Engine, lose: Lose, lost: tuple[str, ...]) -> None:
    """A step with ``once`` that failed stays open: its function is not called again."""
    steps = steps_of(engine)
    steps.begin("charge", once=True)
    lose(*lost)
    engine.release(steps.claim, "failed")
    assert isinstance(engine.claim(request()), OutcomeUnknown)


@pytest.mark.parametrize("lost", [(STEPS,), (KEY,), (KEY, STEPS)])
def test_results(engine: Engine, lose: Lose, lost: tuple[str, ...]) -> None:
    """A view that fails leaves the results of its run, and of earlier ones, to the next run."""
    steps = steps_of(engine)
    run_step(steps, "reserve", 5)
    steps = again(engine, steps)
    run_step(steps, "reserve")
    run_step(steps, "charge", 6, once=True)
    lose(*lost)
    steps = again(engine, steps)
    assert run_step(steps, "reserve") == [5]
    assert run_step(steps, "charge", once=True) == [6]


def test_between_steps(engine: Engine, lose: Lose) -> None:
    """Where the record is gone, the next step brings back those before it."""
    steps = steps_of(engine)
    run_step(steps, "reserve", 5)
    run_step(steps, "charge", 6, once=True)
    lose(KEY, STEPS)
    run_step(steps, "mail", 7)
    assert states(engine, steps) == dict.fromkeys(("reserve", "charge", "mail"), "ended")


def test_another_has_the_key(engine: Engine, lose: Lose) -> None:
    """Where another request has claimed the key since then, it keeps it, without these steps."""
    steps = steps_of(engine)
    run_step(steps, "reserve", 5)
    lose(KEY, STEPS)
    other = claimed(engine)
    engine.release(steps.claim, "failed")
    record = engine.store.read(KEY)
    assert record is not None
    assert record.owner == other.record.owner
    assert states(engine, steps) == {}


def test_damaged_steps(engine: Engine, lose: Lose, clean_valkey: Server) -> None:
    """Steps that cannot be read do not keep the key from being released."""
    steps = steps_of(engine)
    run_step(steps, "reserve", 5)
    clean_valkey.client.hset(STEPS, "ereserve", b"damaged")
    engine.release(steps.claim, "failed")
    assert isinstance(engine.store.read(KEY), ReleasedRecord)
