"""Settings: their defaults, and which value wins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flask_idempotent.options import OPTIONS, Overrides, check_overrides, default_store_if
from flask_idempotent.settings import resolve
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
    same("busy_status", 409, 425, 503, 429),
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
    (
        "replay_session",
        ("_flashes",),
        (["cart"], (), ("_flashes", "cart")),
        (("cart",), (), ("_flashes", "cart")),
    ),
    same("on_store_error", "reject", "run", "reject", "run"),
    same("min_replicas", 0, 1, 0, 2),
    same("transaction", None, orders_db, None, other_db),
    same("max_waiters", None, 0, None, 5),
    same("problem_base", "urn:flask-idempotent:problem:", "https://a/", "b", "c"),
    same("prefix", "IDEMPOTENT_", "A_", "B_", "C_"),
    same("namespace", None, "shop", None, "other"),
    (
        "secrets",
        (),
        ((None, "a" * 16), [b"b" * 16, None], ("c" * 16,)),
        ((None, b"a" * 16), (b"b" * 16, None), (b"c" * 16,)),
    ),
    (
        "name_secret",
        None,
        ("a" * 16, None, b"c" * 16),
        (b"a" * 16, None, b"c" * 16),
    ),
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
