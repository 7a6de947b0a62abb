"""Finding a record by the client's key, or by its storage key."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent.http.keys import storage_key
from flask_idempotent.web.state import state_of
from tests.cli.harness import complete, document, name, run, server_of
from tests.support.clients import post


class TestKey:
    def test_anonymous(self, app: Flask) -> None:
        """Without options a key is looked up in the anonymous scope, quoted or not."""
        post(app, "order-1", "/orders")
        assert document(app, "show", "order-1")["storage_key"] == name("order-1")
        assert document(app, "show", '"order-1"')["status"] == 201

    def test_namespace(self, app: Flask) -> None:
        """A key is looked for in the application's namespace."""
        app.config["IDEMPOTENT_NAMESPACE"] = "shop"
        state_of(app).protections.clear()
        post(app, "k", "/orders")
        data = document(app, "show", "k")
        assert data["storage_key"] == storage_key("IDEMPOTENT_", "shop", None, "k")

    def test_authorization(self, app: Flask) -> None:
        """The header's value is asked for; it is not an argument."""
        sent = "Bearer sécret".encode().decode("latin-1")  # As servers decode headers.
        post(app, "k", "/orders", headers={"Authorization": sent})
        assert run(app, "show", "k").exit_code == 1
        result = run(app, "show", "k", "--scope-header", "Authorization", text="Bearer sécret\n")
        assert "completed" in result.stdout
        assert "cret" not in result.output

    def test_authorization_on_a_terminal(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal the header is typed without being shown."""
        post(app, "k", "/orders", headers={"Authorization": "Bearer secret"})
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        result = run(app, "show", "k", "--scope-header", "Authorization", text="Bearer secret\n")
        assert "completed" in result.stdout
        assert "secret" not in result.output

    def test_several_headers(self, app: Flask) -> None:
        """Each header of the scope is asked for, in the order of the options, in any case."""
        headers = {"Authorization": "Bearer ada", "X-API-Key": "secret"}
        post(app, "k", "/orders", headers=headers)
        arguments = ["--scope-header", "x-api-key", "--scope-header", "authorization"]
        assert "completed" in run(app, "show", "k", *arguments, text="secret\nBearer ada\n").stdout
        other = ["--scope-header", "Authorization", "--scope-header", "X-API-Key"]
        assert run(app, "show", "k", *other, text="secret\nBearer ada\n").exit_code == 1

    def test_header_of_a_setting(self, app: Flask) -> None:
        """The headers are those of the setting; another is refused, with those that there are."""
        app.config["IDEMPOTENT_SCOPE_HEADERS"] = ["X-Tenant"]
        post(app, "k", "/orders", headers={"X-Tenant": "acme", "Authorization": "Bearer ada"})
        assert (
            "completed" in run(app, "show", "k", "--scope-header", "X-Tenant", text="acme\n").stdout
        )
        refused = run(app, "show", "k", "--scope-header", "Authorization", text="Bearer ada\n")
        assert refused.exit_code == 2
        assert "Authorization is not in IDEMPOTENT_SCOPE_HEADERS, which has X-Tenant" in (
            refused.stderr
        )

    @pytest.mark.parametrize(
        ("entry", "option"), [("_user_id", "--user"), ("user_id", "--user-id")]
    )
    def test_signed_in_user(self, app: Flask, entry: str, option: str) -> None:
        """The session's user of the default scope is found by the id: Flask-Login's, or that of
        Flask's tutorial."""
        client = app.test_client()
        with client.session_transaction() as session:
            session[entry] = "7"
        client.post("/orders", headers={"Idempotency-Key": "k"})
        assert document(app, "show", "k", option, "7")["status"] == 201
        missing = run(app, "show", "k", option, "8")
        assert (missing.exit_code, missing.stdout) == (1, "")
        assert "no record of the key 'k' in this scope" in missing.stderr

    def test_scope_function(self, app: Flask) -> None:
        """Of a view with a scope function, the scope's own value is given, text or bytes."""
        post(app, "k", "/tenants", headers={"X-Tenant": "acme"})
        data = document(app, "show", "k", "--path", "/tenants", "--scope", "acme")
        assert data["storage_key"] == name("k", b"acme")

    def test_hint_where_nothing_is_found(self, app: Flask) -> None:
        """If there is no record, the error says how to name another scope."""
        assert "(Authorization, X-Api-Key)" in run(app, "show", "k").stderr
        assert "--scope VALUE" in run(app, "show", "k", "--path", "/tenants").stderr

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--scope", "acme"], "--scope is for views with a scope function"),
            (["--path", "/tenants", "--user", "7"], "--scope-header, --user and"),
            (["--path", "/tenants", "--scope-header", "X-API-Key"], "are for the default scope"),
            (["--storage-key", "--user", "7"], "already includes the scope"),
            (["--storage-key", "--scope-header", "X-API-Key"], "already includes the scope"),
            (["--path", "http://[::"], "'http://[::' is not a path"),
            (["--path", "/none"], "POST /none matches no route: Not Found"),
            (["--path", "/orders", "--method", "put"], "matches no route: Method Not Allowed"),
            (["--path", "/free"], "POST /free is not protected"),
        ],
    )
    def test_options_that_do_not_fit(
        self, app: Flask, arguments: list[str], complaint: str
    ) -> None:
        """Options that make no sense for the view are a usage error that says why."""
        result = run(app, "show", "k", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert complaint in result.stderr

    def test_key_that_no_client_can_send(self, app: Flask) -> None:
        """A quoted key must be one that a header may have."""
        result = run(app, "show", '"open')
        assert result.exit_code == 2
        assert "not a valid String" in result.stderr


class TestStorageKey:
    def test_of_a_log_line(self, app: Flask) -> None:
        """A record is found by its storage key."""
        found = complete(app)
        assert document(app, "show", "--storage-key", found)["storage_key"] == found
        missing = run(app, "show", "--storage-key", name("other"))
        assert missing.exit_code == 1
        assert name("other") in missing.stderr

    @pytest.mark.parametrize("text", ["k", "sessions:1", "OTHER_{" + "a" * 27 + "}"])
    def test_other_names(self, app: Flask, text: str) -> None:
        """Other keys are refused, so that nothing else on the server is touched."""
        server_of(app).set(text, "precious")
        result = run(app, "release", "--storage-key", text, "--yes", "--even", "unreadable")
        assert result.exit_code == 2
        assert "is not a storage key" in result.stderr
