"""Forks: a child has state of its own."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from flask_idempotent import _forks
from flask_idempotent._forks import ForkAware


class Counter(ForkAware):
    """Counts how often it was reset."""

    count = 0

    def reset(self) -> None:
        self.count += 1
        self.lock = threading.Lock()


class TestForkAware:
    def test_construction_resets(self) -> None:
        """The constructor resets."""
        assert Counter().count == 1

    def test_must_reset(self) -> None:
        """A class without ``reset`` cannot be used."""
        abstract: type = ForkAware
        with pytest.raises(TypeError, match="reset"):
            abstract()

    def test_every_live_object_is_reset(self) -> None:
        """In a child everything that is alive is reset, once."""
        first, second = Counter(), Counter()
        _forks._after_fork()
        assert (first.count, second.count) == (2, 2)

    def test_keeps_nothing_alive(self) -> None:
        """An instance that nobody uses any more is collected."""
        collected = weakref.ref(Counter())
        gc.collect()
        assert collected() is None

    def test_untold_fork(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a fork that Python does not know of, as uWSGI's, everything is reset, once."""
        counter = Counter()
        _forks.check_process()
        assert counter.count == 1
        monkeypatch.setattr(_forks, "_state_is_for", (-1, threading.Lock))
        _forks.check_process()
        _forks.check_process()
        assert counter.count == 2

    def test_patched_since(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where gevent patched threading since, as in gunicorn's workers, locks are new."""
        counter = Counter()
        monkeypatch.setattr(threading, "Lock", threading.RLock)
        _forks.check_process()
        assert counter.count == 2
        assert isinstance(counter.lock, type(threading.RLock()))
        monkeypatch.undo()
        _forks.check_process()
        assert counter.count == 3

    def test_a_real_fork(self) -> None:
        """A child that is forked while a lock is held has a free one; its parent's stays held."""
        program = """
            import os, sys, threading
            from flask_idempotent._forks import ForkAware

            class Locked(ForkAware):
                def reset(self):
                    self.lock = threading.Lock()

            locked = Locked()
            locked.lock.acquire()
            child = os.fork()
            if child == 0:
                os._exit(0 if locked.lock.acquire(timeout=5) else 1)
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status) or not locked.lock.locked())
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], timeout=30, check=False
        )
        assert done.returncode == 0
