"""Forks and monkey-patching: each process gets threads, locks and connections of its own."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod


class ForkAware(ABC):
    """Has state that a forked child must not share, such as a lock that a thread may hold."""

    def __init__(self) -> None:
        _instances.add(self)
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Create the state; called by the constructor, and again in each forked child."""


_instances: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def _process() -> tuple[int, object]:
    # gevent's monkey-patching replaces the kind of lock.
    return os.getpid(), threading.Lock


_state_is_for = _process()
_checking = threading.Lock()


def check_process() -> None:
    """Reset every instance after a fork that Python's hooks missed, or after monkey-patching.

    uWSGI forks without running the hooks; gunicorn's gevent workers patch after their fork.
    """
    if _state_is_for != _process():
        with _checking:
            if _state_is_for != _process():
                _reset_all()


def _reset_all() -> None:
    global _state_is_for
    for instance in list(_instances):
        instance.reset()
    # Last: until then other threads wait in check_process.
    _state_is_for = _process()


def _after_fork() -> None:
    global _checking
    _checking = threading.Lock()
    _reset_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
