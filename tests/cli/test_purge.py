"""The command purge: delete many records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from flask import Flask

from flask_idempotent import idempotent, step
from flask_idempotent.engine.transactions import Answer
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.commands import Script
from tests.cli.harness import claim, complete, damage, document, name, run, server_of, store_of
from tests.conftest import MakeApp
from tests.stores.harness import HOUR, answer, lapse
from tests.support.clients import post
from tests.support.redis_servers import Server
from tests.support.transactions import MemoryTransaction


def inspected(app: Flask) -> list[RecordInfo]:
    store = store_of(app)
    return list(store.inspect(store.scan("")))


class TestPurge:
    def test_all(self, app: Flask) -> None:
        """All records are deleted, except claims whose lease is running; other keys stay."""
        server_of(app).set("sessions:1", "x")
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        damage(app, "c")
        alive = claim(app, "d")
        asked = run(app, "purge", "--all", text="y\n")
        assert "This deletes 3 records (1 completed, 1 lapsed, 1 unreadable)." in asked.stderr
        assert asked.stdout.startswith("Deleted 3 records. Kept 1 claim whose lease is running")
        assert list(store_of(app).scan("")) in (["sessions:1", alive], [alive, "sessions:1"])
        assert document(app, "purge", "--all", "--yes", "--even-running") == {
            "deleted": 1, "running": 0,
        }  # fmt: skip
        # Its owner may still run, and must not put its claim back.
        assert isinstance(store_of(app).read(alive), ReleasedRecord)
        assert document(app, "purge", "--all", "--yes")["deleted"] == 0

    def test_older(self, app: Flask) -> None:
        """Only older records are deleted; those without an age stay."""
        complete(app, "a")
        damage(app, "b")
        post(app, "young", "/orders")
        assert document(app, "purge", "--older", "1h", "--yes") == {"deleted": 1, "running": 0}
        assert run(app, "purge", "--older", "1h").stdout == "Deleted 0 records.\n"

    def test_no(self, app: Flask) -> None:
        """Without a yes nothing is deleted."""
        complete(app)
        assert run(app, "purge", "--all", text="n\n").exit_code == 1
        assert store_of(app).read(name()) is not None

    def test_claimed_meanwhile(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that began after the records were read is left alone."""
        store = store_of(app)
        claim(app, owner="ada")

        def answer_slowly(*_: object, **__: object) -> None:
            store.delete([name()])
            claim(app, owner="bob")

        monkeypatch.setattr("flask_idempotent.cli.purge.confirm", answer_slowly)
        assert document(app, "purge", "--all", "--even-running")["deleted"] == 0
        assert isinstance(store.read(name()), RunningRecord)

    @pytest.mark.parametrize("arguments", [[], ["--all", "--older", "1h"]])
    def test_says_which(self, app: Flask, arguments: list[str]) -> None:
        """One of --older, --all and a caller must be given."""
        result = run(app, "purge", *arguments)
        assert result.exit_code == 2
        assert "Give one of --older, such as --older 2h, --all, and" in result.stderr

    def test_in_batches(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many records are read, and then deleted, in several round trips."""
        sizes: list[int] = []
        run_many = Client.run_many

        def note(self: Client, script: Script, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
            if calls:
                sizes.append(len(calls))
            return run_many(self, script, calls)

        monkeypatch.setattr(Client, "run_many", note)
        for number in range(501):
            complete(app, str(number))
        assert document(app, "purge", "--all", "--yes")["deleted"] == 501
        assert sizes == [500, 1] * 2


class TestCaller:
    """The records of one caller: ``purge --scope``."""

    @pytest.fixture
    def app(self, clean_valkey: Server, make_app: MakeApp) -> Flask:
        """Users are known by the session's user and by a header; tenants by a scope function."""
        secret = {"IDEMPOTENT_NAME_SECRET": "a secret for names"}
        app = make_app(store=open_store(clean_valkey.url, "tests"), config=secret)

        @app.post("/orders")
        def orders() -> tuple[str, int]:
            return step("reserve", str, "reserved"), 201

        @app.post("/tenants")
        @idempotent(scope=lambda request: request.headers["X-Tenant"])
        def tenants() -> str:
            return "tenant"

        return app

    def test_scope(self, app: Flask) -> None:
        """The records of one scope are deleted, whatever their keys, and no others."""
        for tenant in "ada", "bob":
            for key in "one", "two":
                post(app, key, "/tenants", headers={"X-Tenant": tenant})
        post(app, "three", "/orders")
        purge = ("purge", "--scope", "ada", "--path", "/tenants", "--yes")
        assert document(app, *purge) == {"deleted": 2, "running": 0}
        assert document(app, *purge)["deleted"] == 0
        assert len(inspected(app)) == 3
        again = post(app, "one", "/tenants", headers={"X-Tenant": "bob"})
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_header(self, app: Flask) -> None:
        """In the default scope a caller is named by the scope headers and the session's user."""
        post(app, "one", "/orders", headers={"X-API-Key": "adas"})
        post(app, "one", "/orders", headers={"X-API-Key": "bobs"})
        result = run(app, "purge", "--scope-header", "X-API-Key", "--yes", text="adas\n")
        assert result.stdout == "Deleted 1 record.\n"
        assert run(app, "purge", "--user", "7", "--yes").stdout == "Deleted 0 records.\n"

    def test_steps(self, app: Flask, clean_valkey: Server) -> None:
        """The steps of a run that failed go too, and those of a run that goes on, where asked."""
        purge = ("purge", "--scope-header", "X-API-Key", "--yes")

        def fails() -> str:
            return step("one", str, "s") + str(1 / 0)

        app.add_url_rule("/fails", "fails", fails, methods=["POST"])

        def running() -> str:
            step("one", str, "s")
            kept = run(app, *purge, text="adas\n").stdout
            assert kept.startswith("Deleted 0 records. Kept 1 claim")
            assert len(clean_valkey.client.keys()) == 2
            run(app, *purge, "--even-running", text="adas\n")
            assert clean_valkey.client.keys() == []
            return ""

        app.add_url_rule("/runs", "runs", running, methods=["POST"])
        post(app, "one", "/fails", headers={"X-API-Key": "adas"})
        (info,) = inspected(app)
        assert (type(info.record), list(info.steps)) == (ReleasedRecord, ["one"])
        run(app, *purge, text="adas\n")
        assert clean_valkey.client.keys() == []
        post(app, "two", "/runs", headers={"X-API-Key": "adas"})

    def test_rows(self, app: Flask, clean_valkey: Server) -> None:
        """The rows of transactions go too, also where the store has no record of theirs."""
        transaction = MemoryTransaction()
        view = idempotent(transaction=transaction)(lambda: "")
        app.add_url_rule("/row", "row", view, methods=["POST"])
        for user in "adas", "bobs":
            post(app, "one", "/row", headers={"X-API-Key": user})
        clean_valkey.client.flushall()
        purge = ("purge", "--scope-header", "X-API-Key")
        asked = run(app, *purge, text="adas\nn\n").stderr
        assert "This deletes 0 records and the caller's answers in the databases" in asked
        assert len(transaction.answers) == 2
        run(app, *purge, "--yes", text="adas\n")
        assert len(transaction.answers) == 1

    def test_row_of_a_claim_that_is_kept(self, app: Flask, clean_valkey: Server) -> None:
        """Where a claim is kept, the row of its key stays: it may be the answer of its run."""
        transaction = MemoryTransaction()

        def view() -> str:
            (name,) = clean_valkey.client.keys()
            transaction.commit(Answer(name.decode(), answer(), HOUR))
            run(app, "purge", "--scope-header", "X-API-Key", "--yes", text="adas\n")
            assert len(transaction.answers) == 1
            return ""

        app.add_url_rule("/row", "row", idempotent(transaction=transaction)(view), methods=["POST"])
        post(app, "one", "/row", headers={"X-API-Key": "adas"})

    def test_without_the_secret(self, make_app: MakeApp) -> None:
        """Without a secret for names nobody knows whose a record is, and an error says so."""
        result = run(make_app(), "purge", "--user", "7")
        assert result.exit_code == 2
        assert "Without IDEMPOTENT_NAME_SECRET nothing in the store says" in result.stderr

    @pytest.mark.parametrize(
        "arguments",
        [(), ("--all", "--user", "7"), ("--older", "1h", "--user", "7"), ("--path", "/orders")],
    )
    def test_wrong_usage(self, app: Flask, arguments: tuple[str, ...]) -> None:
        """One of age, all and a caller is asked for."""
        assert run(app, "purge", *arguments).exit_code == 2
