"""The extension: setting it up, its hooks, its settings and what it takes as a store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from flask_idempotent import Idempotent, SettingsError, idempotent
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.state import EXTENSION_KEY, state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.faulty_store import Clock
from tests.support.redis_servers import Server
from tests.support.views import add_view


class TestInitApp:
    def test_factory(self, make_app: MakeApp) -> None:
        """The extension is made first and set up later, in a factory."""
        extension = Idempotent(expire=60)

        def create_app() -> Flask:
            app = make_app(wide=False)
            extension.init_app(app)
            add_view(app)
            return app

        one, two = create_app(), create_app()
        assert [post(app).text for app in (one, two, one, two)] == ["run 1"] * 4
        assert "Idempotent-Replayed" in post(two).headers

    @pytest.mark.parametrize("again", [True, False], ids=["the same", "another"])
    def test_twice_is_an_error(self, make_app: MakeApp, again: bool) -> None:
        """A second set-up of one application is a clear error."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        with pytest.raises(SettingsError, match="already set up on the application 'tests'"):
            (extension if again else Idempotent()).init_app(app)

    def test_after_somebody_asked(self, make_app: MakeApp) -> None:
        """A decorated application that nobody has served yet may get the extension."""
        app = make_app(wide=False)
        add_view(app)
        former = state_of(app)
        Idempotent(app, expire=60)
        assert state_of(app) is not former
        assert [post(app).text for _ in "12"] == ["run 1", "run 1"]

    def test_too_late(self, make_app: MakeApp) -> None:
        """After the first request to a decorated view it is too late."""
        app = make_app(wide=False)
        app.add_url_rule("/", "view", idempotent(lambda: "ran"), methods=["POST"])
        post(app)
        with pytest.raises(SettingsError, match="too late for the application 'tests'"):
            Idempotent(app)

    def test_keeps_no_application(self, make_app: MakeApp) -> None:
        """State lives in the application, not on the extension."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        assert EXTENSION_KEY in app.extensions
        assert app not in vars(extension).values()

    def test_one_extension_two_apps(self, make_app: MakeApp) -> None:
        """Two applications with one extension share its store and no record."""
        store = MemoryStore()
        extension = Idempotent(store=store)
        apps = [make_app(wide=False, name=name) for name in ("one", "two")]
        for app in apps:
            extension.init_app(app)
            add_view(app)
            post(app)
            assert post(app).text == "run 1"
        assert len(list(store.scan("IDEMPOTENT_"))) == 2

    def test_memory_stores_are_private(self, make_app: MakeApp) -> None:
        """Two applications never share a ``memory://`` store, not even of one name."""
        apps = [make_app(), make_app()]
        for app in apps:
            add_view(app)
            assert "Idempotent-Replayed" not in post(app).headers

    def test_nothing_connects_before_the_first_key(self, make_app: MakeApp) -> None:
        """Set-up and requests without a key open no store."""
        app = make_app(config={"REDIS_URL": "redis://127.0.0.1:1/0"})
        add_view(app)
        assert post(app, None).text == "run 1"
        assert not app.extensions[EXTENSION_KEY].has_engine


class TestNamespace:
    def test_applications_of_one_namespace_share_keys(self, make_app: MakeApp) -> None:
        """Keys belong to the namespace, so an application may be renamed."""
        store = MemoryStore()
        config = {"IDEMPOTENT_NAMESPACE": "shop"}
        apps = [make_app(store=store, config=config, name=name) for name in ("old", "new")]
        for app in apps:
            add_view(app)
        assert "Idempotent-Replayed" not in post(apps[0]).headers
        assert "Idempotent-Replayed" in post(apps[1]).headers

    @pytest.mark.parametrize(
        ("name", "namespace", "replayed"),
        [("shop", None, True), ("other", None, False), ("shop", "blue", False)],
    )
    def test_default_is_the_name(
        self, make_app: MakeApp, name: str, namespace: str | None, replayed: bool
    ) -> None:
        """Without one, keys belong to the application's name; with another they are new."""
        store = MemoryStore()
        first = make_app(store=store, name="shop")
        second = make_app(store=store, name=name, config={"IDEMPOTENT_NAMESPACE": namespace})
        for app in (first, second):
            add_view(app)
        post(first)
        assert ("Idempotent-Replayed" in post(second).headers) is replayed


class TestSettings:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"IDEMPOTENT_EXPRIE": 5}, "IDEMPOTENT_EXPRIE .* Did you mean IDEMPOTENT_EXPIRE"),
            ({"IDEMPOTENT_EXPIRE": -1}, "IDEMPOTENT_EXPIRE must be more than 0"),
            ({"IDEMPOTENT_TIMEOUT": "60"}, "IDEMPOTENT_TIMEOUT must be a number"),
            ({"IDEMPOTENT_ON_CRASH": "wait"}, "IDEMPOTENT_ON_CRASH must be 'rerun', 'hold' or a"),
            ({"IDEMPOTENT_HEADERS": "X-Key"}, "IDEMPOTENT_HEADERS must be a tuple"),
            ({"IDEMPOTENT_MAX_BODY": 1.5}, "IDEMPOTENT_MAX_BODY must be an integer"),
            ({"IDEMPOTENT_MAX_WAITERS": -1}, "IDEMPOTENT_MAX_WAITERS must be an integer"),
            ({"REDIS_URL": "http://localhost"}, "REDIS_URL must begin with"),
            ({"REDIS_URL": None}, "REDIS_URL must be"),
            ({"IDEMPOTENT_REDIS_URL": "http://host"}, "IDEMPOTENT_REDIS_URL must begin with"),
            ({"IDEMPOTENCY_EXPIRE": 5}, "IDEMPOTENCY_EXPIRE .* Did you mean IDEMPOTENT_EXPIRE"),
        ],
    )
    def test_wrong_config(self, make_app: MakeApp, config: dict[str, Any], message: str) -> None:
        """A wrong setting in the config fails at start, and is named."""
        with pytest.raises(SettingsError, match=message):
            make_app(config=config)

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ({"leese": 5}, "leese= is not a setting. Did you mean lease"),
            ({"lease": 0}, "lease= must be more than 0"),
            ({"required": 1}, "required= must be True or False"),
            ({"store_if": None}, "store_if= must be a function"),
        ],
    )
    def test_wrong_keyword(self, overrides: dict[str, Any], message: str) -> None:
        """A wrong keyword fails before there is an application, and is named."""
        with pytest.raises(SettingsError, match=message):
            Idempotent(**overrides)

    def test_password_stays_out_of_the_error(self, make_app: MakeApp) -> None:
        """An address that cannot be used is named without its password."""
        with pytest.raises(SettingsError) as caught:
            make_app(config={"REDIS_URL": "http://user:hush@localhost"})
        assert "hush" not in str(caught.value)

    def test_order(self, make_app: MakeApp) -> None:
        """Keyword of the extension, then config, then default."""
        clock = Clock()
        for config, overrides, expire in (
            ({}, {}, 240),
            ({"IDEMPOTENT_EXPIRE": 100}, {}, 100),
            ({"IDEMPOTENT_EXPIRE": 100}, {"expire": timedelta(seconds=10)}, 10),
        ):
            app = make_app(store=MemoryStore(clock), config=config, **overrides)
            add_view(app)
            post(app)
            clock.now += expire - 0.1
            assert post(app).text == "run 1"
            clock.now += 0.2
            assert post(app).text == "run 2"

    def test_config_after_set_up(self, make_app: MakeApp) -> None:
        """What the config gets before the first request counts, as it did in the original."""
        app = make_app()
        app.config["IDEMPOTENT_REQUIRED"] = True
        app.config["IDEMPOTENT_PROBLEM_BASE"] = "https://example.org/problems:"
        add_view(app)
        answer = post(app, None)
        assert problem(answer) == (400, "key-missing")
        assert answer.json is not None
        assert answer.json["type"] == "https://example.org/problems:key-missing"

    def test_replay_header(self, make_app: MakeApp) -> None:
        """R2: the name of the header that marks a replay is a setting."""
        app = make_app(config={"IDEMPOTENT_REPLAY_HEADER": "X-Again"})
        add_view(app)
        assert ["X-Again" in post(app).headers for _ in range(2)] == [False, True]

    def test_prefix(self, make_app: MakeApp, clean_valkey: Server) -> None:
        """Records begin with IDEMPOTENT_PREFIX, have a hash tag, and a time to live (C5)."""
        app = make_app(
            config={"REDIS_URL": clean_valkey.url, "IDEMPOTENT_PREFIX": "shop:"}, expire=100
        )
        add_view(app)
        post(app, "client-key")
        keys: Any = clean_valkey.client.keys()
        (name,) = (key.decode() for key in keys)
        assert name.startswith("shop:{")
        assert name.endswith("}")
        assert "client-key" not in name
        assert 95 < clean_valkey.client.ttl(name) <= 100


class TestReleasedNames:
    @pytest.mark.parametrize("name", ["response_serializer", "response_unserializer"])
    def test_serializers_are_gone(self, name: str) -> None:
        """The original's hooks that carried pickle say what has become of them."""
        with pytest.raises(SettingsError, match=r"are gone: .* never pickled"):
            getattr(Idempotent(), name)(lambda response: response)
