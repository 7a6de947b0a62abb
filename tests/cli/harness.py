"""What the command line's tests share: running a command, and records to look at."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from redis import Redis

from flask_idempotent.cli import commands
from flask_idempotent.http.keys import storage_key
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.web.state import state_of
from tests.stores.harness import ENDS, HOUR, answer, lapse, owner, running

#: Where the fixture ``app`` keeps a client of its server.
SERVER = "tests.server"
#: click 8.2 keeps stdout and stderr apart by itself.
_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
#: Answers for an owner, without a question.
RESOLVE = ("resolve", "k", "--yes", "--status", "201")


def run(app: Flask, *arguments: str, text: str | None = None) -> Result:
    """Run a command; ``text`` is what is typed."""
    return app.test_cli_runner(**_APART).invoke(commands, arguments, input=text)


def document(app: Flask, *arguments: str) -> Any:
    """Run a command with ``--json`` and read what it writes to stdout."""
    result = run(app, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def store_of(app: Flask) -> InspectableStore:
    store = state_of(app).engine.store
    assert isinstance(store, InspectableStore)
    return store


def server_of(app: Flask) -> Redis:
    """A client of the store's server, which writes what the store never does."""
    client: Redis = app.extensions[SERVER]
    return client


def name(key: str = "k", scope: str | bytes | None = None) -> str:
    return storage_key("IDEMPOTENT_", "tests", scope, key)


def claim(app: Flask, key: str = "k", scope: str | None = None, owner: str = "ada") -> str:
    """Put a claim in progress into the store; its record's name."""
    record = running(owner)
    store_of(app).contend(name(key, scope), record, ttl_ms=2 * HOUR, takeover=True)
    return name(key, scope)


def give_up(app: Flask, key: str = "k") -> str:
    """Put a claim into the store that was taken over and given up; its record's name."""
    lapse(store_of(app), claim(app, key))
    store_of(app).release(claim(app, key, owner="bob"), owner("bob"), **ENDS)
    return name(key)


def complete(app: Flask, key: str = "k", scope: str | None = None) -> str:
    """Put a completed record into the store; its name."""
    store_of(app).complete(name(key, scope), answer(), ttl_ms=HOUR)
    return name(key, scope)


def damage(app: Flask, key: str = "k") -> str:
    """Put a record into the store that cannot be read; its name."""
    server_of(app).set(name(key), b"damaged", px=HOUR)
    return name(key)


def printed(app: Flask, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> list[str]:
    """What ``watch`` prints while these calls are made, one in each pause between two polls."""
    calls = iter(steps)

    def pause(_: float) -> None:
        call = next(calls, None)
        if call is None:
            raise KeyboardInterrupt
        call()

    monkeypatch.setattr("time.sleep", pause)
    result = run(app, "watch")
    assert result.exit_code == 0, result.output
    return [line.split("  ", 1)[1] for line in result.stdout.splitlines()]


def die(app: Flask, owner: str = "ada") -> str:
    """Put a claim into the store whose owner died; its record's name."""
    storage_key = claim(app, owner=owner)
    lapse(store_of(app), storage_key)
    return storage_key


def stored(app: Flask) -> CompletedRecord:
    record = store_of(app).read(name())
    assert isinstance(record, CompletedRecord)
    return record
