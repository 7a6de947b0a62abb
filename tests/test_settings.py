"""Settings: defaults, order of precedence, and what is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent._http_semantics import UNTRACKED_METHODS
from flask_idempotent.errors import SettingsError
from flask_idempotent.options import OPTIONS, Overrides, check_overrides, default_store_if
from flask_idempotent.settings import milliseconds, resolve
from tests.support.transactions import MemoryTransaction

KEYWORDS = set(Overrides.__annotations__)
CONFIG = {option.name: option.config for option in OPTIONS}


def first(*_: object) -> Any:
    """A function that a setting may take."""


def second(*_: object) -> Any:
    """Another one."""


def third(*_: object) -> Any:
    """And another."""


orders_db, other_db = MemoryTransaction(), MemoryTransaction()


# Name, the default in its final form, and three values to tell apart: as given and as resolved.
Row = tuple[str, object, tuple[object, object, object], tuple[object, object, object]]


def same(name: str, default: object, *values: object) -> Row:
    one, two, three = values
    return (name, default, (one, two, three), (one, two, three))


TABLE: list[Row] = [
    same("redis_url", "redis://localhost:6379/0", "memory://", "embedded://", "redis://b"),
    same("timeout", 60.0, 1, 0, 2.5),
    same("expire", 240.0, 1, 0.5, 2.5),
    same("lease", 30.0, 1, 0.5, 2.5),
    same("on_crash", "rerun", "hold", "rerun", first),
    same("hold_for", 7 * 24 * 3600.0, 1, 0.5, 2.5),
    same("required", False, True, False, True),
    (
        "methods",
        None,
        (["post"], ("PUT", "PATCH"), {"delete"}),
        (frozenset({"POST"}), frozenset({"PUT", "PATCH"}), frozenset({"DELETE"})),
    ),
    (
        "headers",
        ("Idempotency-Key", "X-Idempotent-Key"),
        (["A"], ("B", "C"), ("D",)),
        (("A",), ("B", "C"), ("D",)),
    ),
    same("field", "__idempotent_key", "one", None, "three"),
    same("strict_keys", False, True, False, True),
    same("browser_keys", False, True, False, True),
    same("key_max_length", 255, 1, 64, 1000),
    same("key", None, first, second, third),
    same("scope", None, first, second, third),
    (
        "scope_headers",
        frozenset({"authorization", "x-api-key"}),
        (["X-Tenant"], (), {"Authorization"}),
        (frozenset({"x-tenant"}), frozenset(), frozenset({"authorization"})),
    ),
    same("fingerprint", None, first, False, third),
    (
        "ignore_fields",
        frozenset(),
        (["a"], (), {"b", "c"}),
        (frozenset("a"), frozenset(), frozenset("bc")),
    ),
    same("store_if", default_store_if, first, second, third),
    (
        "dont_keep",
        frozenset(),
        ([404], (), {409, 410}),
        (frozenset({404}), frozenset(), frozenset({409, 410})),
    ),
    (
        "correctable",
        frozenset({400, 413, 415, 422}),
        ((409,), False, True),
        (frozenset({409}), frozenset(), frozenset({400, 413, 415, 422})),
    ),
    same("max_run", None, 1, None, 2.5),
    same("max_body", 1024 * 1024, 0, 1, 2),
    same("compress", None, 0, 1, 2),
    (
        "drop_headers",
        frozenset(),
        (["X-A"], (), ("X-B",)),
        (frozenset({"x-a"}), frozenset(), frozenset({"x-b"})),
    ),
    (
        "keep_headers",
        frozenset(),
        (["Set-Cookie"], (), ("Age",)),
        (frozenset({"set-cookie"}), frozenset(), frozenset({"age"})),
    ),
    same("replay_header", "Idempotent-Replayed", "X-Replay", "A", "B"),
    same("on_store_error", "reject", "run", "reject", "run"),
    same("min_replicas", 0, 1, 0, 2),
    same("transaction", None, orders_db, None, other_db),
    same("max_waiters", None, 0, None, 5),
    same("problem_base", "urn:flask-idempotent:problem:", "https://a/", "b", "c"),
    same("prefix", "IDEMPOTENT_", "A_", "B_", "C_"),
    same("namespace", None, "shop", None, "other"),
    same("linger", 5.0, 0, 2.5, 30),
]
ROWS = [pytest.param(*row, id=row[0]) for row in TABLE]
WITH_CONFIG = [pytest.param(*row, id=row[0]) for row in TABLE if CONFIG[row[0]]]
WITH_KEYWORD = [pytest.param(*row, id=row[0]) for row in TABLE if row[0] in KEYWORDS]


def config_of(name: str, value: object) -> dict[str, object]:
    config = CONFIG[name]
    return {config: value} if config else {}


class TestPrecedence:
    def test_table_is_complete(self) -> None:
        """Each option of the package is in the table of these tests."""
        assert [row[0] for row in TABLE] == [option.name for option in OPTIONS]

    @pytest.mark.parametrize(("name", "default", "given", "final"), ROWS)
    def test_default(self, name: str, default: object, given: object, final: object) -> None:
        """Without a value the documented default is used."""
        assert getattr(resolve({}), name) == default
        assert getattr(resolve({}, {}, {}), name) == default

    @pytest.mark.parametrize(("name", "default", "given", "final"), WITH_CONFIG)
    def test_config_wins_over_default(
        self, name: str, default: object, given: list[object], final: list[object]
    ) -> None:
        """The application's config wins over the default."""
        for value, expected in zip(given, final, strict=True):
            assert getattr(resolve({CONFIG[name]: value}), name) == expected

    @pytest.mark.parametrize(("name", "default", "given", "final"), WITH_KEYWORD)
    def test_extension_wins_over_config(
        self, name: str, default: object, given: list[object], final: list[object]
    ) -> None:
        """The extension's argument wins over the config, also where it is falsy."""
        settings = resolve(config_of(name, given[0]), {}, {name: given[1]})
        assert getattr(settings, name) == final[1]

    @pytest.mark.parametrize(("name", "default", "given", "final"), WITH_KEYWORD)
    def test_view_wins_over_extension(
        self, name: str, default: object, given: list[object], final: list[object]
    ) -> None:
        """The view's argument wins over the extension's and the config."""
        settings = resolve(config_of(name, given[0]), {name: given[2]}, {name: given[1]})
        assert getattr(settings, name) == final[2]

    def test_an_override_touches_nothing_else(self) -> None:
        """An override changes its own setting and no other."""
        changed = resolve({}, {"expire": 7})
        default = resolve({})
        names = [option.name for option in OPTIONS if option.name != "expire"]
        assert all(getattr(changed, name) == getattr(default, name) for name in names)

    def test_other_config_is_ignored(self) -> None:
        """Config of Flask and of other extensions is ignored."""
        assert resolve({"SECRET_KEY": "x", "EXPIRE": "y", "idempotent_expire": "z"}) == resolve({})

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(timedelta(seconds=90), id="timedelta"),
            pytest.param(90, id="int"),
            pytest.param(90.0, id="float"),
        ],
    )
    @pytest.mark.parametrize("name", ["timeout", "expire", "lease"])
    def test_times(self, name: str, value: object) -> None:
        """A time is a number of seconds or a timedelta, and becomes a float."""
        seconds = getattr(resolve({}, {name: value}), name)
        assert seconds == 90.0
        assert isinstance(seconds, float)

    def test_zero_timeout_is_not_missing(self) -> None:
        """A timeout of 0 is 0, not the default."""
        assert resolve({"IDEMPOTENT_TIMEOUT": 0}).timeout == 0
        assert resolve({"IDEMPOTENT_TIMEOUT": 9}, {"timeout": timedelta(0)}).timeout == 0

    def test_right_keywords_pass(self) -> None:
        """Right keywords pass the check."""
        check_overrides({row[0]: row[2][0] for row in TABLE if row[0] in KEYWORDS})


class TestTracks:
    @pytest.mark.parametrize(
        ("method", "tracked"),
        [
            pytest.param("GET", False, id="W1-get"),
            pytest.param("POST", True, id="W1-post"),
            pytest.param("PUT", True, id="W1-put"),
            pytest.param("PATCH", True, id="W1-patch"),
            pytest.param("DELETE", True, id="W1-delete"),
            pytest.param("PURGE", True, id="W1-unknown-method"),
            pytest.param("HEAD", False, id="W1-head"),
            pytest.param("OPTIONS", False, id="W1-options"),
            pytest.param("TRACE", False, id="W1-trace"),
        ],
    )
    def test_by_default(self, method: str, tracked: bool) -> None:
        """W1: by default all methods are tracked except the safe ones."""
        assert resolve({}).tracks(method) is tracked

    def test_w1_methods_narrow(self) -> None:
        """``methods`` names the only methods that are tracked, in any case."""
        settings = resolve({}, {"methods": {"post", "Patch"}})
        assert settings.tracks("POST")
        assert settings.tracks("PATCH")
        assert not settings.tracks("GET")
        assert not any(settings.tracks(method) for method in UNTRACKED_METHODS)

    def test_w1_methods_widen(self) -> None:
        """``methods`` may name GET, and methods of the IANA registry that few applications know."""
        settings = resolve({}, {"methods": ("get", "MKCALENDAR")})
        assert settings.tracks("GET")
        assert settings.tracks("MKCALENDAR")

    def test_w3_unknown_method(self) -> None:
        """W3: an unknown method is an error that names the nearest known one."""
        with pytest.raises(
            SettingsError, match=r"methods= must name .* PSOT is not one.*mean POST"
        ):
            check_overrides({"methods": ("PATCH", "PSOT")})


class TestRequiresKey:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_w3_of_methods_with_an_effect(self, method: str) -> None:
        """W3: ``required`` asks for a key with POST, PUT, PATCH and DELETE."""
        assert resolve({}, {"required": True}).requires_key(method)
        assert not resolve({}).requires_key(method)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "PURGE"])
    def test_w3_of_no_other(self, method: str) -> None:
        """W3: it asks for none with other methods."""
        assert not resolve({}, {"required": True}).requires_key(method)

    def test_w3_methods_name_others(self) -> None:
        """W3: ``methods`` names the methods with which it asks for one."""
        settings = resolve({}, {"required": True, "methods": ("GET", "PURGE")})
        assert [m for m in ("GET", "PURGE", "POST") if settings.requires_key(m)] == ["GET", "PURGE"]


class TestMilliseconds:
    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [(1.5, 1500), (60, 60_000), (0.0001, 1), (0, 1), (1.0001, 1001), (2.0, 2000)],
    )
    def test_values(self, seconds: float, expected: int) -> None:
        """Milliseconds are whole, rounded up and never less than one."""
        assert milliseconds(seconds) == expected

    @given(st.floats(min_value=0, max_value=100 * 365 * 24 * 3600))
    def test_never_short(self, seconds: float) -> None:
        """No time becomes shorter on its way to the store, nor longer by more than 1 ms."""
        result = milliseconds(seconds)
        assert result >= seconds * 1000
        assert result <= seconds * 1000 + 1


class TestTerms:
    @pytest.mark.parametrize(
        ("expire", "lease", "ttl", "grace"),
        [(240, 30, 240_000, 210_000), (1, 30, 30_000, 0), (0.5, 0.0002, 500, 499)],
    )
    def test_ttl(self, expire: float, lease: float, ttl: int, grace: int) -> None:
        """A record in progress is kept as long as its lease lasts, however soon it expires."""
        engine = resolve({}, {"expire": expire, "lease": lease}).engine
        assert (engine.running_ttl_ms, engine.grace_ms) == (ttl, grace)
        assert engine.expire_ms == milliseconds(expire)

    @pytest.mark.parametrize(
        ("settings", "ttl"),
        [
            ({"on_crash": "hold"}, 7 * 24 * 3_600_000),
            ({"on_crash": first}, 7 * 24 * 3_600_000),
            ({"on_crash": "hold", "hold_for": 0.5}, 240_000),
            ({"on_crash": "hold", "hold_for": 300, "lease": 600}, 600_000),
            ({"on_crash": "rerun", "hold_for": 300}, 240_000),
        ],
    )
    def test_hold_for(self, settings: dict[str, Any], ttl: int) -> None:
        """A record in progress is kept for ``hold_for`` where it may be held, or longer where
        ``expire`` or the lease is; what a release leaves behind is not."""
        engine = resolve({}, settings).engine
        assert (engine.running_ttl_ms, engine.grace_ms) == (ttl, ttl - milliseconds(engine.lease))
        assert engine.tombstone_ttl_ms == max(240_000, milliseconds(engine.lease))

    @pytest.mark.parametrize(
        ("on_crash", "takeover", "decides"),
        [("rerun", True, False), ("hold", False, False), (first, True, True)],
    )
    def test_takeover(self, on_crash: object, takeover: bool, decides: bool) -> None:
        """With "hold" no request takes over after a crash; with a function one does, to decide."""
        engine = resolve({}, {"on_crash": on_crash}).engine
        assert (engine.takeover, engine.decides) == (takeover, decides)


class TestAlwaysInspect:
    @pytest.mark.parametrize(
        "overrides",
        [
            {"required": True},
            {"key": first},
            {"transaction": orders_db},
        ],
    )
    def test_with(self, overrides: dict[str, Any]) -> None:
        """A request without a key matters where one is required, hidden in its body, or where its
        view leaves the commit to the library."""
        assert resolve({}, overrides).always_inspect

    def test_without(self) -> None:
        """A view's transaction=None wins over the extension's, and nothing is inspected."""
        assert not resolve({}, {"transaction": None}, {"transaction": orders_db}).always_inspect


class TestSettings:
    def test_are_frozen(self) -> None:
        """Resolved settings cannot be changed by accident."""
        settings: Any = resolve({})
        change: Callable[[], None] = lambda: setattr(settings, "expire", 5)  # noqa: E731
        with pytest.raises(AttributeError):
            change()
