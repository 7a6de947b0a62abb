"""Transactions of every kind of view, and of functions that views call."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView

from flask_idempotent import SettingsError, idempotent
from tests.conftest import MakeApp
from tests.support.clients import post
from tests.support.shop import Shop
from tests.support.transactions import MemoryTransaction, UniqueViolation, raising


@pytest.fixture
def db() -> MemoryTransaction:
    """A database."""
    return MemoryTransaction()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application whose views are protected one by one."""
    return make_app(wide=False)


def writing(db: MemoryTransaction, row: str = "row") -> Any:
    """Make a view that writes a row."""
    runs = count(1)

    def view() -> str:
        db.write(row)
        return f"run {next(runs)}"

    return view


class TestKindsOfViews:
    def test_blueprint(self, app: Flask, db: MemoryTransaction) -> None:
        """A blueprint's transaction is that of its views."""
        blueprint = idempotent.protect(Blueprint("api", "api"), transaction=db)
        blueprint.post("/")(writing(db))
        app.register_blueprint(blueprint)
        assert [post(app, key).text for key in ("a", "a", None)] == ["run 1", "run 1", "run 2"]
        assert (db.rows, len(db.answers)) == (["row", "row"], 1)

    def test_method_view(self, app: Flask, db: MemoryTransaction) -> None:
        """So is that of a class, and each method has its own transaction."""
        write = writing(db)

        class Orders(MethodView):
            decorators = [idempotent(transaction=db)]  # noqa: RUF012

            def post(self) -> Any:
                return write()

            def get(self) -> Any:
                return write()

        app.add_url_rule("/", view_func=Orders.as_view("orders"))
        assert [post(app, key).text for key in ("a", "a", None)] == ["run 1", "run 1", "run 2"]
        assert post(app, None, method="GET").text == "run 3"
        assert (db.rows, len(db.answers)) == (["row", "row"], 1)

    @pytest.mark.parametrize("key", ["a", None])
    def test_async(self, app: Flask, db: MemoryTransaction, key: str | None) -> None:
        """An async view has a transaction too."""

        @app.post("/")
        @idempotent(transaction=db)
        async def view() -> tuple[str, int]:
            db.write("row")
            return "made", 201

        assert [post(app, key).text for _ in "12"] == ["made", "made"]
        assert len(db.rows) == (1 if key else 2)

    def test_none_wins(self, make_app: MakeApp) -> None:
        """``transaction=None`` takes a view out of the extension's transaction."""
        shop = Shop(make_app)
        shop.app.add_url_rule(
            "/own", "own", idempotent(transaction=None)(writing(shop.db)), methods=["POST"]
        )
        assert [post(shop.app, key, "/own").text for key in ("a", None)] == ["run 1", "run 2"]
        assert shop.db.calls == []

    def test_exempt(self, make_app: MakeApp) -> None:
        """An exempt view has none."""
        shop = Shop(make_app)
        shop.app.add_url_rule(
            "/exempt", "exempt", idempotent.exempt(writing(shop.db)), methods=["POST"]
        )
        assert post(shop.app, "a", "/exempt").text == "run 1"
        assert shop.db.calls == []

    @pytest.mark.parametrize(
        "returned", [{"a": 1}, ("b", 202), ("c", {"X-C": "1"}), ["d"], (b"e", 201, [])]
    )
    def test_what_the_view_returns(self, app: Flask, db: MemoryTransaction, returned: Any) -> None:
        """A request without a key gets what it would get without a transaction."""

        def view() -> Any:
            return returned

        app.put("/")(view)
        app.add_url_rule("/", "transacted", idempotent(transaction=db)(view), methods=["POST"])
        plain, transacted = (post(app, None, method=method) for method in ("PUT", "POST"))
        assert plain.data == transacted.data
        assert (plain.status, plain.headers) == (transacted.status, transacted.headers)


class TestNested:
    """Decorated functions that a view calls."""

    @pytest.mark.parametrize("key", ["a", None])
    def test_in_a_view_with_a_transaction(
        self, app: Flask, db: MemoryTransaction, key: str | None
    ) -> None:
        """They do nothing of their own: the view's transaction ends with the view."""
        write = idempotent(transaction=db)(writing(db, "inner"))

        @app.post("/")
        @idempotent(transaction=db)
        def view() -> tuple[str, int]:
            return f"{write()}, {db.rows}, {db.calls.count('begin')}", 201

        assert post(app, key).text == "run 1, [], 1"
        assert db.rows == ["inner"]
        assert sum(call.startswith("commit") for call in db.calls) == 1

    def test_roll_back_of_the_view(self, app: Flask, db: MemoryTransaction) -> None:
        """What they wrote is rolled back with it."""
        write = idempotent(transaction=db)(writing(db, "inner"))
        app.post("/")(idempotent(transaction=db)(lambda: (write(), 400)))
        post(app, None)
        assert db.rows == []

    def test_key_of_its_own(self, app: Flask, db: MemoryTransaction) -> None:
        """A function with a key and a transaction of its own, in that of a view, is an error."""
        inner = idempotent(transaction=db, key=lambda request: "inner")(writing(db, "inner"))
        app.post("/")(idempotent(transaction=db)(lambda: inner()))
        app.config["PROPAGATE_EXCEPTIONS"] = True
        with pytest.raises(SettingsError, match="has an idempotency key of its own"):
            post(app, None)
        assert (db.rows, db.answers) == ([], {})

    @pytest.mark.parametrize("key", ["a", None])
    @pytest.mark.parametrize("wide", [True, False])
    def test_in_a_protected_view_without(
        self, make_app: MakeApp, db: MemoryTransaction, key: str | None, wide: bool
    ) -> None:
        """In a protected view without a transaction they have none either, and return what they
        return there: the view itself commits."""
        app = make_app(wide=wide)
        write = idempotent(transaction=db)(writing(db))

        def view() -> list[str]:
            return [write()]

        app.post("/")(view if wide else idempotent(view))
        assert post(app, key).json == ["run 1"]
        assert (db.calls, db.rows) == ([], [])

    @pytest.mark.parametrize("key", ["a", None])
    def test_in_a_view_without(self, app: Flask, db: MemoryTransaction, key: str | None) -> None:
        """In a view that nothing protects they have a transaction each."""
        first = idempotent(transaction=db)(writing(db, "first"))

        @idempotent(transaction=db)
        def second() -> tuple[str, int]:
            db.write("second")
            return "no", 400

        @app.post("/")
        def view() -> str:
            return f"{first().get_data(True)}, {second().get_data(True)}"

        assert post(app, key).text == "run 1, no"
        assert db.rows == ["first"]
        assert len(db.answers) == (2 if key else 0)


class TestCalledAgain:
    """A decorator above that calls again, as one does that retries after a deadlock."""

    @pytest.mark.parametrize("key", ["a", None])
    def test_after_a_failed_commit(
        self, app: Flask, db: MemoryTransaction, key: str | None
    ) -> None:
        """The second call has a transaction of its own, and nothing of the first."""
        protected = idempotent(transaction=db)(writing(db))

        def view() -> Any:
            try:
                return protected()
            except UniqueViolation:
                return protected()

        app.add_url_rule("/", "view", view, methods=["POST"])
        name = "commit" if key else "commit without answer"
        db.before[name].append(raising(UniqueViolation()))
        assert post(app, key).text == "run 2"
        assert db.rows == ["row"]
        if key:
            assert post(app, key).text == "run 2"
