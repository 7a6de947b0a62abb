"""Sealed rows: what the database has of an answer, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from flask_idempotent import SettingsError, idempotent
from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction
from flask_idempotent.engine.transactions import commit_answer
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.records import CompressedBody
from flask_idempotent.sealing import Sealer
from flask_idempotent.settings import resolve
from tests.conftest import MakeApp
from tests.contrib.sqlalchemy.shops import KEY, OURS, THEIRS, Shop, answer, on_sqlite
from tests.support.clients import post, problem

NEW, OLD = b"the newest secret", b"the older secrets"
WORDS = (b"a body", b"/orders/1", b"an_endpoint", b"POST", b"thanks", b"201")
OURS_WITH_SESSION = answer(body=b"a body", session=b"thanks", endpoint="an_endpoint")


def transaction(shop: Shop, *secrets: bytes | None, sealed: bool = True) -> SQLAlchemyTransaction:
    """The shop's transaction, as an application with these secrets has it."""
    metadata = shop.transaction.table.metadata
    own = SQLAlchemyTransaction(shop.session, metadata=metadata, sealed=sealed)
    return own.sealed_with(Sealer(secrets)) if secrets else own


def change(shop: Shop, column: str, value: object) -> None:
    with shop.engine.begin() as connection:
        update = text(f"UPDATE idempotent_answers SET {column} = :value")
        connection.execute(update, {"value": value})


class TestRow:
    def test_round_trip(self, shop: Shop) -> None:
        """A sealed row is read as it was written, the answer of a run without a store too."""
        sealing = transaction(shop, NEW)
        wanted = answer(body=b"a body", session=b"thanks", attempt=0)
        sealing.commit(wanted)
        stored = sealing.look_up(KEY)
        assert stored is not None
        assert stored.record == wanted.record._replace(attempt=1)
        assert stored.ttl_ms > 50_000

    @pytest.mark.parametrize("database", ["sqlite"], indirect=True)
    def test_file(self, shop: Shop, tmp_path: Path) -> None:
        """The database's file has nothing of a sealed response, and all of one without a seal."""

        def words() -> list[bytes]:
            content = b"".join(path.read_bytes() for path in tmp_path.glob("*") if path.is_file())
            return [word for word in WORDS if word in content]

        transaction(shop, NEW).commit(OURS_WITH_SESSION)
        assert words() == []
        other = OURS_WITH_SESSION._replace(storage_key=KEY + "2")
        transaction(shop, NEW, sealed=False).commit(other)
        assert words() == list(WORDS)

    @on_sqlite
    def test_compressed(self, shop: Shop) -> None:
        """A response whose commit seemed to fail is known again, compressed or not."""
        sealing, body = transaction(shop, NEW), b"a body " * 100
        wanted = answer(body=body, compress=True)
        sealing.commit(wanted)
        stored = sealing.look_up(KEY)
        assert stored is not None
        assert stored.record.body == body
        assert commit_answer(sealing, wanted) is wanted
        again = stored.record._replace(body=CompressedBody(b"", 0), owner=THEIRS)
        assert commit_answer(sealing, wanted._replace(record=again)).record.owner == OURS


@on_sqlite
class TestUnreadable:
    def test_moved(self, shop: Shop) -> None:
        """A row that was moved to another key cannot be read."""
        sealing = transaction(shop, NEW)
        sealing.commit(OURS_WITH_SESSION)
        change(shop, "storage_key", KEY + "2")
        with pytest.raises(RecordUnreadable, match="no secret"):
            sealing.look_up(KEY + "2")

    @pytest.mark.parametrize(
        ("column", "value"), [("owner", THEIRS), ("fingerprint", THEIRS), ("body", b"\x01c")]
    )
    def test_changed(self, shop: Shop, column: str, value: bytes) -> None:
        """A sealed row with another owner, fingerprint or body cannot be read."""
        sealing = transaction(shop, NEW)
        sealing.commit(OURS_WITH_SESSION)
        change(shop, column, value)
        with pytest.raises(RecordUnreadable):
            sealing.look_up(KEY)

    def test_downgrade(self, shop: Shop) -> None:
        """A row without a seal is read only where None is a secret, or rows are not sealed."""
        shop.transaction.commit(OURS_WITH_SESSION)
        with pytest.raises(RecordUnreadable, match="is not sealed"):
            transaction(shop, NEW).look_up(KEY)
        for accepting in transaction(shop, NEW, None), transaction(shop, NEW, sealed=False):
            assert accepting.look_up(KEY) is not None

    def test_retired(self, shop: Shop) -> None:
        """A row of a secret that is not listed cannot be read; without secrets none can."""
        transaction(shop, OLD).commit(OURS_WITH_SESSION)
        assert transaction(shop, NEW, OLD).look_up(KEY) is not None
        # Where rows are not sealed any more, those that are can still be read.
        assert transaction(shop, OLD, sealed=False).look_up(KEY) is not None
        with pytest.raises(RecordUnreadable, match="no secret"):
            transaction(shop, NEW).look_up(KEY)
        with pytest.raises(RecordUnreadable, match="IDEMPOTENT_SECRETS is not set"):
            shop.transaction.look_up(KEY)

    def test_first_deploy(self, shop: Shop) -> None:
        """With None as the first secret a row is written without a seal."""
        transaction(shop, None, NEW).commit(OURS_WITH_SESSION)
        assert shop.transaction.look_up(KEY) is not None


@on_sqlite
class TestApplication:
    def test_replay(self, shop: Shop, make_app: MakeApp) -> None:
        """A view's answer is sealed with the application's secrets, and replayed from the row when
        the store has lost it."""
        own = transaction(shop)
        app = make_app(config={"IDEMPOTENT_SECRETS": (NEW,)}, wide=False)

        @app.post("/")
        @idempotent(transaction=own)
        def view() -> str:
            shop.write("lamp")
            return "a body"

        assert post(app).text == "a body"
        store = app.extensions["idempotent"].engine.store
        store.delete(list(store.scan("")))
        assert post(app).headers["Idempotent-Replayed"] == "true"
        assert shop.products() == ["lamp"]
        change(shop, "body", b"damaged")
        store.delete(list(store.scan("")))
        assert problem(post(app)) == (503, "record-unreadable")
        assert shop.products() == ["lamp"]

    def test_needs_secrets(self, shop: Shop) -> None:
        """sealed=True without secrets is an error."""
        with pytest.raises(SettingsError, match="sealed=True, which needs IDEMPOTENT_SECRETS"):
            resolve({}, {"transaction": transaction(shop)})

    def test_one_for_all_views(self, shop: Shop) -> None:
        """All views of an application get one transaction, so that operators see it once."""
        config, keywords = {"IDEMPOTENT_SECRETS": (NEW,)}, {"transaction": transaction(shop)}
        one, other = resolve(config, keywords), resolve(config, keywords)
        assert one.transaction is other.transaction is not keywords["transaction"]
