"""Forks: giving each process its own threads, locks and connections."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod


class ForkAware(ABC):
    """Something that a forked child must make anew, such as a lock that a thread may hold."""

    def __init__(self) -> None:
        _alive.add(self)
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Begin afresh, with nothing of the parent's; called at the start and in each child."""


_alive: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def _circumstances() -> tuple[int, object]:
    # gevent's monkey-patching puts another kind of lock in the place of this one.
    return os.getpid(), threading.Lock


_began_in = _circumstances()
_noticing = threading.Lock()


def check_process() -> None:
    """Begin afresh where nobody told Python of a fork, or threads became greenlets since.

    uWSGI forks without telling Python; gunicorn's gevent workers patch after their fork.
    """
    if _began_in != _circumstances():
        with _noticing:
            if _began_in != _circumstances():
                _begin_afresh()


def _begin_afresh() -> None:
    global _began_in
    for bound in list(_alive):
        bound.reset()
    # Last, so that no other thread goes on before.
    _began_in = _circumstances()


def _after_fork() -> None:
    global _noticing
    _noticing = threading.Lock()
    _begin_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
