"""Options: everything that can be set, with its name in the config, its default and its check.

``OPTIONS`` is the whole list, and ``Overrides`` says which of them are keywords too.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from uuid import UUID

from flask_idempotent import _checks as checks
from flask_idempotent import _secret_checks as secret_checks
from flask_idempotent._http_semantics import TRY_AGAIN_STATUSES
from flask_idempotent.errors import SettingsError

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from werkzeug.wrappers import Request, Response

    from flask_idempotent.crash import Crash
    from flask_idempotent.engine.transactions import Transaction

#: A time: a number of seconds, or a timedelta.
Seconds = float | timedelta
#: What an application's own key function may return; an int or a UUID stands for its text.
KeyLike = str | int | UUID
#: What an application's own scope function may return.
ScopeLike = str | bytes | int | UUID


#: A function that decides what follows a crash.
Decision = Callable[["Crash"], "ResponseReturnValue | Awaitable[ResponseReturnValue]"]


class Overrides(TypedDict, total=False):
    """The keywords of ``@idempotent``, ``idempotent.protect()`` and ``Idempotent``.

    A keyword wins over the application's config. The settings page says more about each.
    """

    #: How long a duplicate waits for the first request, in seconds or as a timedelta. With 0 it
    #: gets "in-progress" at once. Default: 60.
    timeout: Seconds
    #: The status of "in-progress": 409, 425, 429 or 503. Default: 409.
    busy_status: Literal[409, 425, 429, 503]
    #: How long a response is kept, in seconds or as a timedelta, more than 0. Default: 240.
    expire: Seconds
    #: How long a claim outlives its process, in seconds or as a timedelta, more than 0. It is
    #: renewed while the view runs. Default: 30.
    lease: Seconds
    #: What follows when the process of a claim died: ``"rerun"`` runs the view again, ``"hold"``
    #: answers 409 and does not run it; a function is given the ``Crash`` and returns one of these,
    #: or the response. Default: ``"rerun"``.
    on_crash: Literal["rerun", "hold"] | Decision
    #: How long a claim is held when its process died, under ``on_crash="hold"`` or a function's
    #: word, or in a step with ``once``, in seconds or as a timedelta, more than 0. Default: 604800,
    #: which is seven days.
    hold_for: Seconds
    #: Whether a request without a key gets 400. Default: False.
    required: bool
    #: The methods that are tracked, such as ``("POST", "PATCH")``. Default: None, which means all
    #: but GET, HEAD, OPTIONS and TRACE.
    methods: Collection[str] | None
    #: The form field and query argument that may carry the key; None for headers alone.
    #: Default: ``"__idempotent_key"``.
    field: str | None
    #: A function that is given the request and returns its key or None. It replaces headers, form
    #: and query. Default: None.
    key: Callable[[Request], KeyLike | None] | None
    #: A function that is given the request and returns who the key belongs to, or None for the
    #: scope that all anonymous callers share. Default: None, which means the scope headers and the
    #: user in the session.
    scope: Callable[[Request], ScopeLike | None] | None
    #: A function that is given the request and returns what must be the same in a retry, besides
    #: method and path; False for these two alone. Default: None, which means the whole request.
    fingerprint: Callable[[Request], str | bytes] | Literal[False] | None
    #: Form fields that may differ in a retry, besides ``csrf_token`` and the key's own.
    #: Default: none.
    ignore_fields: Collection[str]
    #: A function that is given the response and returns whether to keep it.
    #: Default: ``default_store_if``.
    store_if: Callable[[Response], bool]
    #: Status codes that are not kept, whatever ``store_if`` returns. Default: none.
    dont_keep: Collection[int]
    #: The stored status codes after which a corrected request may use the key; True for 400, 413,
    #: 415 and 422, False for none. Default: True.
    correctable: bool | Collection[int]
    #: For how long the lease of a view that runs is renewed, in seconds or as a timedelta, more
    #: than 0. Default: None, which means for as long as it runs.
    max_run: Seconds | None
    #: The largest response body that is kept, in bytes. Default: 1048576, which is 1 MiB.
    max_body: int
    #: The size in bytes from which a response body is kept compressed. Default: None, which means
    #: never.
    compress: int | None
    #: Response headers that are not kept, besides those that never suit a replay. Default: none.
    drop_headers: Collection[str]
    #: Response headers that are kept although they are on that list. Default: none.
    keep_headers: Collection[str]
    #: The session entries whose changes a replay repeats, in place of the default; () for none.
    #: Default: ('_flashes',), the messages of ``flask.flash()``.
    replay_session: Collection[str]
    #: What follows when the store fails: ``"reject"`` answers 503, ``"run"`` runs the view without
    #: protection, apart from that of its ``transaction``. Default: ``"reject"``.
    on_store_error: Literal["reject", "run"]
    #: How many of the store's replicas must have a claim before its view runs. Default: 0.
    min_replicas: int
    #: The transaction of the view's own database, such as ``SQLAlchemyTransaction(db)``, which
    #: commits the response together with the view's rows. Default: None, which means that the
    #: library commits nothing.
    transaction: Transaction | None


def default_store_if(response: Response) -> bool:
    """Keep a response unless it asks for another try: the default of ``store_if``.

    A function of your own may build on it:
    ``lambda response: default_store_if(response) and response.status_code != 404``.

    :returns: False for a status of 500 and above, for 408, 425 and 429, and for 401, 403 and 407,
        so that a stranger's refused request does not become the response to the genuine one.
    """
    return response.status_code < 500 and response.status_code not in TRY_AGAIN_STATUSES


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the settings table.

    :param name: the attribute of ``Settings``, and the keyword where there is one.
    :param config: its name in the application's config; None where it has none.
    :param default: the value where nothing is set.
    :param check: turns a value into its final form, or raises ``SettingsError``.
    :param fallback: a name in the config that other extensions read too, for where ``config`` is
        not set.
    """

    name: str
    config: str | None
    default: Any
    check: checks.Check
    fallback: str | None = None

    def name_in(self, config: Mapping[str, Any]) -> str | None:
        """Return the name under which this config has the option, or should have it."""
        if self.fallback in config and self.config not in config:
            return self.fallback
        return self.config


REDIS_URL = Option(
    "redis_url", "IDEMPOTENT_REDIS_URL", "redis://localhost:6379/0", checks.url, "REDIS_URL"
)
#: In the order of the settings table.
OPTIONS = (
    REDIS_URL,
    Option("timeout", "IDEMPOTENT_TIMEOUT", 60, checks.seconds(above_zero=False)),
    Option("busy_status", "IDEMPOTENT_BUSY_STATUS", 409, checks.busy_status),
    Option("expire", "IDEMPOTENT_EXPIRE", 240, checks.seconds(above_zero=True)),
    Option("lease", "IDEMPOTENT_LEASE", 30, checks.seconds(above_zero=True)),
    Option("on_crash", "IDEMPOTENT_ON_CRASH", "rerun", checks.on_crash),
    Option(
        "hold_for", "IDEMPOTENT_HOLD_FOR", 7 * 24 * 3600, checks.seconds(above_zero=True)
    ),
    Option("required", "IDEMPOTENT_REQUIRED", False, checks.boolean),
    Option("methods", "IDEMPOTENT_METHODS", None, checks.methods),
    Option(
        "headers", "IDEMPOTENT_HEADERS", ("Idempotency-Key", "X-Idempotent-Key"),
        checks.header_names,
    ),
    Option(
        "field", "IDEMPOTENT_FIELD", "__idempotent_key",
        checks.text("'__idempotent_key'", optional=True),
    ),
    Option("strict_keys", "IDEMPOTENT_STRICT_KEYS", False, checks.boolean),
    Option("browser_keys", "IDEMPOTENT_BROWSER_KEYS", False, checks.boolean),
    Option("key_max_length", "IDEMPOTENT_KEY_MAX_LENGTH", 255, checks.integer(1)),
    Option("key", None, None, checks.function("lambda request: request.json['id']", None)),
    Option(
        "scope", "IDEMPOTENT_SCOPE", None,
        checks.function("lambda request: request.headers['X-Tenant']", None),
    ),
    Option(
        "scope_headers", "IDEMPOTENT_SCOPE_HEADERS", ("Authorization", "X-API-Key"),
        checks.header_set,
    ),
    Option(
        "fingerprint", "IDEMPOTENT_FINGERPRINT", None,
        checks.function("lambda request: request.get_data()", False, None),
    ),
    Option("ignore_fields", "IDEMPOTENT_IGNORE_FIELDS", (), checks.field_names),
    Option(
        "store_if", "IDEMPOTENT_STORE_IF", default_store_if,
        checks.function("lambda response: response.status_code < 500"),
    ),
    Option("dont_keep", "IDEMPOTENT_DONT_KEEP", (), checks.status_codes),
    Option("correctable", "IDEMPOTENT_CORRECTABLE", True, checks.correctable),
    Option(
        "max_run", "IDEMPOTENT_MAX_RUN", None, checks.seconds(above_zero=True, optional=True)
    ),
    Option("max_body", "IDEMPOTENT_MAX_BODY", 1024 * 1024, checks.integer(0)),
    Option("compress", "IDEMPOTENT_COMPRESS", None, checks.integer(0, optional=True)),
    Option("drop_headers", "IDEMPOTENT_DROP_HEADERS", (), checks.dropped_headers),
    Option("keep_headers", "IDEMPOTENT_KEEP_HEADERS", (), checks.kept_headers),
    Option(
        "replay_header", "IDEMPOTENT_REPLAY_HEADER", "Idempotent-Replayed", checks.header_name
    ),
    Option("replay_session", "IDEMPOTENT_REPLAY_SESSION", ("_flashes",), checks.entry_names),
    Option("on_store_error", "IDEMPOTENT_ON_STORE_ERROR", "reject", checks.choice("reject", "run")),
    Option("min_replicas", "IDEMPOTENT_MIN_REPLICAS", 0, checks.integer(0)),
    Option("transaction", None, None, checks.transaction),
    Option("max_waiters", "IDEMPOTENT_MAX_WAITERS", None, checks.integer(0, optional=True)),
    Option(
        "problem_base", "IDEMPOTENT_PROBLEM_BASE", "urn:flask-idempotent:problem:",
        checks.text("'https://shop.example/problems/'"),
    ),
    Option("prefix", "IDEMPOTENT_PREFIX", "IDEMPOTENT_", checks.text("'IDEMPOTENT_'")),
    Option("namespace", "IDEMPOTENT_NAMESPACE", None, checks.text("'shop'", optional=True)),
    Option("secrets", "IDEMPOTENT_SECRETS", (), secret_checks.secrets),
    Option("name_secret", "IDEMPOTENT_NAME_SECRET", None, secret_checks.name_secret),
    Option("linger", "IDEMPOTENT_LINGER", 5, checks.seconds(above_zero=False)),
)  # fmt: skip

#: Names of the options that a view may have for itself.
KEYWORDS = frozenset(Overrides.__annotations__)
_PREFIX = "IDEMPOTENT_"
_CONFIG_NAMES = frozenset(option.config for option in OPTIONS if option.config)
#: Prefixes that count as ours, such as IDEMPOTENCY_.
_LIKE_OURS = re.compile(r"IDEMPOT[A-Z]*_")


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Check keywords by themselves, before any application exists.

    :raises SettingsError: on a wrong name, type or range.
    """
    for name in overrides:
        if name not in KEYWORDS:
            hint = checks.suggestion(checks.closest(name, KEYWORDS), KEYWORDS)
            raise SettingsError(f"{name}= is not a setting.{hint}")
    for option in OPTIONS:
        if option.name in overrides:
            option.check(f"{option.name}=", overrides[option.name])


def check_config_names(config: Mapping[str, Any]) -> None:
    """Check a config for misspelled names of our options.

    IDEMPOTENCY_EXPIRE must not be silently ignored, while IDEMPOTENCY_DEPARTMENT is the
    application's own name.

    :raises SettingsError: with the name that was probably meant.
    """
    for name in config:
        if name in _CONFIG_NAMES or not _LIKE_OURS.match(name):
            continue
        # Without the prefix, which would make any two names look alike.
        short_names = {config_name.removeprefix(_PREFIX) for config_name in _CONFIG_NAMES}
        close = checks.closest(_LIKE_OURS.sub("", name), short_names)
        if close or name.startswith(_PREFIX):
            hint = checks.suggestion(close and _PREFIX + close, _CONFIG_NAMES)
            raise SettingsError(f"{name} is not a setting.{hint}")
