"""The command show: one record, with its response."""

from __future__ import annotations

import zlib

import pytest
from flask import Flask

from flask_idempotent.records import CompletedRecord, CompressedBody
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
from tests.stores.harness import HOUR, answer, lapse


class TestShow:
    def test_in_progress(self, app: Flask) -> None:
        """A claim is shown with owner, start, lease, waiters and expiry."""
        with store_of(app).listen(claim(app), 5):
            shown = run(app, "show", "k").stdout
            data = document(app, "show", "k")
        assert "State    in progress, attempt 1\n" in shown
        assert "Owner    here, process 7\n" in shown
        assert "Waiters  1 process\n" in shown
        assert (data["host"], data["pid"], data["waiters"]) == ("here", 7, 1)
        assert 3500 < data["lease_left"] < 3600 < data["expires_in"]
        assert (data["status"], data["headers"], data["lapsed"]) == (None, None, False)

    def test_lapsed(self, app: Flask) -> None:
        """For a claim whose owner died, the consequence is shown."""
        lapse(store_of(app), claim(app))
        shown = run(app, "show", "k").stdout
        assert "ago: its owner died or hangs." in shown
        assert document(app, "show", "k")["lapsed"] is True

    def test_completed(self, app: Flask) -> None:
        """A response is shown with status, headers in their order and size, without its body."""
        complete(app)
        shown = run(app, "show", "k").stdout
        assert "Status     201\nHeader     Link: a\nHeader     Link: b\n" in shown
        assert "Body       5 bytes\n" in shown
        assert "hello" not in shown
        data = document(app, "show", "k")
        assert (data["status"], data["headers"]) == (201, [["Link", "a"], ["Link", "b"]])
        assert (data["body_kept"], data["body_size"], data["waiters"]) == (True, 5, 0)

    def test_fits_the_terminal(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal, long values are wrapped between words."""
        headers = (("Link", "preload " * 30),)
        store_of(app).complete(name(), answer()._replace(headers=headers), ttl_ms=HOUR)
        monkeypatch.setenv("COLUMNS", "80")
        assert max(map(len, run(app, "show", "k").stdout.splitlines())) > 80
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        shown = run(app, "show", "k").stdout
        assert max(map(len, shown.splitlines())) <= 80
        assert shown.count("preload") == 30

    def test_response_that_was_not_kept(self, app: Flask) -> None:
        """A response that was not kept is distinguished from an empty body."""
        store_of(app).complete(name(), answer(body=None), ttl_ms=HOUR)
        assert (
            'Body       not kept: a retry gets 409 "response-not-kept"'
            in run(app, "show", "k").stdout
        )
        assert document(app, "show", "k")["body_kept"] is False

    def test_session_part(self, app: Flask) -> None:
        """What a replay repeats of the session is not shown."""
        store_of(app).complete(name(), answer()._replace(session=b"for Ann"), ttl_ms=HOUR)
        for arguments in (["show", "k"], ["show", "k", "--json"], ["list", "--json"]):
            shown = run(app, *arguments)
            assert shown.exit_code == 0
            assert "Ann" not in shown.output

    def test_control_characters(self, app: Flask) -> None:
        """Control characters in a header do not reach the operator's terminal."""
        record = answer()
        headers = (("X", "\x9b2J"),)
        store_of(app).complete(
            name(),
            CompletedRecord(record.owner, record.fingerprint, 1, 200, headers, b""),
            ttl_ms=HOUR,
        )
        assert "Header     X: \\x9b2J\n" in run(app, "show", "k").stdout

    def test_unreadable(self, app: Flask) -> None:
        """A damaged record is shown as unreadable, wherever the damage is."""
        storage_key = damage(app)
        assert "State    unreadable: requests" in run(app, "show", "k").stdout
        complete(app, "other")
        server_of(app).setrange(name("other"), 55, b"\xc1")
        assert document(app, "show", "other")["state"] == "unreadable"
        assert document(app, "show", "--storage-key", storage_key)["age"] is None

    def test_gone_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record that expires between two reads does not exist."""
        complete(app)
        monkeypatch.setattr(type(store_of(app)), "read", lambda *_: None)
        assert run(app, "show", "k").exit_code == 1

    def test_released(self, app: Flask) -> None:
        """A tombstone is shown with its state, attempt and last owner."""
        storage_key = give_up(app)
        shown = run(app, "show", "k").stdout
        assert "State       released, attempt 2" in shown
        assert "Last owner  here, process 7" in shown
        shown = document(app, "show", "k")
        assert (shown["storage_key"], shown["state"], shown["attempt"]) == (
            storage_key,
            "released",
            2,
        )
        assert (shown["host"], shown["lease_left"], shown["lapsed"]) == ("here", None, False)


class TestBody:
    def test_unchanged(self, app: Flask) -> None:
        """--body writes the stored bytes and nothing else."""
        complete(app)
        assert run(app, "show", "k", "--body").stdout == "hello"

    def test_on_a_terminal(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A terminal gets printable text; a body that is not text is refused."""
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        bodies = {"text": b"a\x1b[31m\nb", "image": b"\x89PNG"}
        for key, body in bodies.items():
            store_of(app).complete(name(key), answer()._replace(body=body), ttl_ms=HOUR)
        assert run(app, "show", "text", "--body").stdout == "a\\x1b[31m\nb\n"
        refused = run(app, "show", "image", "--body")
        assert (refused.exit_code, "Write it to a file" in refused.stderr) == (1, True)

    @pytest.mark.parametrize("endpoint", ["orders", "gone"])
    def test_compressed(self, app: Flask, endpoint: str) -> None:
        """A compressed body is expanded, up to max_body of its view."""
        whole = answer()._replace(body=b"hello" * 100, compress=True, endpoint=endpoint)
        store_of(app).complete(name("k"), whole, ttl_ms=HOUR)
        assert run(app, "show", "k", "--body").stdout == "hello" * 100
        assert document(app, "show", "k")["body_size"] == 500
        large = whole._replace(body=CompressedBody(zlib.compress(bytes(2**21)), 2**21))
        store_of(app).complete(name("large"), large, ttl_ms=HOUR)
        refused = run(app, "show", "large", "--body")
        assert (refused.exit_code, "larger than max_body" in refused.stderr) == (1, True)

    def test_none(self, app: Flask) -> None:
        """A claim in progress has no body, and neither has a response that was not kept."""
        store_of(app).complete(name("other"), answer(body=None), ttl_ms=HOUR)
        assert "its response was not kept" in run(app, "show", "other", "--body").stderr
        claim(app)
        assert "has no response: it is in progress." in run(app, "show", "k", "--body").stderr

    def test_not_in_json(self, app: Flask) -> None:
        """--json and --body cannot be combined."""
        assert run(app, "show", "k", "--body", "--json").exit_code == 2
