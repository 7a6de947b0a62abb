"""The commands that look: show, list, stats."""

from __future__ import annotations

import re
import zlib

import pytest
from flask import Flask

from flask_idempotent.records import CompletedRecord, CompressedBody
from flask_idempotent.stores.base import Sight
from tests.cli.harness import claim, complete, damage, document, give_up, name, run, store_of
from tests.stores.harness import HOUR, answer, lapse
from tests.support.clients import post


class TestShow:
    def test_in_progress(self, app: Flask) -> None:
        """A claim is shown with owner, age, lease, waiters and time left."""
        with store_of(app).listen(claim(app), 5):
            shown = run(app, "show", "k").stdout
            found = document(app, "show", "k")
        assert "State     in progress, attempt 1\n" in shown
        assert "Owner     here, process 7\n" in shown
        assert "Waiters   1 process\n" in shown
        assert (found["host"], found["pid"], found["waiters"]) == ("here", 7, 1)
        assert 3500 < found["lease_left"] < 3600 < found["time_left"]
        assert (found["status"], found["headers"], found["lapsed"]) == (None, None, False)

    def test_lapsed(self, app: Flask) -> None:
        """Of a claim whose owner died it is said what follows."""
        lapse(store_of(app), claim(app))
        shown = run(app, "show", "k").stdout
        assert "ago: its owner died or stands still." in shown
        assert document(app, "show", "k")["lapsed"] is True

    def test_completed(self, app: Flask) -> None:
        """A response is shown with status, headers in their order and size, without its body."""
        complete(app)
        shown = run(app, "show", "k").stdout
        assert "Status    201\nHeader    Link: a\nHeader    Link: b\nBody      5 octets\n" in shown
        assert "hello" not in shown
        found = document(app, "show", "k")
        assert (found["status"], found["headers"]) == (201, [["Link", "a"], ["Link", "b"]])
        assert (found["body_kept"], found["body_octets"], found["waiters"]) == (True, 5, 0)

    def test_fits_the_terminal(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal a long text goes on below itself, and no word is broken."""
        headers = (("Link", "preload " * 30),)
        store_of(app).complete(name(), answer()._replace(headers=headers), expire=HOUR)
        monkeypatch.setenv("COLUMNS", "80")
        assert max(map(len, run(app, "show", "k").stdout.splitlines())) > 80
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        shown = run(app, "show", "k").stdout
        assert max(map(len, shown.splitlines())) <= 80
        assert shown.count("preload") == 30

    def test_response_that_was_not_kept(self, app: Flask) -> None:
        """A marker is told from an empty body."""
        store_of(app).complete(name(), answer(body=None), expire=HOUR)
        assert (
            'Body      not kept: a retry gets 409 "response-not-kept"'
            in run(app, "show", "k").stdout
        )
        assert document(app, "show", "k")["body_kept"] is False

    def test_control_characters(self, app: Flask) -> None:
        """What a view put into a header cannot command the operator's terminal."""
        record = answer()
        headers = (("X", "\x9b2J"),)
        store_of(app).complete(
            name(),
            CompletedRecord(record.owner, record.fingerprint, 1, 200, headers, b""),
            expire=HOUR,
        )
        assert "Header    X: \\x9b2J\n" in run(app, "show", "k").stdout

    def test_unreadable(self, app: Flask) -> None:
        """A record that cannot be read is shown as one, be it damaged at its ends or between."""
        found = damage(app)
        assert "State     unreadable: requests" in run(app, "show", "k").stdout
        complete(app, "other")
        store_of(app)._client.execute("SETRANGE", name("other"), 55, b"\xc1")  # type: ignore[attr-defined]
        assert document(app, "show", "other")["state"] == "unreadable"
        assert document(app, "show", "--storage-key", found)["age"] is None

    def test_gone_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record that ends between two looks is none."""
        complete(app)
        monkeypatch.setattr(type(store_of(app)), "read", lambda *_: None)
        assert run(app, "show", "k").exit_code == 1


class TestBody:
    def test_as_it_is(self, app: Flask) -> None:
        """--body writes the stored bytes and nothing else."""
        complete(app)
        assert run(app, "show", "k", "--body").stdout == "hello"

    def test_on_a_terminal(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal it is text that commands nothing; what is no text is refused."""
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        bodies = {"text": b"a\x1b[31m\nb", "image": b"\x89PNG"}
        for key, body in bodies.items():
            store_of(app).complete(name(key), answer()._replace(body=body), expire=HOUR)
        assert run(app, "show", "text", "--body").stdout == "a\\x1b[31m\nb\n"
        refused = run(app, "show", "image", "--body")
        assert (refused.exit_code, "Send it to a file" in refused.stderr) == (1, True)

    @pytest.mark.parametrize("endpoint", ["orders", "gone"])
    def test_compressed(self, app: Flask, endpoint: str) -> None:
        """A compressed body is written expanded, up to the size that its view may answer with."""
        whole = answer()._replace(body=b"hello" * 100, compress=True, endpoint=endpoint)
        store_of(app).complete(name("k"), whole, expire=HOUR)
        assert run(app, "show", "k", "--body").stdout == "hello" * 100
        assert document(app, "show", "k")["body_octets"] == 500
        large = whole._replace(body=CompressedBody(zlib.compress(bytes(2**21)), 2**21))
        store_of(app).complete(name("large"), large, expire=HOUR)
        refused = run(app, "show", "large", "--body")
        assert (refused.exit_code, "larger than max_body" in refused.stderr) == (1, True)

    def test_none(self, app: Flask) -> None:
        """A claim in progress has none."""
        claim(app)
        assert "has no body" in run(app, "show", "k", "--body").stderr

    def test_not_in_json(self, app: Flask) -> None:
        """--json and --body contradict each other."""
        assert run(app, "show", "k", "--body", "--json").exit_code == 2


class TestList:
    def test_oldest_first(self, app: Flask) -> None:
        """Every record has a row, the oldest first, and other keys of the server have none."""
        store_of(app)._client.execute("SET", "sessions:1", "x")  # type: ignore[attr-defined]
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

    def test_route(self, app: Flask) -> None:
        """--route takes an endpoint or a path as it is registered; another word is refused."""
        post(app, "a", "/orders")
        found = [name("a")]
        for route in ("orders", "/orders"):
            assert [r["storage_key"] for r in document(app, "list", "--route", route)] == found
        assert document(app, "list", "--route", "static") == []
        refused = run(app, "list", "--route", "/order")
        assert refused.exit_code == 2
        assert "neither an endpoint nor the path of a route" in refused.stderr

    def test_request_and_time(self, app: Flask) -> None:
        """A record says which request it is for, and when it began or was answered."""
        post(app, "a", "/orders")
        claim(app, "b")
        running, answered = document(app, "list")
        assert (answered["method"], answered["endpoint"]) == ("POST", "orders")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", answered["answered"])
        assert (answered["began"], running["answered"]) == (None, None)
        assert running["began"] == "1970-01-01T00:00:01+00:00"

    @pytest.mark.parametrize("columns", [80, 100, 200])
    def test_fits_the_terminal(
        self, app: Flask, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No line is wider than the terminal: where a table is, each record is a block."""
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        post(app, "a", "/orders")
        lines = run(app, "list").stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith("RECORD " if columns == 200 else "Record ")
        assert any("POST orders" in line for line in lines)

    def test_nothing(self, app: Flask) -> None:
        """An empty list says so to people, and is an empty array to programs."""
        assert run(app, "list").stdout == "There are no such records.\n"
        assert document(app, "list") == []

    def test_unknown_waiters(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the server does not tell who waits, that is said."""
        claim(app)
        store = store_of(app)
        monkeypatch.setattr(
            type(store), "_with_waiters", lambda _, sights: [unknown(sight) for sight in sights]
        )
        assert "unknown" in run(app, "list").stdout


def unknown(sight: Sight) -> Sight:
    return Sight(sight.key, sight.record, sight.life, sight.octets, sight.lease, None)


class TestReleased:
    """A claim that was given up while an earlier owner may still run."""

    def test_show(self, app: Flask) -> None:
        """It is shown with its state, attempt and last owner."""
        found = give_up(app)
        shown = run(app, "show", "k").stdout
        assert "State       released, attempt 2" in shown
        assert "Last owner  here, process 7" in shown
        told = document(app, "show", "k")
        assert (told["storage_key"], told["state"], told["attempt"]) == (found, "released", 2)
        assert (told["host"], told["lease_left"], told["lapsed"]) == ("here", None, False)

    def test_list(self, app: Flask) -> None:
        """It is in the list, but not among what is in progress."""
        give_up(app)
        (row,) = run(app, "list").stdout.splitlines()[1:]
        assert "released" in row
        assert row.endswith("here, process 7")
        assert document(app, "list", "--in-progress") == []


class TestStats:
    def test_counts(self, app: Flask) -> None:
        """Records are counted by state, with their octets and the age of the oldest."""
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        damage(app, "c")
        give_up(app, "e")
        with store_of(app).listen(claim(app, "d"), 5):
            found = document(app, "stats")
        assert found.pop("octets") > 100
        assert found.pop("oldest_in_progress") > found.pop("oldest_completed")
        assert found.pop("oldest_released") > 0
        assert found == {
            "records": 5, "in_progress": 2, "lapsed": 1, "waited_for": 1, "completed": 1,
            "released": 1, "unreadable": 1,
        }  # fmt: skip

    def test_for_people(self, app: Flask) -> None:
        """The same in words."""
        complete(app)
        lines = run(app, "stats").stdout.splitlines()
        assert lines[0].startswith("Records       1, ")
        assert lines[4].startswith("Completed     1, the oldest ")
        assert document(app, "stats")["oldest_in_progress"] is None
