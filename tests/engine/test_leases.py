"""The keeper: renewing what takes long, and going on with what the store did not take."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from flask_idempotent import signals
from flask_idempotent.engine.claims import Claim
from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.leases import Keeper
from flask_idempotent.engine.outcomes import Replay, Waiting
from flask_idempotent.errors import StoreUnavailable, WriteRefused
from flask_idempotent.records import Completed, InProgress
from flask_idempotent.stores.base import Store
from tests.engine.harness import KEY, Clock, Shaky, fail, finish, order
from tests.stores.harness import lapse
from tests.support.polling import until

ROOT = Path(__file__).parents[2]


def begin(engine: Engine, **changes: object) -> Claim:
    claim = engine.begin(order(**changes))  # type: ignore[arg-type]
    assert isinstance(claim, Claim)
    return claim


class TestRenewing:
    def test_slow_view_keeps_its_claim(self, store: Store) -> None:
        """A view slower than its lease is renewed: a duplicate goes on waiting, nobody runs."""
        engine = Engine(store, None)
        claim = begin(engine, lease=0.15)
        waiting = engine.begin(order(lease=0.15, timeout=0.6))
        assert isinstance(waiting, Waiting)
        assert claim.held
        finish(engine, claim)
        assert isinstance(engine.begin(order()), Replay)
        engine.close()

    def test_quick_view_costs_nothing(self, engine: Engine, shaky: Shaky) -> None:
        """A view that ends within a third of its lease is never renewed."""
        claim = begin(engine)
        engine._keeper.renew_due()
        finish(engine, claim)
        assert shaky.calls == ["claim", "complete"]

    def test_due_after_a_third(self, engine: Engine) -> None:
        """A claim is due when a third of its lease is over, counted from before it was sent."""
        claim = begin(engine, lease=30.0)
        assert not claim.is_due(claim.sent + 9.9)
        assert claim.is_due(claim.sent + 10.1)

    def test_many_claims_one_command(self, engine: Engine, shaky: Shaky) -> None:
        """All claims that are due are renewed in one call."""
        claims = [begin(engine, key=f"IDEMPOTENT_{{{n}}}") for n in range(10)]
        for claim in claims:
            claim.renewed -= 20
        engine._keeper.renew_due()
        assert shaky.calls.count("renew") == 1
        assert not any(claim.is_due(time.monotonic()) for claim in claims)

    def test_settled_claim_is_never_renewed(self, engine: Engine, shaky: Shaky) -> None:
        """A renewal cannot overtake a completion: the claim's lock stands between them."""
        claim = begin(engine)
        claim.renewed -= 20

        def meanwhile() -> None:
            engine._keeper.renew_due()
            assert "renew" not in shaky.calls

        shaky.before["complete"] = [meanwhile]
        finish(engine, claim)
        claim.settled = True
        engine._keeper.add(claim)
        engine._keeper.renew_due()
        assert "renew" not in shaky.calls
        engine._keeper.remove(claim)

    def test_released_claim_is_never_renewed(self, engine: Engine, shaky: Shaky) -> None:
        """A round that began before a release puts nothing back after it."""
        claim = begin(engine)
        engine.release(claim, "failed")
        claim.renewed -= 20
        engine._keeper.add(claim)
        engine._keeper.renew_due()
        assert "renew" not in shaky.calls
        engine._keeper.remove(claim)

    def test_release_waits_for_a_renewal(
        self, engine: Engine, shaky: Shaky, background: Callable[..., Future[None]]
    ) -> None:
        """A release does not overtake a renewal that is under way, which would put it back."""
        claim = begin(engine)
        claim.renewed -= 20
        releases: list[Future[None]] = []

        def meanwhile() -> None:
            releases.append(background(engine.release, claim, "failed"))
            with pytest.raises(TimeoutError):
                releases[0].result(0.1)

        shaky.before["renew"] = [meanwhile]
        engine._keeper.renew_due()
        releases[0].result(5)
        assert shaky.calls == ["claim", "renew", "release"]
        assert shaky.read(KEY) is None

    def test_c9_max_run(
        self, engine: Engine, shaky: Shaky, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C9: a view that runs longer than ``max_run`` is renewed no more, and told of once."""
        claim = begin(engine, client_key="a-key-that-is-long", max_run=60.0)
        claim.renewed -= 20
        engine._keeper.renew_due()
        assert shaky.calls.count("renew") == 1
        claim.sent -= 61
        for _ in range(2):
            claim.renewed -= 20
            engine._keeper.renew_due()
        assert shaky.calls.count("renew") == 1
        (record,) = [r for r in caplog.records if "max_run" in r.message]
        assert record.levelname == "WARNING"
        assert KEY in record.message
        assert "a-key-that" not in record.message
        claim.returned = True
        engine._keeper.renew_due()
        assert shaky.calls.count("renew") == 2, "what streams is renewed as ever"

    def test_lost_lease_is_told_once(
        self, engine: Engine, shaky: Shaky, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A lost lease is a warning, a signal and ``held`` false; once, and without the key."""
        told: list[object] = []
        claim = begin(engine, client_key="a-key-that-is-long")
        lapse(shaky, KEY)
        successor = Engine(shaky, None)
        begin(successor)
        with signals.lease_lost.connected_to(lambda sender, **data: told.append(sender)):
            for _ in range(2):
                claim.renewed -= 20
                engine._keeper.renew_due()
        assert told == ["the app"]
        assert not claim.held
        (record,) = [r for r in caplog.records if "lease lost" in r.message]
        assert record.levelname == "WARNING"
        assert "a-key-th…" in record.message
        assert "a-key-that" not in record.message
        successor.close()

    def test_failed_renewal_harms_nobody(
        self, engine: Engine, shaky: Shaky, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A renewal that fails is logged and tried again; the claim stays held."""
        told: list[object] = []
        claim = begin(engine)
        claim.renewed -= 20
        shaky.before["renew"] = [fail(StoreUnavailable("down"))]
        with signals.store_failed.connected_to(lambda s, operation, error: told.append(operation)):
            engine._keeper.renew_due()
        assert told == ["renew"]
        assert claim.held
        assert claim.is_due(time.monotonic())
        engine._keeper.renew_due()
        assert not claim.is_due(time.monotonic())
        assert "failed to renew: down" in caplog.text

    def test_unknown_renewal_is_no_loss(
        self, engine: Engine, shaky: Shaky, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A renewal of which nothing is known leaves the claim held, and due."""
        claim = begin(engine)
        claim.renewed -= 20
        monkeypatch.setattr(shaky, "renew", lambda renewals, until: [None])
        engine._keeper.renew_due()
        assert claim.held
        assert claim.is_due(time.monotonic())

    def test_lost_record_is_put_back(self, engine: Engine, shaky: Shaky) -> None:
        """A record that the store lost is put back by the next renewal."""
        claim = begin(engine)
        claim.renewed -= 20
        shaky.delete([KEY])
        engine._keeper.renew_due()
        record = shaky.read(KEY)
        assert isinstance(record, InProgress)
        assert record.owner == claim.record.owner

    def test_put_back_only_while_the_command_is_fresh(self, engine: Engine, shaky: Shaky) -> None:
        """A renewal that a stopped store carries out long after puts nothing back."""
        claim = begin(engine)
        claim.renewed -= 20
        shaky.delete([KEY])
        clock = shaky._clock
        assert isinstance(clock, Clock)
        shaky.before["renew"] = [lambda: setattr(clock, "now", clock.now + 2)]
        engine._keeper.renew_due()
        assert shaky.read(KEY) is None

    def test_shorter_lease_quickens_the_keeper(self, store: Store) -> None:
        """A keeper that sleeps for a long lease is woken for a shorter one."""
        engine = Engine(store, None)
        begin(engine, key="IDEMPOTENT_{long}", lease=600.0)
        until(lambda: engine._keeper._thread is not None)
        short = begin(engine, lease=0.1)
        until(lambda: short.renewed > short.sent)
        engine.close()


class TestClaim:
    def test_lock_is_of_the_present_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim's lock is gevent's where gevent patched threading after this package's import."""
        monkeypatch.setattr(threading, "Lock", threading.RLock)
        claim = Claim(order(), InProgress(b"o" * 16, b"f" * 16), 0.0, 0.0)
        assert isinstance(claim.lock, type(threading.RLock()))


class TestThread:
    def test_one_thread_that_starts_with_the_first_claim(self, shaky: Shaky) -> None:
        """There is no thread before the first claim, and one for all of them."""
        engine = Engine(shaky, None)
        assert engine._keeper._thread is None
        for number in range(5):
            begin(engine, key=f"IDEMPOTENT_{{{number}}}")
        names = [t.name for t in threading.enumerate()]
        assert names.count("flask-idempotent-keeper") == 1
        engine.close()

    def test_interrupted_while_it_starts(
        self, shaky: Shaky, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker's timeout while the thread starts leaves no claim that is renewed for ever."""
        engine = Engine(shaky, None)

        def interrupt() -> None:
            monkeypatch.undo()
            raise SystemExit

        monkeypatch.setattr(engine._keeper, "_rouse", interrupt)
        with pytest.raises(SystemExit):
            engine.begin(order())
        assert engine._keeper._claims == {}
        until(lambda: shaky.read(KEY) is None)
        engine.close()

    def test_no_more_threads(self, shaky: Shaky, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no thread can be had the key is given back, and the next claim has its keeper."""
        engine = Engine(shaky, None)

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            engine.begin(order(lease=0.06))
        monkeypatch.undo()
        assert engine._keeper._claims == {}
        claim = begin(engine, lease=0.06, timeout=0)
        assert claim.attempt == 1
        until(lambda: claim.renewed > claim.sent)
        engine.close()

    def test_sleeps_when_idle_and_wakes(self, shaky: Shaky) -> None:
        """Without claims the keeper sleeps for good; the next claim wakes it."""
        engine = Engine(shaky, None)
        finish(engine, begin(engine, lease=0.06))
        until(lambda: engine._keeper._asleep)
        claim = begin(engine, key="IDEMPOTENT_{next}", lease=0.06)
        until(lambda: claim.renewed > claim.sent)
        engine.close()

    def test_busy_process_does_not_wake_it(self, engine: Engine) -> None:
        """One claim after another wakes the keeper once, not each time."""
        keeper, woken = engine._keeper, 0
        rouse = keeper._rouse

        def count() -> None:
            nonlocal woken
            woken += 1
            rouse()

        keeper._rouse = count  # type: ignore[method-assign]
        for number in range(50):
            finish(engine, begin(engine, key=f"IDEMPOTENT_{{{number}}}"))
        assert woken == 1

    def test_survives_its_own_faults(self, shaky: Shaky, caplog: pytest.LogCaptureFixture) -> None:
        """An error that nobody foresaw is logged, and the next renewal comes all the same."""
        engine = Engine(shaky, None)
        shaky.before["renew"] = [fail(ZeroDivisionError())]
        claim = begin(engine, lease=0.06)
        until(lambda: claim.renewed > claim.sent)
        assert "looking after claims failed" in caplog.text
        engine.close()

    def test_destructor_at_the_very_end(self) -> None:
        """What is dropped while the interpreter ends is logged as lost, and hangs nobody."""
        program = """
            from flask_idempotent.engine.engine import Engine
            from flask_idempotent.stores.memory import MemoryStore
            from tests.engine.harness import order

            class Dropped:
                def __init__(self):
                    self.itself = self
                    self.engine = Engine(MemoryStore(), None)
                    self.claim = self.engine.begin(order())

                def __del__(self):
                    self.engine.complete_later(self.claim, 200, (), None)

            dropped = Dropped()
        """
        command = [sys.executable, "-c", textwrap.dedent(program)]
        done = subprocess.run(
            command, cwd=ROOT, timeout=20, check=True, capture_output=True, text=True
        )
        assert f"is lost: record {KEY}: the process ends" in done.stderr

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_child_begins_anew(self, shaky: Shaky) -> None:
        """A forked child has no claims and no thread, even if a lock was held at the fork."""
        engine = Engine(shaky, None)
        begin(engine)
        with engine._keeper._lock:
            pid = os.fork()
            if pid == 0:
                clean = engine._keeper._claims == {} and engine._keeper._thread is None
                free = engine._keeper._lock.acquire(timeout=1)
                os._exit(0 if clean and free else 1)
        assert os.waitpid(pid, 0)[1] == 0
        engine.close()


class TestTasks:
    def test_tried_until_taken(self, shaky: Shaky) -> None:
        """What the store does not take is tried again until it does."""
        keeper = Keeper(shaky, None)
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise StoreUnavailable("down")

        keeper.retry("key", work, 60, lambda reason: None)
        until(lambda: not keeper.has_tasks)
        assert len(tries) == 3
        keeper.close()

    def test_dead_store_ends_the_round(self, shaky: Shaky) -> None:
        """While the store is dead one try is enough; a refusal lets the others have theirs."""
        keeper = Keeper(shaky, None)
        keeper._rouse = lambda: None  # type: ignore[method-assign]
        tried: list[str] = []

        def refuse(name: str, error: Exception) -> Callable[[], None]:
            def work() -> None:
                tried.append(name)
                raise error

            return work

        keeper.retry("key", refuse("refused", WriteRefused("full")), 60, lambda reason: None)
        keeper.retry("key", refuse("dead", StoreUnavailable("down")), 60, lambda reason: None)
        keeper.retry("key", refuse("never", StoreUnavailable("down")), 60, lambda reason: None)
        with pytest.raises(StoreUnavailable):
            keeper.work_off()
        assert tried == ["refused", "dead"]
        keeper._tasks.clear()
        keeper.close()

    def test_what_breaks_the_connection_comes_last(self, shaky: Shaky) -> None:
        """One that always kills its connection stands in the others' way for one round at most."""
        keeper = Keeper(shaky, None)
        keeper._rouse = lambda: None  # type: ignore[method-assign]
        done: list[int] = []
        keeper.retry("poison", fail(StoreUnavailable("broke")), 60, lambda reason: None)
        keeper.retry("key", lambda: done.append(1), 60, lambda reason: None)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                keeper.work_off()
        assert done == [1]
        assert [task.key for task in keeper._tasks] == ["poison"]
        keeper._tasks.clear()
        keeper.close()

    def test_hopeless_work_is_given_up(
        self, shaky: Shaky, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What fails for another reason than the store is given up, and stops nothing behind it."""
        keeper = Keeper(shaky, None)
        keeper._rouse = lambda: None  # type: ignore[method-assign]
        given_up, done = [], []
        keeper.retry("key", fail(ValueError("no such text")), 60, given_up.append)
        keeper.retry("key", lambda: done.append(1), 60, given_up.append)
        keeper.work_off()
        assert given_up == ["no such text"]
        assert done == [1]
        assert "cannot be taken" in caplog.text
        keeper.close()

    def test_lingers(self, shaky: Shaky, caplog: pytest.LogCaptureFixture) -> None:
        """A process that ends goes on trying for a while, and says what waits."""
        keeper = Keeper(shaky, None)
        keeper._rouse = lambda: None  # type: ignore[method-assign]
        tries: list[int] = []
        lost: list[str] = []

        def work() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise StoreUnavailable("down")

        keeper.retry("IDEMPOTENT_{waits}", work, 60, lost.append)
        keeper.close(time.monotonic() + 60)
        assert (len(tries), lost) == (3, [])
        assert caplog.text.count("has not taken: records IDEMPOTENT_{waits}") == 1

    @pytest.mark.parametrize("error", [StoreUnavailable("down"), WriteRefused("full")])
    def test_lingers_in_vain(self, shaky: Shaky, error: Exception) -> None:
        """When that time is over, or is interrupted, it says what is lost."""
        keeper = Keeper(shaky, None)
        keeper._rouse = lambda: None  # type: ignore[method-assign]
        lost: list[str] = []
        began = time.monotonic()
        keeper.retry("one", fail(error), 60, lost.append)
        keeper.retry("two", fail(error), 60, lost.append)
        keeper.close(began + 0.05)
        assert lost == ["the process ends"] * 2
        assert 0.05 <= time.monotonic() - began < 2
        keeper.retry("three", fail(KeyboardInterrupt()), 60, lost.append)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            keeper.close(time.monotonic() + 60)
        assert lost == ["the process ends"] * 3

    def test_renews_while_it_lingers(self, engine: Engine, shaky: Shaky) -> None:
        """Where the store takes no responses but renewals, nobody else runs meanwhile."""
        claim = begin(engine)
        shaky.before["complete"] = [fail(WriteRefused("full"))] * 4
        finish(engine, claim)
        claim.renewed -= 20
        engine.close(time.monotonic() + 60)
        assert "renew" in shaky.calls
        assert isinstance(shaky.read(KEY), Completed)

    def test_one_round_at_a_time(self, shaky: Shaky) -> None:
        """Two threads do not do the same work twice."""
        keeper = Keeper(shaky, None)
        keeper._rouse = lambda: None  # type: ignore[method-assign]
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            keeper.work_off()

        keeper.retry("key", work, 60, lambda reason: None)
        keeper.work_off()
        assert tries == [1]
        keeper.close()
