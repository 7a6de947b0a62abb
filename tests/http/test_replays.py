"""Replays: responses made from completed records."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from werkzeug.wrappers import Response

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.http.responses import replay
from flask_idempotent.records import CompletedRecord, CompressedBody
from flask_idempotent.settings import resolve

SETTINGS = resolve({})


class TestReplay:
    def completed(self, **changes: Any) -> CompletedRecord:
        given = {"status": 200, "headers": (), "body": b"", **changes}
        return CompletedRecord(b"o" * 16, b"f" * 16, 1, **given)

    def test_r1_stored_parts(self) -> None:
        """R1: status, headers and body are the stored ones, with a Content-Length of its own."""
        headers = (("Link", "</a>"), ("X-A", "1"), ("Link", "</b>"))
        completed = self.completed(status="299 Own", headers=headers, body=b"\x00")
        response = replay(completed, Response, SETTINGS)
        assert response.status == "299 Own"
        assert list(response.headers) == [
            *headers,
            ("Content-Length", "1"),
            ("Idempotent-Replayed", "true"),
        ]
        assert response.data == b"\x00"

    def test_r1_no_content_type_is_added(self) -> None:
        """A response without a Content-Type gets none."""
        assert "Content-Type" not in replay(self.completed(), Response, SETTINGS).headers

    def test_r1_no_length_on_204(self) -> None:
        """A 204 has no Content-Length; an empty 200 has one of 0."""
        assert (
            "Content-Length" not in replay(self.completed(status=204), Response, SETTINGS).headers
        )
        assert replay(self.completed(), Response, SETTINGS).headers["Content-Length"] == "0"

    def test_r2_the_mark_is_a_setting(self) -> None:
        """The header that marks a replay has the application's name."""
        response = replay(self.completed(), Response, resolve({"IDEMPOTENT_REPLAY_HEADER": "X-R"}))
        assert response.headers["X-R"] == "true"
        assert "Idempotent-Replayed" not in response.headers

    def test_class_is_the_applications(self) -> None:
        """A replay is a response of the application's own class."""

        class Own(Response):
            default_mimetype = "text/plain"

        assert type(replay(self.completed(), Own, SETTINGS)) is Own

    @pytest.mark.parametrize(
        "name",
        ["Set-Cookie", "set-cookie", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade",
         "Trailer", "Date", "Server", "WWW-Authenticate", "Access-Control-Allow-Origin",
         "X-RateLimit-Limit", "Idempotent-Replayed"],
    )  # fmt: skip
    def test_r12_never_kept_never_replayed(self, name: str) -> None:
        """R12: a header that is never kept is not replayed from a record that has it."""
        completed = self.completed(headers=((name, "1"), ("X-Own", "2"), (name, "3")), body=b"four")
        response = replay(completed, Response, SETTINGS)
        assert list(response.headers) == [
            ("X-Own", "2"),
            ("Content-Length", "4"),
            ("Idempotent-Replayed", "true"),
        ]

    def test_r12_settings_of_today(self) -> None:
        """R12: headers are dropped and kept by the settings of the time of the replay."""
        completed = self.completed(headers=(("Server", "1"), ("X-Own", "2")))
        settings = resolve({}, {"drop_headers": ["x-own"], "keep_headers": ["server"]})
        names = [name for name, _ in replay(completed, Response, settings).headers]
        assert names == ["Server", "Content-Length", "Idempotent-Replayed"]

    @pytest.mark.parametrize("value", ["http://[", "http://a:99999/", "//[x]"])
    def test_r12_uri(self, value: str) -> None:
        """R12: a record with a URI that Werkzeug cannot send is unreadable."""
        completed = self.completed(headers=(("location", value),))
        with pytest.raises(RecordUnreadable, match="cannot be sent"):
            replay(completed, Response, SETTINGS)

    def test_r12_size(self) -> None:
        """R12: a compressed body may be as large as the view's ``max_body``."""
        completed = self.completed(body=CompressedBody(zlib.compress(bytes(100)), 100))
        assert replay(completed, Response, resolve({}, {"max_body": 100})).data == bytes(100)
        with pytest.raises(RecordUnreadable, match="larger than max_body"):
            replay(completed, Response, resolve({}, {"max_body": 99}))
