"""Traps: what went wrong in other libraries does not go wrong here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from itertools import product
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_idempotent.errors import StoreUnavailable
from tests.conftest import MakeApp
from tests.support import views
from tests.support.clients import Gate, WayIn, post, problem, recorded
from tests.support.faulty_store import FaultyStore, fail
from tests.support.polling import until
from tests.support.redis_servers import Server

Background = Callable[..., Future[TestResponse]]


def counting(way: WayIn, **options: Any) -> tuple[Flask, list[int]]:
    """An application whose one view answers with the number of its run, and its runs."""
    app, runs = way.app(**options), []

    @app.post("/")
    @way
    def view() -> str:
        runs.append(len(runs) + 1)
        return f"run {runs[-1]}"

    return app, runs


def gated(way: WayIn, **options: Any) -> tuple[Flask, Gate]:
    """An application whose one view stands before a gate in its first run."""
    app = way.app(**options)
    return app, views.gated(app, way)


def refused(answer: TestResponse) -> bool:
    return problem(answer) == (400, "key-invalid")


class TestKeys:
    def test_k1_places(self, way: WayIn) -> None:
        """K1: a key is the same in each place and in all of them; two that disagree get 400."""
        app, runs = counting(way, ignore_fields=[])
        client = app.test_client()
        requests: list[dict[str, Any]] = [
            {"headers": {"idempotency-KEY": "k"}},
            {"headers": {"X-IDEMPOTENT-key": "k"}},
            {"query_string": {"__idempotent_key": "k"}},
            {"data": {"__idempotent_key": "k"}},
            {"headers": {"Idempotency-Key": '"k"', "X-Idempotent-Key": "k"},
             "query_string": {"__idempotent_key": "k"}, "data": {"__idempotent_key": "k"}},
        ]  # fmt: skip
        for options in requests:
            form = {"content_type": "application/x-www-form-urlencoded", **options}
            assert client.post("/", **form).text == "run 1"
        assert refused(post(app, "k", query_string={"__idempotent_key": "other"}))
        assert refused(post(app, "k", headers={"X-Idempotent-Key": "K"}))
        assert runs == [1]

    def test_k2_k3_k6_forms_of_a_key(self, way: WayIn) -> None:
        """K2, K3, K6: bare, quoted, with parameters and with space around, it is one key."""
        app, runs = counting(way)
        for value in ("k", '"k"', '"k";p=1;q', " k", "k\t", ' \t"k" \t'):
            assert post(app, value).text == "run 1"
        assert runs == [1]
        assert post(app, '"k"x').status_code == 400

    def test_k4_strict(self, way: WayIn) -> None:
        """K4: in strict mode only a String is a key, not a Token, an Integer or a Boolean."""
        app, runs = counting(way, config={"IDEMPOTENT_STRICT_KEYS": True})
        assert all(refused(post(app, value)) for value in ("abc", "12", "?1", ":YQ==:", "()"))
        assert post(app, '"abc"').text == "run 1"
        assert runs == [1]

    @pytest.mark.parametrize(
        "value",
        ["", '""', "  ", '" "', "k" * 256, "a\x01", "\xe9", '"\xe9"', "a,b", '"a","a"', '"a", "a"'],
        ids=ascii,
    )
    def test_k5_refused(self, way: WayIn, value: str) -> None:
        """K5: such a key gets 400; nothing runs and the store is not asked."""
        store = FaultyStore()
        app, runs = counting(way, store=store)
        answer = post(app, None, environ_overrides={"HTTP_IDEMPOTENCY_KEY": value})
        assert refused(answer)
        assert (runs, store.calls) == ([], [])

    @pytest.mark.parametrize("place", ["data", "query_string"])
    @pytest.mark.parametrize("value", ["", " ", "a b", '"k"', "a,b", "k" * 256, "é"], ids=ascii)
    def test_k7_refused(self, way: WayIn, place: str, value: str) -> None:
        """K7: in the form and the query a key has a bare one's characters and length."""
        app, runs = counting(way)
        assert refused(post(app, None, **{place: {"__idempotent_key": value}}))
        assert post(app, None, **{place: {"__idempotent_key": "k" * 255}}).text == "run 1"
        assert runs == [1]

    def test_k10_any_body(self, make_app: MakeApp) -> None:
        """K10: a form that is broken, lies of its type or is none is no 500."""
        app = make_app(fingerprint=False)
        app.post("/")(lambda: "run")
        form, field = b"--b\r\nContent-Disposition: form-data", b"__idempotent_key"
        bodies = [
            b"", b"\xff\xfe", field, field + b"=%ff", field + b"=%00", (field + b"=a&") * 2000,
            b"--b\r\n", form + b"; name=" + field + b"\r\n\r\nx",
            form + b'; name="' + field + b'"; filename="f"\r\n\r\nx\r\n--b--',
            form + b"; name*=utf-16''" + field + b"%ff\r\n\r\nx\r\n--b--",
            form + b'; name="' + field + b'"\r\nContent-Type: a/b; charset=no\r\n\r\nx\r\n--b--',
        ]  # fmt: skip
        types = [
            "multipart/form-data", "multipart/form-data; boundary=b",
            "multipart/form-data; charset=no",
            'multipart/form-data; boundary=""', "multipart/form-data; boundary=\xff",
            "multipart/form-data; boundary*=utf-16''%ff", "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded; charset=no",
        ]  # fmt: skip
        for content_type, body in product(types, bodies):
            environ = {"CONTENT_TYPE": content_type}
            answer = post(app, None, data=body, environ_overrides=environ)
            assert answer.status_code in (200, 400, 413), (content_type, body)

    def test_k11_navigation(self, way: WayIn) -> None:
        """K11: a form sent by Firefox is judged by the form's key, not by the browser's own."""
        app, runs = counting(way)
        navigation = {"headers": {"Sec-Fetch-Mode": "navigate"}}
        for number in range(2):
            form = {"data": {"__idempotent_key": "k"}, **navigation}
            assert post(app, f'"{number}"', **form).text == "run 1"
        assert runs == [1]
        # Without a key of its own such a form is a request without a key.
        assert [post(app, '"7"', **navigation).text for _ in range(2)] == ["run 2", "run 3"]

    def test_k8_nowhere_whole(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """K8: neither a replay nor a problem writes a key whole to the log."""
        caplog.set_level(logging.INFO)
        app, _ = counting(way)
        key = "a-key-that-nobody-should-read"
        for options in ({}, {}, {"data": b"other"}, {"headers": {"X-Idempotent-Key": "x"}}):
            post(app, key, **options)
        assert "replay" in caplog.text
        assert key not in caplog.text
        assert key[8:] not in caplog.text


class TestTraps:
    def test_impatient_waiter_leaves_the_owner_alone(
        self, way: WayIn, background: Background
    ) -> None:
        """A waiter whose patience ends leaves the owner its claim, and a retry its response."""
        app, gate = gated(way, timeout=0.05)
        first = background(post, app)
        gate.reached()
        assert problem(post(app)) == (409, "in-progress")
        assert problem(post(app)) == (409, "in-progress")
        gate.open()
        assert first.result().text == "run 1"
        assert post(app).text == "run 1"

    def test_waiter_whose_record_is_gone_runs(self, way: WayIn, background: Background) -> None:
        """A waiter whose record is gone, as if expired, claims the key itself."""
        store = FaultyStore()
        app, gate = gated(way, store=store)
        first = background(post, app)
        gate.reached()
        second = background(post, app)
        assert store.listening.acquire(timeout=10)
        assert store.delete(list(store.scan(""))) == 1
        assert (second.result().status_code, second.result().text) == (200, "run 2")
        gate.open()
        assert first.result().status_code == 200

    def test_failed_renewal_spoils_no_success(self, way: WayIn, background: Background) -> None:
        """A renewal that fails leaves the view's success a success, and stored."""
        store = FaultyStore()
        app, gate = gated(way, store=store, lease=0.3)
        store.before["renew"] = [fail(StoreUnavailable("away"))]
        first = background(post, app)
        gate.reached()
        until(lambda: "renew" in store.calls)
        gate.open()
        assert (first.result().status_code, first.result().text) == (200, "run 1")
        assert post(app).headers["Idempotent-Replayed"] == "true"

    def test_get_is_never_replayed_to_post(self, way: WayIn) -> None:
        """What a GET answered, decorated or not, is never a POST's response."""
        app, runs = counting(way)
        app.add_url_rule("/", "read", lambda: "what was read")
        read = post(app, method="GET")
        assert read.text == "what was read"
        answer = post(app)
        if answer.status_code == 422:
            assert runs == []
        else:
            assert answer.text == "run 1"

    def test_timeout_of_nothing_wins(self, way: WayIn, background: Background) -> None:
        """A timeout of 0 wins over the config's, it does not count as none given."""
        app, gate = gated(way, timeout=0, config={"IDEMPOTENT_TIMEOUT": 30})
        first = background(post, app)
        gate.reached()
        with recorded(app) as events:
            assert problem(post(app)) == (409, "in-progress")
        assert "waited" not in [name for name, _ in events]
        gate.open()
        first.result()

    def test_c5_part_of_a_second_counts(self, way: WayIn, clean_valkey: Server) -> None:
        """C5: a time of 1.5 s is 1.5 s in Redis, neither 1 nor 2."""
        app, _ = counting(way, expire=1.5, config={"REDIS_URL": clean_valkey.url})
        assert post(app).text == "run 1"
        [name] = clean_valkey.client.keys("IDEMPOTENT_*")
        assert 1000 < clean_valkey.client.pttl(name) <= 1500
