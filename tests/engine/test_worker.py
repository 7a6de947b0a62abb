"""The worker: its thread, and what it does when the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from flask_idempotent.engine.engine import Engine
from flask_idempotent.engine.reports import Reports
from flask_idempotent.engine.worker import Worker
from flask_idempotent.errors import StoreUnavailable, WriteRefused
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.base import Store
from tests.support.engines import KEY, claimed, finish, request, without_thread
from tests.support.faulty_store import FaultyStore, fail
from tests.support.pauses import within
from tests.support.polling import until

ROOT = Path(__file__).parents[2]


def workers() -> int:
    """How many worker threads there are."""
    return [thread.name for thread in threading.enumerate()].count("flask-idempotent-worker")


class TestThread:
    def test_one_thread_that_starts_with_the_first_claim(self, faulty: FaultyStore) -> None:
        """There is no thread before the first claim, and one for all of them."""
        engine = Engine(faulty, None)
        assert workers() == 0
        for number in range(5):
            claimed(engine, storage_key=f"IDEMPOTENT_{{{number}}}")
        assert workers() == 1
        engine.close()

    def test_interrupted_while_it_starts(
        self, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a web server's timeout while the thread starts, no claim is renewed."""
        engine = Engine(faulty, None)

        def interrupt() -> None:
            monkeypatch.undo()
            raise SystemExit

        monkeypatch.setattr(engine.worker, "wake", interrupt)
        with pytest.raises(SystemExit):
            engine.claim(request())
        assert not engine.worker.renewals
        until(lambda: faulty.read(KEY) is None)
        engine.close()

    def test_no_more_threads(self, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no thread can be started the key is released, and the next claim is renewed."""
        engine = Engine(faulty, None)

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            engine.claim(request(lease=0.06))
        monkeypatch.undo()
        assert not engine.worker.renewals
        claim = claimed(engine, lease=0.06, timeout=0)
        assert claim.attempt == 1
        until(lambda: claim.renewed > claim.sent)
        engine.close()

    def test_sleeps_when_idle_and_wakes(self, faulty: FaultyStore) -> None:
        """Without claims the worker sleeps without an end; the next claim wakes it."""
        engine = Engine(faulty, None)
        finish(engine, claimed(engine, lease=0.06))
        until(lambda: engine.worker._asleep)
        claim = claimed(engine, storage_key="IDEMPOTENT_{next}", lease=0.06)
        until(lambda: claim.renewed > claim.sent)
        engine.close()

    def test_busy_process_does_not_wake_it(self, engine: Engine) -> None:
        """One claim after another wakes the worker once, not each time."""
        woken = 0
        wake = engine.worker.wake

        def count() -> None:
            nonlocal woken
            woken += 1
            wake()

        engine.worker.wake = count  # type: ignore[method-assign]
        for number in range(50):
            finish(engine, claimed(engine, storage_key=f"IDEMPOTENT_{{{number}}}"))
        assert woken == 1

    def test_survives_its_own_faults(
        self, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unexpected error is logged, and the next round follows."""
        engine = Engine(faulty, None)
        faulty.before["renew"] = [fail(ZeroDivisionError())]
        claim = claimed(engine, lease=0.06)
        until(lambda: claim.renewed > claim.sent)
        assert "a round of the background worker failed" in caplog.text
        engine.close()

    def test_destructor_at_the_very_end(self) -> None:
        """A response dropped while the interpreter ends is logged as lost, without hanging."""
        program = """
            from flask_idempotent.engine.engine import Engine
            from flask_idempotent.stores.memory import MemoryStore
            from tests.support.engines import request

            class Dropped:
                def __init__(self):
                    self.itself = self
                    self.engine = Engine(MemoryStore(), None)
                    self.claim = self.engine.claim(request())

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
    def test_child_has_its_own(self, faulty: FaultyStore) -> None:
        """A forked child has no claims, no thread and free locks."""
        engine = Engine(faulty, None)
        claimed(engine)
        with engine.worker._starting:
            pid = os.fork()
            if pid == 0:
                clean = not engine.worker.renewals and not workers()
                free = engine.worker._starting.acquire(timeout=1)
                os._exit(0 if clean and free else 1)
        assert os.waitpid(pid, 0)[1] == 0
        engine.close()

    def test_shorter_lease_wakes_it(self, store: Store) -> None:
        """A worker that sleeps for a long lease is woken for a shorter one."""
        engine = Engine(store, None)
        claimed(engine, storage_key="IDEMPOTENT_{long}", lease=600.0)
        until(lambda: workers() == 1)
        short = claimed(engine, lease=0.1)
        until(lambda: short.renewed > short.sent)
        engine.close()

    def test_tried_until_taken(self, faulty: FaultyStore) -> None:
        """A write that the store does not take is retried until it does."""
        worker = Worker(faulty, Reports(None))
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise StoreUnavailable("down")

        worker.write_later("key", work, 60, lambda reason: None)
        until(lambda: not worker.pending)
        assert len(tries) == 3
        worker.close()


def threadless(faulty: FaultyStore) -> Worker:
    return without_thread(Worker(faulty, Reports(None)))


class TestClose:
    def test_lingers(self, faulty: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
        """A process that ends retries pending writes for a while, and logs which they are."""
        worker = threadless(faulty)
        tries: list[int] = []
        lost: list[str] = []

        def work() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise StoreUnavailable("down")

        worker.write_later("IDEMPOTENT_{waits}", work, 60, lost.append)
        worker.close(time.monotonic() + 60)
        assert (len(tries), lost) == (3, [])
        assert caplog.text.count("has not accepted: records IDEMPOTENT_{waits}") == 1

    @pytest.mark.parametrize("error", [StoreUnavailable("down"), WriteRefused("full")])
    def test_lingers_in_vain(self, faulty: FaultyStore, error: Exception) -> None:
        """When that time is over, or is interrupted, what is lost is reported, and why it was."""
        worker = threadless(faulty)
        lost: list[str] = []
        with within(2, at_least=0.05):
            worker.write_later("one", fail(error), 60, lost.append)
            worker.write_later("two", fail(error), 60, lost.append)
            worker.close(time.monotonic() + 0.05)
        assert lost == [f"the process ends; {error}"] * 2
        worker.write_later("three", fail(KeyboardInterrupt()), 60, lost.append)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            worker.close(time.monotonic() + 60)
        assert lost[2] == "the process ends"

    def test_renews_while_it_lingers(self, engine: Engine, faulty: FaultyStore) -> None:
        """Where the store takes no responses but renewals, the claim is still renewed."""
        claim = claimed(engine)
        faulty.before["complete"] = [fail(WriteRefused("full"))] * 4
        finish(engine, claim)
        claim.renewed -= 20
        engine.close(time.monotonic() + 60)
        assert "renew" in faulty.calls
        assert isinstance(faulty.read(KEY), CompletedRecord)
