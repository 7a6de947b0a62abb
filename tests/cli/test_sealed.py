"""Commands on sealed records: with the secret as on others, without it they say why not."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.cli.harness import (
    SERVER,
    claim,
    complete,
    document,
    give_up,
    name,
    printed,
    run,
    server_of,
    store_of,
)
from tests.conftest import MakeApp
from tests.stores.harness import lapse
from tests.support.clients import post
from tests.support.redis_servers import Server

NEW, OLD = "the newest secret", "the older secrets"


@pytest.fixture
def make_sealed(clean_valkey: Server, make_app: MakeApp) -> MakeApp:
    """Makes applications on one server, each with its secrets."""

    def make(*secrets: str | None, **config: object) -> Flask:
        config = {"REDIS_URL": clean_valkey.url, "IDEMPOTENT_SECRETS": secrets, **config}
        app = make_app(config=config)
        app.extensions[SERVER] = clean_valkey.client
        app.add_url_rule("/orders", "orders", lambda: ("placed", 201), methods=["POST"])
        return app

    return make


@pytest.fixture
def app(make_sealed: MakeApp) -> Flask:
    """An application whose records are sealed."""
    return make_sealed(NEW)


class TestWithTheSecret:
    def test_show(self, app: Flask) -> None:
        """``show`` opens a response, and the record of a run."""
        post(app, "k", "/orders")
        data = document(app, "show", "k")
        assert (data["state"], data["status"], data["endpoint"]) == ("completed", 201, "orders")
        assert run(app, "show", "k", "--body").stdout == "placed"
        claim(app, "run")
        assert "here, process 7" in run(app, "show", "run").stdout

    def test_list_and_stats(self, app: Flask) -> None:
        """``list`` and ``stats`` see what each record is, also where its body is large."""
        claim(app, "one")
        complete(app, "two")
        give_up(app, "three")
        app.add_url_rule("/big", "big", lambda: "x" * 5000, methods=["POST"])
        post(app, "four", "/big")
        states = {line["endpoint"]: line["state"] for line in document(app, "list")}
        assert states.keys() == {"orders", "big"}
        assert document(app, "stats")["unreadable"] == 0
        assert "200" in run(app, "list", "--route", "big").stdout

    def test_resolve(self, app: Flask) -> None:
        """``resolve`` seals the answer that an operator gives."""
        lapse(store_of(app), claim(app))
        result = run(app, "resolve", "k", "--yes", "--status", "201", "--body", "by hand")
        assert result.exit_code == 0, result.output
        assert b"by hand" not in server_of(app).get(name())
        assert run(app, "show", "k", "--body").stdout == "by hand"

    def test_release(self, app: Flask) -> None:
        """``release`` frees a completed key."""
        complete(app)
        assert run(app, "release", "k", "--even", "completed", "--yes").exit_code == 0
        assert store_of(app).read(name()) is None

    def test_watch(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """``watch`` reads sealed records."""
        lines = printed(app, monkeypatch, lambda: complete(app))
        assert "201" in lines[-1]


class TestWithoutTheSecret:
    def test_show(self, app: Flask, make_sealed: MakeApp) -> None:
        """``show`` says that no secret opens the record, or that it lacks a seal."""
        complete(app)
        other = make_sealed(OLD)
        assert "no secret in IDEMPOTENT_SECRETS opens it" in run(other, "show", "k").stdout
        assert "no secret" in document(other, "show", "k")["damage"]
        assert "IDEMPOTENT_SECRETS is not set" in run(make_sealed(), "show", "k").stdout
        complete(make_sealed(), "plain")
        assert "record is not sealed" in run(app, "show", "plain").stdout

    def test_list_and_release(self, app: Flask, make_sealed: MakeApp) -> None:
        """``list`` shows it as unreadable, and it can be released only with --even unreadable."""
        complete(app)
        other = make_sealed(OLD)
        assert "unreadable" in run(other, "list").stdout
        assert run(other, "release", "k", "--yes").exit_code == 1
        assert run(other, "release", "k", "--even", "unreadable", "--yes").exit_code == 0

    def test_settings(self, make_sealed: MakeApp) -> None:
        """``settings`` shows fingerprints of secrets, and never the secrets."""
        app = make_sealed(NEW, None, IDEMPOTENT_NAME_SECRET=OLD)
        shown, data = run(app, "settings").stdout, document(app, "settings")
        assert NEW not in shown
        assert OLD not in shown
        fingerprint, unsealed = data["secrets"]["value"]
        assert f"{fingerprint}, unsealed" in shown
        assert (len(fingerprint), unsealed) == (8, None)
        assert len(data["name_secret"]["value"]) == 8
