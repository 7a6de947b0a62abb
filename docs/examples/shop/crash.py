"""Kills the worker on demand, right after a commit: what a store alone cannot make safe."""

from __future__ import annotations

import os
import signal

from flask import g

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.engine.transactions import Answer


def crash_after_commit() -> None:
    """Have the worker killed as soon as the current request's order is committed."""
    g.crash_after_commit = True


class CrashingTransaction(SQLAlchemyTransaction):
    """Kills its process after the commit, before the store or the client hears of it."""

    def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None:
        super().commit(answer, replaces=replaces)
        if g.get("crash_after_commit"):
            os.kill(os.getpid(), signal.SIGKILL)
