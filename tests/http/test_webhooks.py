"""Webhooks: the id of a delivery's event, and the scope of its endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from flask_idempotent._json_pointer import JSONPointer
from flask_idempotent.http.webhooks import (
    EndpointScope,
    IdInHeader,
    IdInJSON,
    is_acknowledgement,
)
from flask_idempotent.problems import KeyInvalid, KeyMissing


def request(data: bytes = b"", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(EnvironBuilder(method="POST", data=data, headers=named).get_environ())


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.sampled_from(["id", "event"]), values),
    max_leaves=5,
)
in_header = IdInHeader("acme", ("X-Event", "X-Old-Event"))
in_json = IdInJSON("acme", (JSONPointer("/id"), JSONPointer("/event/id")))


class TestIdInHeader:
    @pytest.mark.parametrize("value", ["evt_1", " evt_1\t", '"evt_1"'])
    def test_value(self, value: str) -> None:
        """The id is read as a key in a header is: spaces around it and quotes do not count."""
        assert in_header(request(X_Event=value)) == "evt_1"

    def test_second_header(self) -> None:
        """Each header that is named may have the id; those that are sent must agree."""
        assert in_header(request(X_Old_Event="evt_1")) == "evt_1"
        assert in_header(request(X_Event="evt_1", X_Old_Event='"evt_1"')) == "evt_1"
        with pytest.raises(KeyInvalid) as caught:
            in_header(request(X_Event="evt_1", X_Old_Event="evt_2"))
        assert "the header X-Event and the header X-Old-Event" in str(caught.value.description)

    @pytest.mark.parametrize("value", ["", " ", '""', "evt_1,evt_2", "evt 1", "evt;1", "é", "a\\b"])
    def test_unusable(self, value: str) -> None:
        """What is empty or not one id, such as two that a server joined, is refused."""
        with pytest.raises(KeyInvalid, match="A webhook of acme"):
            in_header(request(X_Event=value))

    def test_missing(self) -> None:
        """Where no header has it, the problem names them."""
        with pytest.raises(KeyMissing, match="the header X-Event or X-Old-Event, and this request"):
            in_header(request())


class TestIdInJSON:
    @pytest.mark.parametrize("data", [b'{"id": "evt_1"}', b'{"event": {"id": "evt_1"}}'])
    def test_value(self, data: bytes) -> None:
        """The id is where one of the pointers says, whatever the media type."""
        assert in_json(request(data)) == "evt_1"

    def test_places_agree(self) -> None:
        """Two places that have different ids are refused."""
        assert in_json(request(b'{"id": "evt_1", "event": {"id": "evt_1"}}')) == "evt_1"
        with pytest.raises(KeyInvalid, match="different ids of its event in /id of the JSON body"):
            in_json(request(b'{"id": "evt_1", "event": {"id": "evt_2"}}'))

    @pytest.mark.parametrize(
        "data", [b"{}", b"[]", b"null", b'"evt"', b'{"id": null}', b'{"event": 1}']
    )
    def test_missing(self, data: bytes) -> None:
        """Where the body has none, the problem names the places."""
        with pytest.raises(KeyMissing, match="in /id or /event/id of the JSON body"):
            in_json(request(data))

    @pytest.mark.parametrize(
        "data",
        [b"", b"id=evt_1", b"\xff", b'{"id": ' + b"9" * 5000 + b"}", b"[" * 100_000],
        ids=["empty", "form", "bytes", "number", "depth"],
    )
    def test_not_json(self, data: bytes) -> None:
        """K10: a body that is not JSON, or cannot be read, is refused like any other."""
        with pytest.raises(KeyInvalid, match="this body is not JSON"):
            in_json(request(data))

    @settings(max_examples=25)
    @given(data=st.binary() | DOCUMENTS.map(lambda document: json.dumps(document).encode()))
    def test_k10_any_body(self, data: bytes) -> None:
        """K10: any body gives an id or a problem with the status 400."""
        try:
            event_id = in_json(request(data))
        except (KeyInvalid, KeyMissing):
            return
        assert event_id in json.loads(data).values() or event_id == json.loads(data)["event"]["id"]


class TestEndpointScope:
    @staticmethod
    def scope(app: Flask, path: str, base_url: str, **options: Any) -> str:
        with app.test_request_context(path, base_url=base_url, method="POST", **options) as context:
            return EndpointScope("acme")(context.request)

    def test_path(self) -> None:
        """It is the sender and the whole path, with the prefix where the application is mounted."""
        app = Flask("app")
        app.add_url_rule("/hooks/<name>", "hooks", lambda name: name, methods=["POST"])
        for host in ("a.example", "b.example"):
            assert self.scope(app, "/hooks/x?y=1", f"http://{host}") == "acme /hooks/x"
        assert self.scope(app, "/hooks/x", "http://a.example/shop") == "acme /shop/hooks/x"
        assert self.scope(app, "/elsewhere", "http://a.example") == "acme /elsewhere"

    def test_host(self) -> None:
        """Where routes are for hosts or subdomains, the host is part of the endpoint."""
        app = Flask("app", host_matching=True, static_folder=None)
        app.add_url_rule("/hooks", "hooks", str, methods=["POST"], host="<tenant>.example")
        assert self.scope(app, "/hooks", "http://A.example") == "acme a.example/hooks"
        assert self.scope(app, "/hooks", "http://b.example") == "acme b.example/hooks"

    def test_without_flask(self) -> None:
        """A request of another framework has no route."""
        assert EndpointScope("acme")(request()) == "acme /"


class TestAcknowledgement:
    def test_2xx(self) -> None:
        """Senders take 2xx alone for an answer that ends their attempts."""
        kept = [status for status in range(100, 600) if is_acknowledgement(Response(status=status))]
        assert kept == list(range(200, 300))
