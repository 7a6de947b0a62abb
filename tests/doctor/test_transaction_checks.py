"""The doctor's checks of transactions: their databases, and the views that run in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from flask import Flask

from flask_idempotent.doctor import transaction_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.engine.transactions import Answer, Transaction, Weakness
from flask_idempotent.errors import DatabaseUnavailable, SettingsError
from flask_idempotent.policy import protected_routes
from tests.conftest import MakeApp
from tests.support.transactions import MemoryTransaction, raising

DAY = 86400


class Session:
    """What a view does with a session, and with its factory."""

    def commit(self) -> None: ...

    def flush(self) -> None: ...

    @contextmanager
    def begin(self) -> Iterator[None]:
        yield

    def begin_nested(self) -> nullcontext[None]:
        return nullcontext()


class Database:
    """As Flask-SQLAlchemy's ``db``."""

    session = Session()


session, db = Session(), Database()


class MonitoredTransaction(MemoryTransaction):
    """Says of itself what a test asks for."""

    expired: float | None = None
    found: tuple[Weakness, ...] = ()
    thread_local = False

    @property
    def is_thread_local(self) -> bool:
        return self.thread_local

    def longest_expired(self) -> float | None:
        return self.expired

    def weaknesses(self) -> tuple[Weakness, ...]:
        return self.found


def plain() -> str:
    return ""


def examined(make_app: MakeApp, transaction: Transaction, view: Any = plain) -> list[Finding]:
    app = make_app(transaction=transaction)
    app.add_url_rule("/orders", view_func=view, endpoint="orders", methods=["POST"])
    return list(transaction_checks.examine(app, list(protected_routes(app))))


def by_check(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


class TestDatabase:
    def test_all_is_well(self, make_app: MakeApp) -> None:
        """A database that answers and has a place for answers is as it should be."""
        (finding,) = examined(make_app, MonitoredTransaction())
        assert (finding.level, finding.check) == ("ok", "transaction")

    def test_no_transaction(self, make_app: MakeApp) -> None:
        """Of an application without transactions nothing is said."""
        app = make_app()
        app.add_url_rule("/", view_func=plain, methods=["POST"])
        assert list(transaction_checks.examine(app, list(protected_routes(app)))) == []

    def test_each_database_once(self, make_app: MakeApp) -> None:
        """Routes that share a transaction make one finding about its database."""
        app = make_app(transaction=MonitoredTransaction())
        for path in ("/a", "/b"):
            app.add_url_rule(path, view_func=plain, endpoint=path, methods=["POST"])
        assert len(list(transaction_checks.examine(app, list(protected_routes(app))))) == 1

    def test_uninspectable(self, make_app: MakeApp) -> None:
        """A transaction of an application's own need not be inspectable."""

        class Smallest(Transaction):
            def look_up(self, storage_key: str) -> Answer | None:
                return None

            def commit(self, answer: Answer | None, *, replaces: bytes | None = None) -> None: ...

            def roll_back(self) -> None: ...

        assert by_check(examined(make_app, Smallest())) == {"transaction": "ok"}

    @pytest.mark.parametrize(
        ("failure", "text"),
        [
            (SettingsError("the table idempotent_answers is missing"), "idempotent_answers"),
            (DatabaseUnavailable("connection refused"), "connection refused"),
        ],
    )
    def test_failing(self, make_app: MakeApp, failure: Exception, text: str) -> None:
        """A missing table, several binds or a dead database are errors: requests fail."""
        transaction = MonitoredTransaction()
        transaction.before["look_up"].append(raising(failure))
        (finding,) = examined(make_app, transaction)
        assert (finding.level, finding.check) == ("error", "transaction")
        assert text in finding.text

    def test_weaknesses(self, make_app: MakeApp) -> None:
        """What the transaction says of its driver is a warning, with its fix."""
        transaction = MonitoredTransaction()
        transaction.found = (Weakness("Savepoints commit.", "Set isolation_level."),)
        _, finding = examined(make_app, transaction)
        assert (finding.level, finding.text, finding.fix) == (
            "warning", "Savepoints commit.", "Set isolation_level."
        )  # fmt: skip

    @pytest.mark.parametrize(("seconds", "warns"), [(None, False), (DAY, False), (9.5 * DAY, True)])
    def test_unpruned(self, make_app: MakeApp, seconds: float | None, warns: bool) -> None:
        """Answers that expired more than two days ago are deleted by nobody: a warning."""
        transaction = MonitoredTransaction()
        transaction.expired = seconds
        findings = examined(make_app, transaction)
        assert ("prune" in by_check(findings)) is warns
        if warns:
            assert "9 days ago" in findings[-1].text


def committing() -> str:
    session.commit()
    return ""


def committing_of_extension() -> str:
    if db is not None:
        db.session.commit()
    return ""


def beginning() -> str:
    with db.session.begin():
        return ""


def committing_in_helper() -> str:
    def save() -> None:
        db.session.commit()

    save()
    return ""


def flushing() -> str:
    with db.session.begin_nested():
        db.session.flush()
    return ""


def committing_own() -> str:
    own_session = Session()
    own_session.commit()
    with own_session.begin():
        return ""


class TestViews:
    @pytest.mark.parametrize(
        "view", [committing, committing_of_extension, beginning, committing_in_helper]
    )
    def test_commits(self, make_app: MakeApp, view: Callable[[], str]) -> None:
        """A view that commits the session by itself is a warning."""
        findings = examined(make_app, MonitoredTransaction(), view)
        assert by_check(findings)["commits"] == "warning"
        assert "/orders" in findings[-1].text or "every" in findings[-1].text

    @pytest.mark.parametrize("view", [plain, flushing, committing_own])
    def test_leaves_commit_to_library(self, make_app: MakeApp, view: Callable[[], str]) -> None:
        """Flushes, savepoints and sessions of a view's own are as they should be."""
        assert by_check(examined(make_app, MonitoredTransaction(), view)) == {"transaction": "ok"}

    def test_no_transaction(self, make_app: MakeApp) -> None:
        """A view without transaction= commits as it likes."""
        app: Flask = make_app()
        app.add_url_rule("/", view_func=committing, methods=["POST"])
        assert list(transaction_checks.examine(app, list(protected_routes(app)))) == []

    @pytest.mark.parametrize(("thread_local", "level"), [(True, "error"), (False, None)])
    def test_async(self, make_app: MakeApp, thread_local: bool, level: str | None) -> None:
        """An async view with a session of the thread writes into another one: an error."""

        async def view() -> str:
            return ""

        transaction = MonitoredTransaction()
        transaction.thread_local = thread_local
        assert by_check(examined(make_app, transaction, view)).get("async") == level
        assert "async" not in by_check(examined(make_app, transaction, plain))
