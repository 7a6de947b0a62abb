"""Settings: their names, defaults, checks and order of precedence.

A value given to the view's decorator wins over one given to the extension, which wins over the
application's config, which wins over the default. The table ``OPTIONS`` is the whole list.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from uuid import UUID

from flask_idempotent.errors import SettingsError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

Seconds = float | timedelta
#: What an application's own functions may return; an int or a UUID stands for its text.
KeyLike = str | int | UUID
ScopeLike = str | bytes | int | UUID

#: Methods that are never tracked: their answers say nothing that a replay could repeat.
UNTRACKED_METHODS = frozenset({"HEAD", "OPTIONS", "TRACE"})
#: Methods without an effect that must not be repeated (RFC 9110, 9.2.1), which ``methods`` must
#: name to have them tracked: here GET alone.
SAFE_METHODS = UNTRACKED_METHODS | {"GET"}
#: The methods that ``required`` asks for a key where ``methods`` names none.
REQUIRING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: The IANA registry of HTTP methods (RFC 9110, 16.1.1), without ``UNTRACKED_METHODS`` and those
#: that never reach an application; and PURGE, which caches know.
_KNOWN_METHODS = frozenset(
    {
        "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "DELETE", "GET", "LABEL",
        "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF",
        "MKWORKSPACE", "MOVE", "ORDERPATCH", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE",
        "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK",
        "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
    }
)  # fmt: skip
#: One century, which Redis still counts exactly in milliseconds.
_LONGEST = 100 * 365 * 24 * 3600


class Overrides(TypedDict, total=False):
    """The keywords of ``@idempotent`` and ``Idempotent``; the settings table explains each."""

    timeout: Seconds
    expire: Seconds
    lease: Seconds
    on_crash: Literal["rerun", "hold"]
    required: bool
    methods: Collection[str]
    field: str | None
    key: Callable[[Request], KeyLike | None]
    scope: Callable[[Request], ScopeLike | None]
    fingerprint: Callable[[Request], str | bytes] | Literal[False]
    ignore_fields: Collection[str]
    store_if: Callable[[Response], bool]
    dont_keep: Collection[int]
    correctable: bool | Collection[int]
    max_run: Seconds | None
    max_body: int
    compress: int | None
    drop_headers: Collection[str]
    keep_headers: Collection[str]
    on_store_error: Literal["reject", "run"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The settings that the engine keeps to.

    :param timeout: seconds to wait for another's response.
    :param expire: seconds to keep the response.
    :param lease: seconds that a claim outlives its owner.
    :param takeover: whether to run again after an owner died.
    :param compress: octets from which a body is kept compressed; None for never.
    :param correctable: the statuses after which a corrected request may use the key.
    :param max_run: seconds for which the lease of a view that runs is renewed; None for ever.
    """

    timeout: float
    expire: float
    lease: float
    takeover: bool
    compress: int | None = None
    correctable: frozenset[int] = frozenset()
    max_run: float | None = None
    #: The same in milliseconds, as the store wants them.
    expire_ms: int = dataclasses.field(init=False)
    #: How long a record in progress is kept: never less than its lease.
    running_ttl_ms: int = dataclasses.field(init=False)
    #: How long it is kept beyond its lease.
    grace_ms: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "expire_ms", milliseconds(self.expire))
        lease = milliseconds(self.lease)
        object.__setattr__(self, "running_ttl_ms", max(self.expire_ms, lease))
        object.__setattr__(self, "grace_ms", self.running_ttl_ms - lease)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that one request uses, checked and in their final form.

    Times are seconds. ``OPTIONS`` gives names and defaults, the settings page their meaning.
    """

    redis_url: str = dataclasses.field(repr=False)  # It may hold a password.
    timeout: float
    expire: float
    lease: float
    on_crash: str
    required: bool
    methods: frozenset[str] | None
    headers: tuple[str, ...]
    field: str | None
    strict_keys: bool
    browser_keys: bool
    key_max_length: int
    key: Callable[[Request], KeyLike | None] | None
    scope: Callable[[Request], ScopeLike | None] | None
    scope_headers: frozenset[str]
    fingerprint: Callable[[Request], str | bytes] | Literal[False] | None
    ignore_fields: frozenset[str]
    store_if: Callable[[Response], bool]
    dont_keep: frozenset[int]
    correctable: frozenset[int]
    max_run: float | None
    max_body: int
    compress: int | None
    drop_headers: frozenset[str]
    keep_headers: frozenset[str]
    replay_header: str
    on_store_error: str
    max_waiters: int | None
    problem_base: str
    prefix: str
    namespace: str | None
    linger: float
    #: What of this the engine needs.
    engine: EngineSettings = dataclasses.field(init=False)
    #: The names of ``headers`` in a WSGI environment.
    environ_names: tuple[str, ...] = dataclasses.field(init=False)
    #: The names of ``scope_headers``, and the same in a WSGI environment.
    scope_environ_names: tuple[tuple[str, str], ...] = dataclasses.field(init=False)
    #: The names, in lower case, of the headers that no replay repeats.
    dropped_headers: frozenset[str] = dataclasses.field(init=False)
    #: Whether even a request whose usual places have no key must be looked at.
    always_inspect: bool = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        takeover = self.on_crash == "rerun"
        engine = EngineSettings(
            self.timeout, self.expire, self.lease, takeover, self.compress, self.correctable,
            self.max_run,
        )  # fmt: skip
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "environ_names", tuple(map(_variable, self.headers)))
        callers = tuple((name, _variable(name)) for name in sorted(self.scope_headers))
        object.__setattr__(self, "scope_environ_names", callers)
        dropped = (DROPPED | self.drop_headers) - self.keep_headers | {self.replay_header.lower()}
        object.__setattr__(self, "dropped_headers", dropped)
        object.__setattr__(self, "always_inspect", self.required or self.key is not None)

    def tracks(self, method: str) -> bool:
        """Say whether requests of this method are tracked."""
        if self.methods is None:
            return method not in SAFE_METHODS
        return method in self.methods

    def requires_key(self, method: str) -> bool:
        """Say whether a request of this method is refused where it has no key."""
        return self.required and method in (self.methods or REQUIRING_METHODS)


def _variable(header: str) -> str:
    # RFC 3875, 4.1.18.
    return "HTTP_" + header.upper().replace("-", "_")


#: Answers that ask for another try: with other credentials, or later.
_ASKING_AGAIN = frozenset({401, 403, 407, 408, 425, 429})


def default_store_if(response: Response) -> bool:
    """Keep every answer but those that ask for another try.

    Not kept are 401, 403 and 407, so that a stranger's refused request does not answer the genuine
    one; 408, 425 and 429; and 500 and above. A ``store_if`` of your own may build on it:
    ``lambda response: default_store_if(response) and response.status_code != 404``.
    """
    return response.status_code < 500 and response.status_code not in _ASKING_AGAIN


# Checks: each takes the setting's name as the user wrote it and the value, and returns the value
# in its final form.

Check = Callable[[str, Any], Any]


def _seconds(*, above: bool, optional: bool = False) -> Check:
    wanted = "above 0" if above else "0 or more"

    def check(name: str, value: Any) -> float | None:
        if value is None and optional:
            return None
        number = value.total_seconds() if isinstance(value, timedelta) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _wrong(name, value, "a number of seconds or a timedelta", "60 or timedelta(...)")
        if not (number > 0 or (number == 0 and not above)) or number > _LONGEST:
            raise _wrong(name, value, f"{wanted} seconds and at most a century", "60")
        return float(number)

    return check


def _integer(lowest: int, *, optional: bool = False) -> Check:
    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise _wrong(name, value, f"a whole number of {lowest} or more", str(max(lowest, 100)))
        return value

    return check


def _choice(*choices: str) -> Check:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(name, value, " or ".join(map(repr, choices)), repr(choices[0]))
        return str(value)

    return check


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False", "True")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(name, value, "a text that is not empty", "'text'")
    return value


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _url(name: str, value: Any) -> str:
    # The value stays out of the error: it may hold a password.
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{name} must be a text such as redis://localhost:6379/0")
    return value


def _statuses(name: str, value: Any) -> frozenset[int]:
    if (
        isinstance(value, str | bytes | Mapping)
        or not isinstance(value, Collection)
        or not all(type(item) is int and 100 <= item <= 599 for item in value)
    ):
        raise _wrong(name, value, "a tuple, list or set of statuses", "(409, 410)")
    return frozenset(value)


#: What a server answers to a request that it could not make sense of.
_INVALID = frozenset({400, 413, 415, 422})


def _correctable(name: str, value: Any) -> frozenset[int]:
    if isinstance(value, bool):
        return _INVALID if value else frozenset()
    statuses = _statuses(name, value)
    if any(not 400 <= status <= 499 for status in statuses):
        raise _wrong(name, value, "True, False, or statuses from 400 to 499", "(400, 422)")
    return statuses


def _token(name: str, value: Any) -> str:
    text = _text(name, value)
    if not all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in text):
        raise _wrong(name, value, "a header name (RFC 9110, 5.6.2)", "'Idempotency-Key'")
    return text


def _names(name: str, value: Any) -> tuple[str, ...]:
    if (
        isinstance(value, str | bytes | Mapping)
        or not isinstance(value, Collection)
        or not all(isinstance(item, str) and item for item in value)
    ):
        raise _wrong(name, value, "a tuple, list or set of names", "('one', 'two')")
    return tuple(value)


def _name_set(name: str, value: Any) -> frozenset[str]:
    return frozenset(_names(name, value))


def _header_names(name: str, value: Any) -> tuple[str, ...]:
    names = tuple(_token(name, item) for item in _names(name, value))
    if not names:
        raise _wrong(name, value, "at least one header name", "('Idempotency-Key',)")
    return names


def _header_set(name: str, value: Any) -> frozenset[str]:
    return frozenset(_token(name, item).lower() for item in _names(name, value))


def _drop_headers(name: str, value: Any) -> frozenset[str]:
    dropped = _header_set(name, value)
    for header in sorted(dropped & _INSTEAD_OF_A_BODY):
        raise _wrong(
            name, header, "headers that a replay can do without; this one stands for the body", ""
        )
    return dropped


def _keep_headers(name: str, value: Any) -> frozenset[str]:
    kept = _header_set(name, value)
    for header in sorted(kept & NEVER_KEPT):
        raise _wrong(name, header, "headers that may be kept; this one belongs to a connection", "")
    return kept


def _methods(name: str, value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    methods = frozenset(item.upper() for item in _names(name, value))
    if not methods or methods & UNTRACKED_METHODS:
        raise _wrong(
            name, value, "HTTP methods, without HEAD, OPTIONS and TRACE", "('POST', 'PATCH')"
        )
    for method in sorted(methods - _KNOWN_METHODS):
        hint = _hint(_closest(method, _KNOWN_METHODS), _KNOWN_METHODS)
        raise SettingsError(f"{name} must be HTTP methods, and {method} is none.{hint}")
    return methods


def _function(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise _wrong(name, value, "a function", "lambda request: ...")
    return value


def _store_if(name: str, value: Any) -> Any:
    if not callable(value):
        raise _wrong(name, value, "a function", "lambda response: response.status_code < 500")
    return value


def _fingerprint(name: str, value: Any) -> Any:
    return value if value is False else _function(name, value)


def _wrong(name: str, value: object, expected: str, example: str) -> SettingsError:
    hint = f" For example: {example}" if example else ""
    return SettingsError(f"{name} must be {expected}, not {value!r}.{hint}")


#: Headers that tell a front server which file to send in the place of the body, which is empty.
_INSTEAD_OF_A_BODY = frozenset({"x-accel-redirect", "x-lighttpd-send-file", "x-sendfile"})

#: Headers that describe a connection or a message and are made anew for each answer
#: (RFC 9110, 7.6.1): ``keep_headers`` cannot bring them back.
NEVER_KEPT = frozenset(
    {
        "connection", "content-length", "date", "keep-alive", "proxy-authenticate",
        "proxy-authentication-info", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip


#: Headers that belong to one answer, one caller or one hop, not to the operation's result.
DROPPED = NEVER_KEPT | {
    "age", "alt-svc", "server", "server-timing", "set-cookie", "traceparent", "www-authenticate",
    "x-request-id",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the settings table.

    :param name: attribute of ``Settings``; the keyword too, where there is one.
    :param config: name in the application's config, or None.
    :param default: the value where nothing is given.
    :param check: turns the user's value into its final form or raises ``SettingsError``.
    :param fallback: a config name that other extensions know too, for where ``config`` is not set.
    """

    name: str
    config: str | None
    default: Any
    check: Check
    fallback: str | None = None

    def name_in(self, config: Mapping[str, Any]) -> str | None:
        """The name under which an application's config has it, or should have it."""
        if self.fallback in config and self.config not in config:
            return self.fallback
        return self.config


REDIS_URL = Option(
    "redis_url", "IDEMPOTENT_REDIS_URL", "redis://localhost:6379/0", _url, fallback="REDIS_URL"
)
OPTIONS = (
    REDIS_URL,
    Option("timeout", "IDEMPOTENT_TIMEOUT", 60, _seconds(above=False)),
    Option("expire", "IDEMPOTENT_EXPIRE", 240, _seconds(above=True)),
    Option("lease", "IDEMPOTENT_LEASE", 30, _seconds(above=True)),
    Option("on_crash", "IDEMPOTENT_ON_CRASH", "rerun", _choice("rerun", "hold")),
    Option("required", "IDEMPOTENT_REQUIRED", False, _boolean),
    Option("methods", "IDEMPOTENT_METHODS", None, _methods),
    Option(
        "headers", "IDEMPOTENT_HEADERS", ("Idempotency-Key", "X-Idempotent-Key"), _header_names
    ),
    Option("field", "IDEMPOTENT_FIELD", "__idempotent_key", _optional_text),
    Option("strict_keys", "IDEMPOTENT_STRICT_KEYS", False, _boolean),
    Option("browser_keys", "IDEMPOTENT_BROWSER_KEYS", False, _boolean),
    Option("key_max_length", "IDEMPOTENT_KEY_MAX_LENGTH", 255, _integer(1)),
    Option("key", None, None, _function),
    Option("scope", "IDEMPOTENT_SCOPE", None, _function),
    Option(
        "scope_headers", "IDEMPOTENT_SCOPE_HEADERS", ("Authorization", "X-API-Key"), _header_set
    ),
    Option("fingerprint", "IDEMPOTENT_FINGERPRINT", None, _fingerprint),
    Option("ignore_fields", "IDEMPOTENT_IGNORE_FIELDS", (), _name_set),
    Option("store_if", "IDEMPOTENT_STORE_IF", default_store_if, _store_if),
    Option("dont_keep", "IDEMPOTENT_DONT_KEEP", (), _statuses),
    Option("correctable", "IDEMPOTENT_CORRECTABLE", True, _correctable),
    Option("max_run", "IDEMPOTENT_MAX_RUN", None, _seconds(above=True, optional=True)),
    Option("max_body", "IDEMPOTENT_MAX_BODY", 1024 * 1024, _integer(0)),
    Option("compress", "IDEMPOTENT_COMPRESS", None, _integer(0, optional=True)),
    Option("drop_headers", "IDEMPOTENT_DROP_HEADERS", (), _drop_headers),
    Option("keep_headers", "IDEMPOTENT_KEEP_HEADERS", (), _keep_headers),
    Option("replay_header", "IDEMPOTENT_REPLAY_HEADER", "Idempotent-Replayed", _token),
    Option("on_store_error", "IDEMPOTENT_ON_STORE_ERROR", "reject", _choice("reject", "run")),
    Option("max_waiters", "IDEMPOTENT_MAX_WAITERS", None, _integer(0, optional=True)),
    Option("problem_base", "IDEMPOTENT_PROBLEM_BASE", "urn:flask-idempotent:problem:", _text),
    Option("prefix", "IDEMPOTENT_PREFIX", "IDEMPOTENT_", _text),
    Option("namespace", "IDEMPOTENT_NAMESPACE", None, _optional_text),
    Option("linger", "IDEMPOTENT_LINGER", 5, _seconds(above=False)),
)  # fmt: skip

#: Names of the settings that a view may have for itself.
KEYWORDS = frozenset(Overrides.__annotations__)
_CONFIG_NAMES = frozenset(option.config for option in OPTIONS if option.config)


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Check keywords of the decorator or the extension by themselves, before any app exists.

    :raises SettingsError: on a wrong name, type or range.
    """
    for name in overrides:
        if name not in KEYWORDS:
            close = _closest(name, KEYWORDS)
            raise SettingsError(f"{name}= is no setting.{_hint(close, KEYWORDS)}")
    for option in OPTIONS:
        if option.name in overrides:
            option.check(f"{option.name}=", overrides[option.name])


def resolve(config: Mapping[str, Any], *layers: Mapping[str, Any]) -> Settings:
    """Find the value of each setting.

    :param config: the application's config.
    :param layers: keywords, the most important first.
    :raises SettingsError: on a wrong name, type or range.
    """
    for name in config:
        _check_config_name(name)
    return Settings(**{option.name: _resolve_one(option, config, layers) for option in OPTIONS})


def _resolve_one(option: Option, config: Mapping[str, Any], layers: Iterable[Any]) -> Any:
    for layer in layers:
        if option.name in layer:
            return option.check(f"{option.name}=", layer[option.name])
    name = option.name_in(config)
    if name is None:
        return option.check(option.name, option.default)
    return option.check(name, config.get(name, option.default))


def origin(
    option: Option, config: Mapping[str, Any], layers: Iterable[tuple[str, Mapping[str, Any]]]
) -> str:
    """Say where ``resolve`` finds a setting: a layer's name, a name in the config, or ``default``.

    :param layers: names and keywords, the most important first.
    """
    for name, layer in layers:
        if option.name in layer:
            return name
    in_config = option.name_in(config)
    # The extension writes some defaults into the config, as the original did.
    if in_config is None or config.get(in_config, option.default) == option.default:
        return "default"
    return in_config


def _check_config_name(name: str) -> None:
    if name in _CONFIG_NAMES or not _LIKE_OURS.match(name):
        return
    close = _closest(name, _CONFIG_NAMES)
    # IDEMPOTENCY_EXPIRE must not quietly mean the default. A name like IDEMPOTENCY_DEPARTMENT is
    # the application's own.
    if close or name.startswith("IDEMPOTENT_"):
        raise SettingsError(f"{name} is no setting.{_hint(close, _CONFIG_NAMES)}")


#: Names that are taken for ours, among them IDEMPOTENCY_EXPIRE.
_LIKE_OURS = re.compile(r"IDEMPOT[A-Z]*_")


def _closest(name: str, known: Iterable[str]) -> str | None:
    # Without the prefix, which would make any two names look alike.
    short = {_LIKE_OURS.sub("", full): full for full in sorted(known)}
    close = difflib.get_close_matches(_LIKE_OURS.sub("", name), short, n=1)
    return short[close[0]] if close else None


def _hint(close: str | None, known: Iterable[str]) -> str:
    return f" Did you mean {close}?" if close else f" Known are: {', '.join(sorted(known))}."


def milliseconds(seconds: float) -> int:
    """Turn a time into whole milliseconds, never less than one."""
    return max(1, math.ceil(seconds * 1000))
