"""Sealed records in an application: what the server has, rotation, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, flash, request

from flask_idempotent import Crash, SettingsError, current_claim, step
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.memory import MemoryStore
from tests.conftest import MakeApp
from tests.stores.harness import lapse
from tests.support.clients import post, problem
from tests.support.redis_servers import Server

NEW, OLD = "the newest secret", "the older secrets"
Secrets = tuple[str | None, ...]
MakeShop = Callable[..., Flask]


@pytest.fixture
def make_shop(clean_valkey: Server, make_app: MakeApp) -> MakeShop:
    """Makes one worker of a shop with these secrets; all workers have one server."""

    def make(*secrets: str | None, runs: list[str] | None = None, **config: Any) -> Flask:
        config = {"REDIS_URL": clean_valkey.url, "IDEMPOTENT_SECRETS": secrets, **config}
        app = make_app(config=config, name="shop")

        @app.post("/orders")
        def orders() -> Response:
            if runs is not None:
                runs.append(current_claim.key)
            flash("a-message")
            body = f"an answer to {request.get_data(as_text=True)}"
            return Response(body, 201, headers={"Location": "/orders/a-location"})

        return app

    return make


def order(app: Flask, key: str = "the-key") -> Any:
    return post(app, key, "/orders", data=b"a-body")


class TestOnTheServer:
    WORDS = (
        b"the-key", b"a-body", b"an answer", b"a-location", b"orders", b"POST", b"a-token",
        b"a-message",
    )  # fmt: skip

    def dump(self, server: Server) -> bytes:
        """Everything that the server keeps, as it writes it to the disk."""
        server.client.config_set("rdbcompression", "no")
        server.client.save()
        file = Path(server.client.config_get("dir")["dir"], "dump.rdb")
        try:
            return file.read_bytes()
        finally:
            # A server that is started again would load it.
            file.unlink()

    def test_dump(self, clean_valkey: Server, make_shop: MakeShop) -> None:
        """A dump of the server has no body, header, message, key or name of a view, and without
        secrets it has all but the key and the request."""
        headers = {"X-API-Key": "a-token"}
        post(make_shop(NEW), "the-key", "/orders", data=b"a-body", headers=headers)
        dump = self.dump(clean_valkey)
        assert b"IDEMPOTENT_" in dump
        assert [word for word in self.WORDS if word in dump] == []
        order(make_shop())
        dump = self.dump(clean_valkey)
        assert b"an answer" in dump
        assert b"a-message" in dump
        assert b"the-key" not in dump

    def test_running(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """While a view runs, a dump has nothing of its record and of the values of its steps; the
        names of steps can be read."""
        config = {"REDIS_URL": clean_valkey.url, "IDEMPOTENT_SECRETS": (NEW,)}
        app = make_app(config=config)
        dumps = []

        @app.post("/orders")
        def orders() -> str:
            step("charge", str, "a-value")
            dumps.append(self.dump(clean_valkey))
            return ""

        assert post(app, path="/orders").status_code == 200
        (dump,) = dumps
        assert b"charge" in dump
        assert [word for word in (b"orders", b"POST", b"a-value") if word in dump] == []


class TestReplays:
    def test_replay(self, make_shop: MakeShop) -> None:
        """A sealed response is replayed as it was sent, small or large."""
        runs: list[str] = []
        app = make_shop(NEW, runs=runs)
        for key, body in ("small", b"x"), ("large", b"x" * 5000):
            first = post(app, key, "/orders", data=body)
            again = post(app, key, "/orders", data=body)
            assert again.headers["Idempotent-Replayed"] == "true"
            assert (again.data, again.location) == (first.data, first.location)
            # The message of flash().
            assert "session=" in again.headers["Set-Cookie"]
        assert runs == ["small", "large"]

    def test_moved(self, clean_valkey: Server, make_shop: MakeShop) -> None:
        """A record that was moved to another key is unreadable, and no view runs."""
        runs: list[str] = []
        app = make_shop(NEW, runs=runs)
        order(app, "one")
        (one,) = clean_valkey.client.keys()
        order(app, "other")
        (other,) = set(clean_valkey.client.keys()) - {one}
        clean_valkey.client.copy(one, other, replace=True)
        assert problem(order(app, "other")) == (503, "record-unreadable")
        assert runs == ["one", "other"]

    def test_downgrade(self, clean_valkey: Server, make_shop: MakeShop) -> None:
        """A record without a seal is refused, and no view runs, unless None is a secret."""
        runs: list[str] = []
        order(make_shop(runs=runs))
        assert problem(order(make_shop(NEW, runs=runs))) == (503, "record-unreadable")
        assert order(make_shop(NEW, None, runs=runs)).status_code == 201
        assert order(make_shop(None, NEW, runs=runs)).status_code == 201
        assert runs == ["the-key"]

    def test_no_secrets(self, make_shop: MakeShop) -> None:
        """A worker without secrets cannot read a sealed record, and does not run its view."""
        runs: list[str] = []
        order(make_shop(NEW, runs=runs))
        assert problem(order(make_shop(runs=runs))) == (503, "record-unreadable")
        assert runs == ["the-key"]

    def test_older_record_of_the_key(self, clean_valkey: Server, make_shop: MakeShop) -> None:
        """What is not prevented: who writes to the server can put back an older record of the same
        key, as long as its secret is listed. It answers only the request that it answered."""
        app = make_shop(NEW)
        order(app)
        (name,) = clean_valkey.client.keys()
        older = clean_valkey.client.get(name)
        clean_valkey.client.delete(name)
        clean_valkey.client.set(name, older)
        assert order(app).headers["Idempotent-Replayed"] == "true"
        assert problem(post(app, "the-key", "/orders", data=b"other")) == (422, "key-reused")


class TestRotation:
    #: The deploys that change the secret, and those that switch sealing on.
    DEPLOYS = (
        [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)],
        [(), (None, NEW), (NEW, None), (NEW,)],
    )

    @pytest.mark.parametrize("deploys", DEPLOYS, ids=["rotation", "switching on"])
    def test_three_deploys(
        self,
        make_shop: MakeShop,
        background: Callable[..., Future[Any]],
        deploys: list[Secrets],
    ) -> None:
        """While workers of two deploys serve, each reads what the other writes: of many requests
        for each key one runs and all get its answer, none gets 503."""
        runs: list[str] = []
        workers = [make_shop(*secrets, runs=runs) for secrets in deploys]
        for number, pair in enumerate(pairwise(workers)):
            keys = [f"{number}-{key}" for key in range(10)]
            futures = [background(order, app, key) for key in keys for app in pair * 2]
            assert {(f.result().status_code, f.result().data) for f in futures} == {
                (201, b"an answer to a-body")
            }
            # A retry may reach either.
            assert {order(app, key).status_code for key in keys for app in pair} == {201}
        assert sorted(runs) == sorted(set(runs))
        # What the first deploy wrote is unreadable for the last, and no view runs.
        assert problem(order(workers[-1], "0-0")) == (503, "record-unreadable")

    def test_steps(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """A run that goes on opens the results of an earlier one with every secret that is listed,
        and does not run with one that is not."""
        calls: list[str] = []

        def worker(*secrets: str) -> Flask:
            config = {"REDIS_URL": clean_valkey.url, "IDEMPOTENT_SECRETS": secrets}
            app = make_app(config=config, name="shop")

            @app.post("/")
            def view() -> tuple[str, int]:
                step("charge", calls.append, "charged")
                return "", 503 if len(secrets) == 1 else 201

            return app

        assert post(worker(OLD)).status_code == 503
        assert problem(post(worker(NEW))) == (503, "record-unreadable")
        assert post(worker(NEW, OLD)).status_code == 201
        assert calls == ["charged"]

    def test_retired(self, make_shop: MakeShop) -> None:
        """A record of a secret that is not listed any more is unreadable, and no view runs."""
        runs: list[str] = []
        order(make_shop(OLD, runs=runs))
        answer = order(make_shop(NEW, runs=runs))
        assert problem(answer) == (503, "record-unreadable")
        assert runs == ["the-key"]


class TestCrashes:
    def test_facts_of_the_dead_run(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """A function that decides hears of the run that died, although its record was sealed, and
        the next one that is asked hears the same."""
        heard: list[Crash] = []

        def decide(crash: Crash) -> str:
            heard.append(crash)
            return "hold"

        config = {"REDIS_URL": clean_valkey.url, "IDEMPOTENT_SECRETS": (NEW,)}
        app = make_app(config=config, on_crash=decide, timeout=0)
        store: Store = app.extensions["idempotent"].engine.store
        runs = count(1)

        @app.post("/")
        def view() -> str:
            (name,) = clean_valkey.client.keys()
            if next(runs) == 1:
                # It dies: nobody has the key any more, and the lease ends.
                lapse(store, name.decode())
                assert problem(post(app)) == (409, "outcome-unknown")
                lapse(store, name.decode())
                assert problem(post(app)) == (409, "outcome-unknown")
            return ""

        post(app)
        assert [crash.attempt for crash in heard] == [1, 1]
        assert heard[0].started == heard[1].started > 0
        assert heard[0].host == heard[1].host != ""


class TestNameSecret:
    def test_replay(self, make_shop: MakeShop) -> None:
        """With a secret for names a retry is replayed, and another payload is
        refused."""
        runs: list[str] = []
        names = {"IDEMPOTENT_NAME_SECRET": "a secret for names"}
        app = make_shop(runs=runs, **names)
        assert order(app).status_code == 201
        assert order(app).headers["Idempotent-Replayed"] == "true"
        assert problem(post(app, "the-key", "/orders", data=b"other")) == (422, "key-reused")
        assert runs == ["the-key"]

    def test_changed(self, clean_valkey: Server, make_shop: MakeShop) -> None:
        """Where it changes, every key is new: a retry runs the view again."""
        runs: list[str] = []
        for secret in "a secret for names", "another secret for names":
            order(make_shop(runs=runs, IDEMPOTENT_NAME_SECRET=secret))
        assert runs == ["the-key", "the-key"]
        one, other = clean_valkey.client.keys()
        assert one[:15] != other[:15]


class TestStores:
    def test_memory(self, make_app: MakeApp) -> None:
        """memory:// keeps records in the process that has the secrets, and seals nothing."""
        app = make_app(config={"IDEMPOTENT_SECRETS": (NEW,)})
        app.post("/")(lambda: "")
        assert post(app).status_code == post(app).status_code == 200

    def test_store_that_does_not_seal(self, make_app: MakeApp) -> None:
        """A store of another kind that does not seal is refused, with an error that says so."""

        class Unsealing(MemoryStore):
            sealed_with = Store.sealed_with  # type: ignore[assignment]

        app = make_app(store=Unsealing(), config={"IDEMPOTENT_SECRETS": (NEW,)})
        with pytest.raises(SettingsError, match="Unsealing does not: implement sealed_with"):
            _ = app.extensions["idempotent"].engine
