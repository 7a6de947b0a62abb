"""The command list: a table of records."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from flask_idempotent.stores.base import RecordInfo
from tests.cli.harness import (
    claim,
    complete,
    damage,
    document,
    give_up,
    name,
    run,
    server_of,
    store_of,
)
from tests.stores.harness import lapse
from tests.support.clients import post


class TestList:
    def test_oldest_first(self, app: Flask) -> None:
        """Every record has a row, the oldest first, and other keys of the server have none."""
        server_of(app).set("sessions:1", "x")
        post = [claim(app, "a"), complete(app, "b")]
        head, *rows = run(app, "list").stdout.splitlines()
        assert head.split()[:5] == ["RECORD", "STATE", "REQUEST", "AGE", "SINCE"]
        # The harness's claim began before its answer.
        assert [row.split()[0] for row in rows] == post
        assert "in progress" in rows[0]
        assert rows[1].endswith("status 201")

    def test_filters(self, app: Flask) -> None:
        """--in-progress and --older leave out the rest."""
        damage(app, "broken")
        complete(app, "b")
        assert [r["state"] for r in document(app, "list", "--older", "2h")] == ["completed"]
        assert document(app, "list", "--in-progress") == []
        found = claim(app, "a")
        assert [r["storage_key"] for r in document(app, "list", "--in-progress")] == [found]
        assert document(app, "list", "--in-progress", "--older", "90000d") == []

    def test_held(self, app: Flask) -> None:
        """--held leaves only claims whose owner died: their leases have lapsed."""
        claim(app, "running")
        complete(app, "completed")
        held = claim(app, "held")
        lapse(store_of(app), held)
        assert [r["storage_key"] for r in document(app, "list", "--held")] == [held]

    def test_route(self, app: Flask) -> None:
        """--route takes an endpoint or the path of a route; anything else is refused."""
        post(app, "a", "/orders")
        found = [name("a")]
        for route in ("orders", "/orders"):
            assert [r["storage_key"] for r in document(app, "list", "--route", route)] == found
        assert document(app, "list", "--route", "static") == []
        refused = run(app, "list", "--route", "/order")
        assert refused.exit_code == 2
        assert "neither an endpoint nor the path of a route" in refused.stderr

    def test_request_and_time(self, app: Flask) -> None:
        """A record shows which request it is for, and when its run started or ended."""
        post(app, "a", "/orders")
        claim(app, "b")
        running, answered = document(app, "list")
        assert (answered["method"], answered["endpoint"]) == ("POST", "orders")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", answered["completed"])
        assert (answered["started"], running["completed"]) == (None, None)
        assert running["started"] == "1970-01-01T00:00:01+00:00"

    @pytest.mark.parametrize("columns", [80, 100, 200])
    def test_fits_the_terminal(
        self, app: Flask, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No line is wider than the terminal: a record is a block where the table is too wide."""
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        post(app, "a", "/orders")
        lines = run(app, "list").stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith("RECORD " if columns == 200 else "Record ")
        assert any("POST orders" in line for line in lines)

    def test_empty(self, app: Flask) -> None:
        """An empty list says so to people, and is an empty array to programs."""
        assert run(app, "list").stdout == "No records found.\n"
        assert document(app, "list") == []

    def test_unknown_waiters(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the server does not say who waits, the number is unknown."""
        claim(app)
        store = store_of(app)
        monkeypatch.setattr(
            type(store), "_with_waiters", lambda _, infos: [unknown(info) for info in infos]
        )
        assert "unknown" in run(app, "list").stdout

    def test_released(self, app: Flask) -> None:
        """A tombstone is in the list, but not among what is in progress."""
        give_up(app)
        (row,) = run(app, "list").stdout.splitlines()[1:]
        assert "released" in row
        assert row.endswith("here, process 7")
        assert document(app, "list", "--in-progress") == []


def unknown(info: RecordInfo) -> RecordInfo:
    return RecordInfo(
        info.storage_key, info.record, info.ttl_ms, info.size, info.lease_left_ms, None
    )
