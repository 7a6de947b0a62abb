"""W7: what a body costs that the library reads; ``test_large_bodies`` measures real servers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from flask import Flask, request
from werkzeug.wrappers import Request

from tests.support.clients import WayIn, post
from tests.support.request_bodies import MULTIPART, URLENCODED

FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n12345\r\n--b--\r\n'
SMALL = {"application/json": b"{}", URLENCODED: b"a=1", MULTIPART: FILE}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the collector of cycles, what is in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class TestCycles:
    @pytest.mark.usefixtures("no_collector")
    @pytest.mark.parametrize("kind", SMALL)
    def test_w7_request_is_gone_when_it_is_answered(self, way: WayIn, kind: str) -> None:
        """W7: a request and its body are freed at once, with a key and without, as by Flask."""
        app = way.app()
        alive = requests_of(app)
        app.add_url_rule("/", "view", way(lambda: f"{len(request.get_data())}"), methods=["POST"])
        for key in (None, "one", "one"):
            answer = post(app, key, data=SMALL[kind], content_type=kind)
            assert answer.data == b"%d" % len(SMALL[kind])
        assert [seen() for seen in alive] == [None] * 3


def requests_of(app: Flask) -> list[weakref.ref[Request]]:
    """References to the requests that an application is about to serve."""
    requests: list[weakref.ref[Request]] = []

    @app.before_request
    def note() -> None:
        requests.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]

    return requests
