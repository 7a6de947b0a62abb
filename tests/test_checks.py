"""Checks of option values: what is refused, and the words of the errors."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from flask_idempotent._http_semantics import NEVER_KEPT_HEADERS
from flask_idempotent.errors import SettingsError
from flask_idempotent.options import KEYWORDS, OPTIONS, check_overrides
from flask_idempotent.settings import resolve
from tests.support.transactions import MemoryTransaction


class NoTransaction(MemoryTransaction):
    """It lacks a method of a transaction."""

    roll_back = None  # type: ignore[assignment]


SECRET = "a secret of 31 bytes: hunter2 ."

CONFIG = {option.name: option.config for option in OPTIONS}

SECONDS = [True, "60", None, float("nan"), float("inf"), -1, timedelta(seconds=-1), 10**10, 1j]
POSITIVE = [*SECONDS, 0, 0.0, timedelta(0)]
NAMES: list[object] = ["one", b"one", 5, None, [1], [""], {"one": 1}, iter(["one"])]
HEADER_NAMES: list[object] = [*NAMES, ["a b"], ["Schlüssel"], ["a:"], ["a\n"]]

WRONG: dict[str, list[object]] = {
    "redis_url": [None, 5, b"redis://localhost", ""],
    "timeout": [*SECONDS, -0.001],
    "busy_status": [None, True, 200, 409.0, "503", 504, (409,)],
    "expire": POSITIVE,
    "lease": POSITIVE,
    "on_crash": ["crash", "", None, True, ["rerun"]],
    "hold_for": POSITIVE,
    "required": [None, 1, 0, "yes", ""],
    "methods": [
        *filter(None, NAMES),
        [],
        ["HEAD"],
        ["POST", "options"],
        ["trace"],
        ["PSOT"],
        ["CONNECT"],
    ],
    "headers": [*HEADER_NAMES, []],
    "field": [5, b"key", ""],
    "strict_keys": [None, 1, "no"],
    "browser_keys": [None, 1, "no"],
    "key_max_length": [None, 0, -1, True, 1.0, "255", float("inf")],
    "key": ["key", 5, False, ()],
    "scope": ["user", 5, False],
    "scope_headers": HEADER_NAMES,
    "fingerprint": ["body", 5, True, 0],
    "ignore_fields": NAMES,
    "store_if": [None, False, True, 200],
    "dont_keep": [*NAMES, ["404"], [True], [99], [600], 404, {404: True}],
    "correctable": [None, 1, 422, "yes", ["422"], [200], [500], {422: True}],
    "max_run": [value for value in POSITIVE if value is not None],
    "max_body": [None, -1, True, 1.5, "1 MiB"],
    "compress": [-1, True, 1.5, "4 KiB"],
    "drop_headers": [*HEADER_NAMES, ["X-Sendfile"], ["X-A", "x-accel-redirect"]],
    "keep_headers": [*HEADER_NAMES, *([name] for name in sorted(NEVER_KEPT_HEADERS)), ["DATE"]],
    "replay_header": [None, 5, "", "a b", "Ä", "a\r\nb"],
    "replay_session": NAMES,
    "on_store_error": ["ignore", None, False],
    "min_replicas": [None, -1, True, 1.5, "1"],
    "transaction": [True, "db", 5, MemoryTransaction, NoTransaction()],
    "max_waiters": [-1, True, 1.5, "5"],
    "problem_base": [None, 5, ""],
    "prefix": [None, 5, "", b"IDEMPOTENT_"],
    "namespace": [5, "", b"shop"],
    "secrets": [
        None,
        5,
        SECRET,
        SECRET.encode(),
        {SECRET: 1},
        {SECRET},
        [None],
        [None, None, SECRET],
        ["short hunter2"],
        [SECRET, b"hunter2"],
        [5],
        [[SECRET]],
        [True],
        ["ü" * 7],
        [""],
    ],
    "name_secret": [5, True, "", "hunter2", b"hunter2", [SECRET], (SECRET,)],
    "linger": [None, -1, True, "5"],
}


def wrong(names: Iterable[str]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}-{number}-{type(value).__name__}")
        for name in names
        for number, value in enumerate(WRONG[name])
    ]


MESSAGES: list[tuple[dict[str, object], str]] = [
    (
        {"expire": "4 minutes"},
        "expire= must be a number of seconds or a timedelta, not '4 minutes'. "
        "For example: 60 or timedelta(minutes=1)",
    ),
    (
        {"expire": 0},
        "expire= must be more than 0 seconds and at most 100 years, not 0. For example: 60",
    ),
    (
        {"timeout": -1},
        "timeout= must be 0 or more seconds and at most 100 years, not -1. For example: 60",
    ),
    (
        {"busy_status": 423},
        "busy_status= must be 409, 425, 429 or 503, not 423. For example: 503",
    ),
    (
        {"max_run": "1"},
        "max_run= must be a number of seconds or a timedelta, or None, not '1'. "
        "For example: 60 or timedelta(minutes=1)",
    ),
    (
        {"compress": "4 KiB"},
        "compress= must be an integer of at least 0, or None, not '4 KiB'. For example: 100",
    ),
    (
        {"on_crash": "crash"},
        "on_crash= must be 'rerun', 'hold' or a function, not 'crash'. For example: 'rerun'",
    ),
    ({"required": 1}, "required= must be True or False, not 1. For example: True"),
    (
        {"field": ""},
        "field= must be a string that is not empty, or None, not ''. "
        "For example: '__idempotent_key'",
    ),
    (
        {"dont_keep": 404},
        "dont_keep= must be a tuple, list or set of HTTP status codes, not 404. "
        "For example: (409, 410)",
    ),
    (
        {"correctable": (200,)},
        "correctable= must be True, False, or a tuple, list or set of status codes from 400 to "
        "499, not (200,). For example: (400, 422)",
    ),
    (
        {"keep_headers": "ETag"},
        "keep_headers= must be a tuple, list or set of header names, not 'ETag'. "
        "For example: ('X-Request-Id',)",
    ),
    (
        {"keep_headers": ["X-Request-Id", "X Y"]},
        "keep_headers= must name headers, and 'X Y' is not a header name (RFC 9110, 5.1).",
    ),
    (
        {"keep_headers": ["Date"]},
        "keep_headers= must not name date, which belongs to one connection or message and is "
        "written again for each response.",
    ),
    (
        {"drop_headers": ["X-Sendfile"]},
        "drop_headers= must not name x-sendfile, which tells a front server the file to send: "
        "without it a replay has no body.",
    ),
    (
        {"methods": ()},
        "methods= must be a tuple, list or set of at least one HTTP method, or None, not (). "
        "For example: ('POST', 'PATCH')",
    ),
    (
        {"methods": ("POST", "HEAD")},
        "methods= must not name HEAD: no request of HEAD, OPTIONS or TRACE is tracked, because a "
        "replay of its response would be of no use.",
    ),
    (
        {"methods": ("PSOT",)},
        "methods= must name HTTP methods, and PSOT is not one. Did you mean POST?",
    ),
    (
        {"ignore_fields": "captcha"},
        "ignore_fields= must be a tuple, list or set of field names, not 'captcha'. "
        "For example: ('captcha',)",
    ),
    (
        {"replay_session": "cart"},
        "replay_session= must be a tuple, list or set of names of session entries, not 'cart'. "
        "For example: ('_flashes', 'cart')",
    ),
    (
        {"fingerprint": "body"},
        "fingerprint= must be a function, False or None, not 'body'. "
        "For example: lambda request: request.get_data()",
    ),
    (
        {"store_if": None},
        "store_if= must be a function, not None. "
        "For example: lambda response: response.status_code < 500",
    ),
    (
        {"transaction": "db"},
        "transaction= must be a Transaction or None, not 'db'. "
        "For example: SQLAlchemyTransaction(db)",
    ),
]


class TestChecks:
    def test_table_is_complete(self) -> None:
        """Each option of the package has wrong values in the table of these tests."""
        assert list(WRONG) == [option.name for option in OPTIONS]

    @pytest.mark.parametrize("name", [name for name in WRONG if CONFIG[name]])
    def test_wrong_in_config(self, name: str) -> None:
        """A wrong type or range in the config is an error that begins with the config's name."""
        for value in WRONG[name]:
            with pytest.raises(SettingsError, match=rf"\A{CONFIG[name]} must "):
                resolve({CONFIG[name]: value})

    @pytest.mark.parametrize("name", [name for name in WRONG if name in KEYWORDS])
    def test_wrong_in_keyword(self, name: str) -> None:
        """A wrong keyword is an error that begins with its name, before any application exists."""
        for value in WRONG[name]:
            with pytest.raises(SettingsError, match=rf"\A{name}= must "):
                check_overrides({name: value})
            with pytest.raises(SettingsError, match=rf"\A{name}= must "):
                resolve({}, {name: value})

    @pytest.mark.parametrize(("overrides", "message"), MESSAGES)
    def test_message(self, overrides: dict[str, object], message: str) -> None:
        """An error says what was expected and what was given, and has an example."""
        with pytest.raises(SettingsError) as raised:
            check_overrides(overrides)
        assert str(raised.value) == message

    @pytest.mark.parametrize("url", [b"redis://:hunter2@host", ["redis://:hunter2@host"]])
    def test_error_hides_the_address(self, url: object) -> None:
        """A wrong REDIS_URL is not shown, since it may hold a password."""
        with pytest.raises(SettingsError) as raised:
            resolve({"REDIS_URL": url})
        assert "hunter2" not in str(raised.value)

    @pytest.mark.parametrize(("name", "value"), wrong(["secrets", "name_secret"]))
    def test_error_hides_secrets(self, name: str, value: object) -> None:
        """No error about a secret shows any of it, neither in its text nor in its causes."""
        with pytest.raises(SettingsError) as raised:
            resolve({CONFIG[name]: value})
        assert "hunter2" not in repr(raised.value)
        assert raised.value.__cause__ is raised.value.__context__ is None

    def test_secrets(self) -> None:
        """Secrets are strings or bytes, in a tuple or a list, and a repr of settings has none."""
        config = {"IDEMPOTENT_SECRETS": [SECRET, None], "IDEMPOTENT_NAME_SECRET": SECRET}
        settings = resolve(config)
        assert settings.secrets == (SECRET.encode(), None)
        assert settings.name_secret == SECRET.encode()
        assert "hunter2" not in repr(settings)
        assert settings.name_key.hex() not in repr(settings)
        assert resolve({"IDEMPOTENT_SECRETS": ()}).secrets == ()

    def test_short_secret(self) -> None:
        """A secret that is too short is an error that says how to make one, and not what it is."""
        with pytest.raises(SettingsError) as raised:
            resolve({"IDEMPOTENT_SECRETS": (SECRET, "hunter2")})
        assert str(raised.value) == (
            "IDEMPOTENT_SECRETS must have at least 16 bytes in secret 2, not 7. This command makes "
            "one: python -c 'import secrets; print(secrets.token_hex())'"
        )

    def test_error_is_a_value_error(self) -> None:
        """A wrong setting may be caught as a ValueError."""
        with pytest.raises(ValueError, match="IDEMPOTENT_LEASE"):
            resolve({"IDEMPOTENT_LEASE": 0})
