"""Options: their names, and errors for names that are almost theirs."""

from __future__ import annotations

import inspect
import re

import pytest
from werkzeug.wrappers import Response

from flask_idempotent.errors import SettingsError
from flask_idempotent.options import KEYWORDS, OPTIONS, Overrides, check_overrides, default_store_if
from flask_idempotent.settings import resolve


class TestAddress:
    def test_shared_name(self) -> None:
        """REDIS_URL, which other extensions read too, counts where our own name is not set."""
        assert resolve({"REDIS_URL": "memory://"}).redis_url == "memory://"

    def test_our_own_name_wins(self) -> None:
        """IDEMPOTENT_REDIS_URL wins over REDIS_URL, even over a wrong one."""
        config = {"IDEMPOTENT_REDIS_URL": "memory://", "REDIS_URL": None}
        assert resolve(config).redis_url == "memory://"

    @pytest.mark.parametrize("name", ["REDIS_URL", "IDEMPOTENT_REDIS_URL"])
    def test_error_names_the_one_that_is_set(self, name: str) -> None:
        """An error names the one that the config has."""
        with pytest.raises(SettingsError, match=rf"\A{name} must be"):
            resolve({name: 5})


class TestOverrides:
    @pytest.mark.parametrize("name", sorted(KEYWORDS))
    def test_documented_default(self, name: str) -> None:
        """Each keyword has a documentation comment that ends with the option's default."""
        source = inspect.getsource(Overrides)
        comment = re.search(rf"((?:^ +#:.*\n)+) +{name}: ", source, re.MULTILINE)
        assert comment is not None
        documentation = re.sub(r"\s*#: ", " ", comment[1])
        (option,) = [option for option in OPTIONS if option.name == name]
        default = {(): "none", default_store_if: "``default_store_if``"}.get(option.default)
        if default is None:
            is_text = isinstance(option.default, str)
            default = f'``"{option.default}"``' if is_text else str(option.default)
        assert re.search(rf" Default: {re.escape(default)}[.,]", documentation)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            pytest.param("IDEMPOTENT_EXPIRES", "IDEMPOTENT_EXPIRE", id="plural"),
            pytest.param("IDEMPOTENT_TIME_OUT", "IDEMPOTENT_TIMEOUT", id="spelling"),
            pytest.param("IDEMPOTENT_HEADER", "IDEMPOTENT_HEADERS", id="singular"),
            pytest.param("IDEMPOTENT_URL", "IDEMPOTENT_REDIS_URL", id="part"),
            pytest.param("IDEMPOTENT_DEPARTMENT", "Known names: .*IDEMPOTENT_EXPIRE", id="far"),
            pytest.param("IDEMPOTENCY_EXPIRE", "IDEMPOTENT_EXPIRE", id="idempotency"),
            pytest.param("IDEMPOTENCY_REDIS_URL", "IDEMPOTENT_REDIS_URL", id="idempotency-url"),
            pytest.param("IDEMPOTANT_LEASES", "IDEMPOTENT_LEASE", id="idempotant"),
        ],
    )
    def test_unknown_config(self, name: str, nearest: str) -> None:
        """An unknown name that looks like ours is an error that names the nearest known one."""
        with pytest.raises(SettingsError, match=f"{name} is not a setting.*{nearest}"):
            resolve({name: 5})

    @pytest.mark.parametrize("name", ["IDEMPOTENCY_DEPARTMENT", "EXPIRE", "MY_IDEMPOTENT_EXPIRE"])
    def test_others_names(self, name: str) -> None:
        """A name that does not look like ours is ignored."""
        assert resolve({name: 5}) == resolve({})

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            pytest.param("expires", "expire", id="plural"),
            pytest.param("time_out", "timeout", id="spelling"),
            pytest.param("max_waiters", "", id="config-only"),
            pytest.param("redis_url", "", id="address"),
            pytest.param("prefix", "", id="prefix"),
        ],
    )
    def test_unknown_keyword(self, name: str, nearest: str) -> None:
        """An unknown keyword is an error that names the nearest known one."""
        with pytest.raises(SettingsError, match=f"{name}= is not a setting.*{nearest}"):
            check_overrides({name: 5})

    def test_nothing_near(self) -> None:
        """Where no known name is near, all are named."""
        with pytest.raises(SettingsError, match=r"Known names: busy_status, .*transaction\."):
            check_overrides({"zzz": 5})


class TestDefaultStoreIf:
    @pytest.mark.parametrize(
        ("status", "kept"),
        [
            (200, True), (201, True), (204, True), (303, True), (400, True), (404, True),
            (409, True), (422, True), (451, True), (499, True),
            (401, False), (403, False), (407, False), (408, False), (425, False), (429, False),
            (500, False), (503, False), (599, False),
        ],
    )  # fmt: skip
    def test_c4_w6_by_status(self, status: int, kept: bool) -> None:
        """C4, W6: a status below 500 is kept unless it asks for another try."""
        assert default_store_if(Response(status=status)) is kept
