"""The extension: setting it up, its hooks, its settings and what it takes as a store."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import redis
from flask import Flask, Request, current_app, render_template_string

from flask_idempotent import Idempotent, SettingsError, current_claim, idempotent
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.web.state import EXTENSION_KEY, state_of
from tests.conftest import MakeApp
from tests.support.clients import post, problem, recorded
from tests.support.faulty_store import Clock, FaultyStore
from tests.support.redis_servers import Server


def add_view(app: Flask) -> None:
    """Add a view that answers with the number of its run."""
    runs = count(1)
    app.add_url_rule("/", "view", lambda: f"run {next(runs)}", methods=["POST"])


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
            ({"IDEMPOTENT_ON_CRASH": "wait"}, "IDEMPOTENT_ON_CRASH must be 'rerun' or 'hold'"),
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


class TestKeyFinder:
    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore()

    @pytest.fixture
    def extension(self, store: FaultyStore) -> Idempotent:
        return Idempotent(store=store)

    @pytest.fixture
    def app(self, make_app: MakeApp, extension: Idempotent) -> Flask:
        app = make_app(wide=False)
        extension.init_app(app)
        app.add_url_rule("/", "view", lambda: str(current_claim.key), methods=["POST"])
        return app

    def test_later_is_asked_when_earlier_find_nothing(
        self, app: Flask, extension: Idempotent
    ) -> None:
        """Finders are asked in order, and only where the usual places have no key."""
        asked = []

        @extension.key_finder
        def first(request: Request) -> str | None:
            asked.append("first")
            return request.headers.get("X-First")

        @extension.key_finder
        def second(request: Request) -> str | None:
            asked.append("second")
            return request.headers.get("X-Second")

        assert post(app, None, headers={"X-First": "a", "X-Second": "b"}).text == "a"
        assert post(app, None, headers={"X-Second": "b"}).text == "b"
        assert post(app, "c", headers={"X-Second": "b"}).text == "c"
        assert asked == ["first", "first", "second"]
        assert first.__name__ == "first"

    @pytest.mark.parametrize("found", [None, ""])
    def test_finds_nothing(
        self, app: Flask, extension: Idempotent, store: FaultyStore, found: str | None
    ) -> None:
        """A finder that finds nothing leaves a request without a key."""
        extension.key_finder(lambda request: found)
        assert post(app, None).status_code == 500
        assert store.calls == []

    def test_too_long(self, app: Flask, extension: Idempotent) -> None:
        """K5: a found key that is too long is a 400, and is told."""
        extension.key_finder(lambda request: 256 * "k")
        with recorded(app) as events:
            assert problem(post(app, None)) == (400, "key-invalid")
        assert [(name, data["problem"]) for name, data in events] == [("rejected", "key-invalid")]

    def test_wrong_type(self, app: Flask, extension: Idempotent, store: FaultyStore) -> None:
        """A finder that returns something else fails the request."""
        extension.key_finder(lambda request: 7.5)  # type: ignore[type-var]
        assert post(app, None).status_code == 500
        assert store.calls == []

    def test_key_keyword_replaces_all_places(self, make_app: MakeApp) -> None:
        """``key`` replaces headers, form and query; None is no key."""
        app = make_app(key=lambda request: request.headers.get("X-Own"))
        add_view(app)
        own = {"X-Own": "own"}
        assert [post(app, ",").text for _ in range(2)] == ["run 1", "run 2"]
        assert [post(app, ",", headers=own).text for _ in range(2)] == ["run 3"] * 2


class TestHooks:
    def test_scope(self, make_app: MakeApp) -> None:
        """F6: the function given to ``scope`` says who the key belongs to, over the keyword's."""
        app = make_app(wide=False)
        extension = Idempotent(app, scope=lambda request: "everybody")
        add_view(app)

        @extension.scope
        def account(request: Request) -> str:
            return request.headers["X-Account"]

        answers = [post(app, headers={"X-Account": name}).text for name in ("a", "b", "a")]
        assert answers == ["run 1", "run 2", "run 1"]
        assert account.__name__ == "account"

    def test_fingerprint(self, make_app: MakeApp) -> None:
        """The function given to ``fingerprint`` says what makes two requests the same."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        add_view(app)

        @extension.fingerprint
        def order(request: Request) -> str:
            return str(request.get_json()["order"])

        sent = [{"order": "1", "at": 1}, {"order": "1", "at": 2}, {"order": "2", "at": 1}]
        assert [post(app, json=body).status_code for body in sent] == [200, 200, 422]
        assert order.__name__ == "order"

    def test_no_fingerprint(self, make_app: MakeApp) -> None:
        """``fingerprint=False`` compares nothing but the key."""
        app = make_app(fingerprint=False)
        add_view(app)
        assert [post(app, data=body).text for body in ("a", "b")] == ["run 1"] * 2

    @pytest.mark.parametrize("hook", ["scope", "fingerprint", "key_finder"])
    def test_settings_were_looked_at_before(self, make_app: MakeApp, hook: str) -> None:
        """A hook counts though somebody has asked for the settings before it was registered."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        add_view(app)
        with app.test_request_context("/", method="POST"):
            render_template_string("{{ idempotent_input() }}")
        assert state_of(app).protections.of("view", "POST").settings.scope is None
        getattr(extension, hook)(lambda request: request.headers["X-Own"])
        key = None if hook == "key_finder" else "key-one"
        answers = [post(app, key, headers={"X-Own": own}).text for own in ("a", "b", "a")]
        expected = {"scope": ["run 1", "run 2", "run 1"], "key_finder": ["run 1", "run 2", "run 1"]}
        assert [answers[0], answers[2]] == ["run 1", "run 1"]
        assert answers == expected.get(hook, answers)
        assert hook != "fingerprint" or "key-reused" in answers[1]

    @pytest.mark.parametrize("hook", ["scope", "fingerprint"])
    def test_too_late(self, make_app: MakeApp, hook: str) -> None:
        """After the first request of one of its applications a hook is refused."""
        extension = Idempotent()
        register = getattr(extension, hook)

        def early(request: Request) -> str:
            return request.headers["X-Own"]

        register(early)
        for name in ("one", "two"):
            extension.init_app(app := make_app(wide=False, name=name))
        post(app, None)
        assert register(early) is early
        with pytest.raises(SettingsError, match=rf"{hook} function .* 'two' has served its first"):
            register(lambda request: "late")

    def test_key_finder_late(self, make_app: MakeApp) -> None:
        """A key finder counts from the moment that it is registered."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        add_view(app)
        assert [post(app, None).text for _ in "12"] == ["run 1", "run 2"]
        extension.key_finder(lambda request: "found")
        assert [post(app, None).text for _ in "12"] == ["run 3", "run 3"]

    def test_view_wins(self, make_app: MakeApp) -> None:
        """A keyword of the view wins over the extension's hook."""
        app = make_app(wide=False)
        extension = Idempotent(app)
        runs = count(1)
        view = idempotent(scope=lambda request: None)(lambda: f"run {next(runs)}")
        app.add_url_rule("/", "view", view, methods=["POST"])
        extension.scope(lambda request: request.headers["X-Account"])
        answers = [post(app, headers={"X-Account": name}).text for name in ("a", "b")]
        assert answers == ["run 1", "run 1"]


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


class TestReleasedNames:
    @pytest.mark.parametrize("name", ["response_serializer", "response_unserializer"])
    def test_serializers_are_gone(self, name: str) -> None:
        """The original's hooks that carried pickle say what has become of them."""
        with pytest.raises(SettingsError, match=r"are gone: .* never pickled"):
            getattr(Idempotent(), name)(lambda response: response)
