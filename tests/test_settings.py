"""Settings: what is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent._http_semantics import UNTRACKED_METHODS
from flask_idempotent.errors import SettingsError
from flask_idempotent.options import check_overrides
from flask_idempotent.settings import milliseconds, resolve
from tests.support.transactions import MemoryTransaction


def decide(*_: object) -> Any:
    """A function that a setting may take."""


orders_db = MemoryTransaction()


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
            ({"on_crash": decide}, 7 * 24 * 3_600_000),
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
        [("rerun", True, False), ("hold", False, False), (decide, True, True)],
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
            {"key": decide},
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
