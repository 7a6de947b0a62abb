"""What somebody else wrote into the store stops no command, and commands no terminal."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_idempotent._msgpack import pack
from flask_idempotent.cli import commands
from tests.cli.harness import name
from tests.stores.harness import HOUR
from tests.support.redis_servers import Server

INFINITE, NOT_A_NUMBER = float("inf"), float("nan")

#: What follows the application's prefix in the names of keys.
NAMES = [
    b"", b"{ok}", b"\xff\xfe", b"\xed\xa0\x80", b"a\nb\r\nFAKE  completed", b"\x1b[2J\x1b]0;x\x07",
    b"\xc2\x9b31m", "\u202egnp\u2066".encode(), b"\0", b"tab\t", "宽".encode(), 500 * b"x",
]  # fmt: skip


def record(state: bytes, *payload: Any, grace: int = HOUR, offer: int = 0) -> bytes:
    fields = (1, state, grace, 1, offer, b"o" * 16, b"f" * 16, 1, 0)
    return struct.pack(">BcQII16s16sII", *fields) + pack(payload)


def claimed(*origin: Any, **header: int) -> bytes:
    return record(b"p", "POST", "orders", *origin, **header)


def answered(status: object, headers: object, body: object, time: float) -> bytes:
    return record(b"c", status, b"", "POST", "orders", headers, body, b"", time)


RECORDS = {
    "host": claimed("evil\x1b[2J\n\u202e\ud800", 7, 1.5),
    "pid": claimed("here", -(2**63), 1.5),
    "grace": claimed("here", 7, 1.5, grace=2**64 - 1),
    "offer": claimed("here", 7, 1.5, offer=2**32 - 1),
    "status": answered("9" * 100, [], b"", 1.5),
    "long-status": answered("9" * 5000, [], b"", 1.5),
    "reason": answered("200 O\x1b[2JK\r\nFAKE", [], b"", 1.5),
    "header": answered(200, ["X\r\n\x1b[2J", "v\u202e\ud800"], b"", 1.5),
    "body": answered(200, [], ["zlib", b"none"], 1.5),
    "nested": record(b"p")[:58] + b"\x91" * 400,
    "huge-array": record(b"p")[:58] + b"\xdd\xff\xff\xff\xff",
    "empty": b"",
    "short": b"\x01p",
} | {
    f"{state}-{time:g}": made
    for time in (INFINITE, -INFINITE, NOT_A_NUMBER, 1.7e308, -1.7e308, 9e12)
    for state, made in {
        "p": claimed("here", 7, time),
        "c": answered(200, [], b"", time),
        "r": record(b"r", "POST", "orders", "here", 7, time),
    }.items()
}


@pytest.fixture
def crowd(app: Flask, clean_valkey: Server) -> Callable[[], None]:
    """Fills the store."""

    def fill() -> None:
        client = clean_valkey.client
        for raw_name in NAMES:
            client.set(b"IDEMPOTENT_" + raw_name, claimed("here", 7, 1.5), px=2 * HOUR)
        for key, value in RECORDS.items():
            client.set(name(key), value, px=2 * HOUR)
        client.set("IDEMPOTENT_for-ever", claimed("here", 7, 1.5))
        client.set("IDEMPOTENT_almost", claimed("here", 7, 1.5), px=2**62)
        client.lpush(b"IDEMPOTENT_list", "x")

    fill()
    return fill


def shown(app: Flask, *arguments: str, code: int = 0, text: str | None = None) -> str:
    """What a command writes to a terminal, which nothing in it may command."""
    result = app.test_cli_runner().invoke(commands, arguments, color=True, input=text)
    assert result.exit_code == code, (arguments, result.output, result.exception)
    assert all(c.isprintable() or c == "\n" for c in result.output), result.output
    return result.output


def read(line: str) -> Any:
    """Read JSON as strictly as the strictest program."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    data = json.loads(line, parse_constant=refuse)
    json.dumps(data, ensure_ascii=False).encode()
    return data


@pytest.mark.usefixtures("crowd")
class TestLooking:
    def test_list(self, app: Flask) -> None:
        """Every record has one row, and nothing in a name makes another one."""
        rows = shown(app, "list").splitlines()[1:]
        assert len(rows) == len(NAMES) + len(RECORDS) + 3
        assert all(row.startswith("IDEMPOTENT_") for row in rows)
        for part in (
            r"\xff\xfe ",
            r"\xed\xa0\x80 ",
            r"a\nb\r\nFAKE",
            r"\u202egnp",
            "宽",
            "for ever",
        ):
            assert any(part.replace("for ever", "  never ") in row for row in rows), part
        data = read(shown(app, "list", "--json"))
        assert len({entry["storage_key"] for entry in data}) == len(rows)
        (endless,) = (e for e in data if e["storage_key"] == "IDEMPOTENT_for-ever")
        assert endless["expires_in"] is None

    def test_stats(self, app: Flask) -> None:
        """Every record is counted."""
        assert shown(app, "stats").startswith(f"Records         {len(NAMES) + len(RECORDS) + 3},")
        read(shown(app, "stats", "--json"))

    @pytest.mark.parametrize("key", RECORDS)
    def test_show(self, app: Flask, key: str) -> None:
        """Each is shown, be it readable or not."""
        assert "State" in shown(app, "show", key)
        read(shown(app, "show", key, "--json"))

    def test_watch(self, app: Flask) -> None:
        """What is in progress at the start has a line each."""
        lines = shown(app, "watch", "--for", "0").splitlines()
        assert len([line for line in lines if "  in progress  " in line]) > len(NAMES)
        for line in shown(app, "watch", "--for", "0", "--json").splitlines():
            read(line)

    def test_doctor(self, app: Flask) -> None:
        """The doctor reports as usual."""
        read(shown(app, "doctor", "--json"))


class TestChanging:
    def test_purge(self, app: Flask, crowd: Callable[[], None], clean_valkey: Server) -> None:
        """Whatever its name, a record is deleted; of a claim that runs its tombstone is left."""
        shown(app, "purge", "--older", "1s", "--even-running", code=1, text="n\n")
        shown(app, "purge", "--older", "1s", "--even-running", "--yes")
        crowd()
        shown(app, "purge", "--all", "--even-running", "--yes")
        left = clean_valkey.client.keys("*")
        assert {clean_valkey.client.getrange(key, 0, 1) for key in left} <= {b"\x01r"}

    def test_release(self, app: Flask, crowd: Callable[[], None], clean_valkey: Server) -> None:
        """Each can be released by its key, but where a late owner's answer takes its place."""
        for key in RECORDS.keys() - {"offer"}:
            even = ("--even=running", "--even=completed", "--even=unreadable")
            shown(app, "release", key, "--yes", *even)
            assert clean_valkey.client.getrange(name(key), 0, 1) in (b"", b"\x01r")


class TestWords:
    @pytest.mark.parametrize("text", ["k\nFAKE", "k\x1b[2J", "\u202ek", "k\udcff", '"k\x1b"'])
    @pytest.mark.parametrize(
        "arguments", [[], ["--storage-key"], ["--path", "/{}"], ["--method", "{}", "--path", "/"]]
    )
    def test_arguments(self, app: Flask, text: str, arguments: list[str]) -> None:
        """What an operator pastes comes back without effect."""
        arguments = [argument.format(text) for argument in arguments]
        result = app.test_cli_runner().invoke(commands, ["show", text, *arguments], color=True)
        assert result.exit_code in (1, 2)
        assert all(c.isprintable() or c == "\n" for c in result.output)
        assert "\nFAKE" not in result.output

    def test_narrow_encoding(self, app: Flask, clean_valkey: Server) -> None:
        """Characters that the terminal's encoding lacks are escaped."""
        clean_valkey.client.set("IDEMPOTENT_宽", claimed("here", 7, 1.5), px=HOUR)
        runner = app.test_cli_runner(charset="latin-1")
        result = runner.invoke(commands, ["list"])
        assert result.exit_code == 0, result.exception
        assert r"IDEMPOTENT_\u5bbd" in result.output
