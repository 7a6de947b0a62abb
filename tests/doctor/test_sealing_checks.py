"""The doctor's checks of sealed records."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_idempotent._record_header import VERSION
from flask_idempotent.doctor import diagnose, sealing_checks
from flask_idempotent.doctor.findings import Finding
from flask_idempotent.policy import protected_routes
from flask_idempotent.record_format import encode
from flask_idempotent.sealing import Sealer, secret_fingerprint
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.factory import open_store
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.state import state_of
from tests.conftest import MakeApp
from tests.stores.harness import HOUR, answer
from tests.support.redis_servers import Server
from tests.support.transactions import MemoryTransaction

NEW, OLD = "the newest secret", "the older secrets"
NEW_SHOWN, OLD_SHOWN = secret_fingerprint(NEW.encode()), secret_fingerprint(OLD.encode())
#: A server that does not answer.
DEAD = open_store("redis://127.0.0.1:1", "tests")


def shop(make_app: MakeApp, *secrets: str | None, **overrides: Any) -> Flask:
    app = make_app(config={"IDEMPOTENT_SECRETS": secrets}, methods=["POST"], **overrides)
    app.add_url_rule("/orders", view_func=lambda: "", endpoint="orders", methods=["POST"])
    return app


def examined(app: Flask, store: Store = DEAD) -> list[Finding]:
    routes = list(protected_routes(app))
    return list(sealing_checks.examine(store, state_of(app).settings(), routes))


class TestSeals:
    def test_not_sealed(self, make_app: MakeApp) -> None:
        """Without secrets a note says who can read what."""
        (finding,) = examined(shop(make_app))
        assert (finding.level, finding.check) == ("note", "sealing")
        assert "can read the responses" in finding.text

    def test_memory(self, make_app: MakeApp) -> None:
        """Of memory:// nothing is said: its records are in the process alone."""
        assert examined(shop(make_app, NEW), MemoryStore()) == []

    def test_sealed(self, make_app: MakeApp) -> None:
        """The fingerprint of the secret that seals is said, and of those that open too."""
        (one,) = examined(shop(make_app, NEW))
        assert (one.level, one.text) == ("ok", f"Records are sealed with the secret {NEW_SHOWN}.")
        (two,) = examined(shop(make_app, NEW, OLD))
        assert two.text.endswith(f"{NEW_SHOWN}; those sealed with {OLD_SHOWN} can be read.")
        assert NEW not in one.text + two.text

    def test_first_deploy(self, make_app: MakeApp) -> None:
        """With None as the first secret records are not sealed yet."""
        (finding,) = examined(shop(make_app, None, NEW))
        assert finding.level == "note"
        assert f"not sealed yet; those sealed with {NEW_SHOWN} can be read" in finding.text

    def test_second_deploy(self, make_app: MakeApp) -> None:
        """With None among them records without a seal are accepted, and how long that is needed
        follows from the longest time that a record is kept."""
        _, finding = examined(shop(make_app, NEW, None, expire=600))
        assert finding.level == "note"
        assert "anybody who can write to the store" in finding.text
        assert "10 minutes after" in finding.fix
        _, finding = examined(shop(make_app, NEW, None, on_crash="hold"))
        assert "7 days after" in finding.fix

    def test_rows(self, make_app: MakeApp) -> None:
        """A transaction whose answers are not sealed beside sealed records is a note."""
        transaction = MemoryTransaction()
        _, finding = examined(shop(make_app, NEW, transaction=transaction))
        assert "are not. This applies to every" in finding.text
        transaction.sealed = True
        (finding,) = examined(shop(make_app, NEW, transaction=transaction))
        assert finding.level == "ok"
        (finding,) = examined(shop(make_app, transaction=MemoryTransaction()))
        assert "are not sealed:" in finding.text


class TestUnreadable:
    def test_retired_secret(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """Records of a secret that was removed too early are counted, with the reason."""
        store = open_store(clean_valkey.url, "tests")
        old, new = (store.sealed_with(Sealer((s.encode(),))) for s in (OLD, NEW))
        old.complete("IDEMPOTENT_{a}", answer(), ttl_ms=HOUR)
        new.complete("IDEMPOTENT_{b}", answer(), ttl_ms=HOUR)
        app = shop(make_app, NEW)
        _, finding = examined(app, new)
        assert (finding.level, finding.check) == ("warning", "unreadable")
        assert "1 of 2 records cannot be read" in finding.text
        assert "IDEMPOTENT_{a}, record is sealed, and no secret" in finding.text
        assert [f.level for f in examined(shop(make_app, NEW, OLD), old)] == ["ok", "warning"]
        assert len(examined(app, store.sealed_with(Sealer((NEW.encode(), OLD.encode()))))) == 1
        store.close()

    def test_newer_release(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """Where the version of a record is unknown, the advice is to go on with the deployment."""
        newer = bytes([VERSION + 1]) + encode(answer())[1:]
        clean_valkey.client.set("IDEMPOTENT_{a}", newer)
        store = open_store(clean_valkey.url, "tests")
        _, finding = examined(shop(make_app, NEW), store)
        assert f"record version {VERSION + 1} is unknown" in finding.text
        assert "a newer release" in finding.fix
        store.close()

    def test_part_of_the_doctor(self, make_app: MakeApp) -> None:
        """The doctor makes these checks."""
        app = shop(make_app, NEW)
        with state_of(app).using_store(DEAD):
            assert "sealing" in {finding.check for finding in diagnose(app)}
