"""The store that an extension is given, or that its application's address names."""

from __future__ import annotations

import pytest
import redis
from flask import current_app

from flask_idempotent import Idempotent, SettingsError
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.web.state import EXTENSION_KEY, state_of
from tests.conftest import MakeApp
from tests.support.clients import post
from tests.support.redis_servers import Server
from tests.support.views import add_view


class TestStore:
    @pytest.mark.parametrize("decode", [False, True])
    def test_redis_client(self, make_app: MakeApp, server: Server, decode: bool) -> None:
        """A redis-py client serves as the store, one that decodes its replies too."""
        with redis.Redis.from_url(server.url, decode_responses=decode) as client:
            app = make_app(store=client)
            app.add_url_rule("/", "view", lambda: b"\xff\x00", methods=["POST"])
            assert [post(app).data for _ in range(2)] == [b"\xff\x00"] * 2
            assert len(client.keys()) == 1

    def test_redis_client_and_its_database(self, make_app: MakeApp, clean_valkey: Server) -> None:
        """Records go to the client's own database."""
        with redis.Redis(port=clean_valkey.port, db=3) as client:
            app = make_app(store=client)
            add_view(app)
            post(app)
            assert (client.dbsize(), clean_valkey.client.dbsize()) == (1, 0)

    def test_of_one_application(self, make_app: MakeApp) -> None:
        """A store given to ``init_app`` is that application's, before the extension's."""
        general, own = MemoryStore(), MemoryStore()
        extension = Idempotent(store=general)
        apps = [make_app(wide=False), make_app(wide=False)]
        extension.init_app(apps[0])
        extension.init_app(apps[1], store=own)
        for app in apps:
            add_view(app)
            assert "Idempotent-Replayed" not in post(app).headers
        assert state_of(apps[0]).engine.store is general
        assert state_of(apps[1]).engine.store is own

    def test_address_of_ours(self, make_app: MakeApp) -> None:
        """IDEMPOTENT_REDIS_URL says where records live, and REDIS_URL is left to others."""
        app = make_app(wide=False)
        app.config["IDEMPOTENT_REDIS_URL"] = app.config.pop("REDIS_URL")
        Idempotent(app)
        add_view(app)
        assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert "REDIS_URL" not in app.config

    def test_store_object(self, make_app: MakeApp, clean_valkey: Server) -> None:
        """A store of this package serves, and so do two applications over one."""
        store = RedisStore(Client.from_url(clean_valkey.url))
        apps = [make_app(store=store, name="shop") for _ in range(2)]
        for app in apps:
            add_view(app)
        assert "Idempotent-Replayed" not in post(apps[0]).headers
        assert "Idempotent-Replayed" in post(apps[1]).headers

    @pytest.mark.parametrize("wrong", ["memory://", object(), redis.Redis, 7])
    def test_something_else(self, wrong: object) -> None:
        """Anything else fails at start and says what is wanted."""
        with pytest.raises(SettingsError, match=r"store= must be a store .* or a redis.Redis"):
            Idempotent(store=wrong)

    def test_wins_over_the_address(self, make_app: MakeApp) -> None:
        """With ``store=`` the address in the config is not looked at."""
        app = make_app(store=MemoryStore(), config={"REDIS_URL": "nonsense://"})
        add_view(app)
        assert [post(app).text for _ in range(2)] == ["run 1"] * 2

    def test_real_servers(self, make_app: MakeApp, server: Server) -> None:
        """Each real server keeps the response, status and repeated headers included."""
        app = make_app(config={"REDIS_URL": server.url})

        @app.post("/")
        def view() -> tuple[str, int, list[tuple[str, str]]]:
            assert current_app.extensions[EXTENSION_KEY].engine is not None
            return "zoë", 201, [("Link", "a"), ("Link", "b")]

        first, retry = post(app), post(app)
        assert (retry.status, retry.data) == (first.status, first.data)
        assert retry.headers.getlist("Link") == ["a", "b"]
