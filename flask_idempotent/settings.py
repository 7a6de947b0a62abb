"""Settings: the options of one request, resolved and in their final form.

A value given to the view's decorator wins over one given to the extension, which wins over the
application's config, which wins over the default.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flask_idempotent._digests import derive_key
from flask_idempotent._http_semantics import (
    DROPPED_HEADERS,
    REQUIRING_METHODS,
    SAFE_METHODS,
    environ_name,
)
from flask_idempotent.errors import SettingsError
from flask_idempotent.options import OPTIONS, KeyLike, Option, ScopeLike, check_config_names
from flask_idempotent.sealing import sealer_of

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

    from flask_idempotent.crash import Crash
    from flask_idempotent.engine.transactions import Transaction


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The settings that the engine needs.

    :param timeout: seconds to wait for another's response.
    :param expire: seconds to keep the response.
    :param lease: seconds that a claim outlives its owner.
    :param takeover: whether to run again after an owner died.
    :param decides: whether a request that takes over decides what follows, before a view runs.
    :param hold_for: seconds that a claim is kept after its owner died, where it is not run again.
    :param compress: size in bytes from which a body is kept compressed; None for never.
    :param correctable: the statuses after which a corrected request may use the key.
    :param max_run: seconds for which the lease of a view that runs is renewed; None for as long
        as it runs.
    :param min_replicas: how many replicas must have a claim before its view runs.
    """

    timeout: float
    expire: float
    lease: float
    takeover: bool
    compress: int | None = None
    correctable: frozenset[int] = frozenset()
    max_run: float | None = None
    min_replicas: int = 0
    hold_for: float = 0.0
    decides: bool = False
    #: ``expire`` in milliseconds, the unit of stores.
    expire_ms: int = dataclasses.field(init=False)
    #: Milliseconds that a tombstone is kept: never less than a lease.
    tombstone_ttl_ms: int = dataclasses.field(init=False)
    #: Milliseconds that a record in progress is kept: never less than its lease.
    running_ttl_ms: int = dataclasses.field(init=False)
    #: Milliseconds that it is kept beyond its lease.
    grace_ms: int = dataclasses.field(init=False)
    #: The same once a step with ``once`` has begun: after a crash the key may be held.
    grace_of_once_ms: int = dataclasses.field(init=False)
    #: ``lease`` in milliseconds.
    lease_ms: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        _derive(self, "expire_ms", milliseconds(self.expire))
        _derive(self, "lease_ms", milliseconds(self.lease))
        _derive(self, "tombstone_ttl_ms", max(self.expire_ms, self.lease_ms))
        may_be_held = self.decides or not self.takeover
        held_ttl_ms = max(self.tombstone_ttl_ms, milliseconds(self.hold_for))
        _derive(self, "running_ttl_ms", held_ttl_ms if may_be_held else self.tombstone_ttl_ms)
        _derive(self, "grace_ms", self.running_ttl_ms - self.lease_ms)
        _derive(self, "grace_of_once_ms", held_ttl_ms - self.lease_ms)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that one request uses, checked and in their final form.

    Times are seconds and sizes are bytes. ``options.py`` has names and defaults, the settings page
    what each means.
    """

    redis_url: str = dataclasses.field(repr=False)  # It may contain a password.
    timeout: float
    busy_status: int
    expire: float
    lease: float
    on_crash: Literal["rerun", "hold"] | Callable[[Crash], Any]
    hold_for: float
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
    replay_session: tuple[str, ...]
    on_store_error: str
    min_replicas: int
    transaction: Transaction | None
    max_waiters: int | None
    problem_base: str
    prefix: str
    namespace: str | None
    secrets: tuple[bytes | None, ...] = dataclasses.field(repr=False)
    name_secret: bytes | None = dataclasses.field(repr=False)
    linger: float
    #: What of this the engine needs.
    engine: EngineSettings = dataclasses.field(init=False)
    #: The names of ``headers`` in a WSGI environment.
    environ_names: tuple[str, ...] = dataclasses.field(init=False)
    #: The names of ``scope_headers``, each with its name in a WSGI environment.
    scope_environ_names: tuple[tuple[str, str], ...] = dataclasses.field(init=False)
    #: The names, in lower case, of the headers that no replay repeats.
    dropped_headers: frozenset[str] = dataclasses.field(init=False)
    #: The key of digests that nobody without ``name_secret`` can compute; empty without it.
    name_key: bytes = dataclasses.field(init=False, repr=False)
    #: Whether a request is inspected even where headers, query and media type show no key.
    always_inspect: bool = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        engine = EngineSettings(
            timeout=self.timeout,
            expire=self.expire,
            lease=self.lease,
            takeover=self.on_crash != "hold",
            compress=self.compress,
            correctable=self.correctable,
            max_run=self.max_run,
            min_replicas=self.min_replicas,
            hold_for=self.hold_for,
            decides=callable(self.on_crash),
        )
        _derive(self, "engine", engine)
        _derive(self, "environ_names", tuple(map(environ_name, self.headers)))
        scope_names = tuple((name, environ_name(name)) for name in sorted(self.scope_headers))
        _derive(self, "scope_environ_names", scope_names)
        dropped = (DROPPED_HEADERS | self.drop_headers) - self.keep_headers | {
            self.replay_header.lower()
        }
        _derive(self, "dropped_headers", dropped)
        secret = self.name_secret
        _derive(self, "name_key", derive_key(secret, b"idempotent name") if secret else b"")
        # A view with a transaction leaves the commit to the library, with a key and without one.
        always_inspect = self.required or self.key is not None or self.transaction is not None
        _derive(self, "always_inspect", always_inspect)

    def tracks(self, method: str) -> bool:
        """Return whether requests of this method are tracked."""
        if self.methods is None:
            return method not in SAFE_METHODS
        return method in self.methods

    def requires_key(self, method: str) -> bool:
        """Return whether a request of this method is refused where it has no key."""
        return self.required and method in (self.methods or REQUIRING_METHODS)


def _derive(settings: EngineSettings | Settings, name: str, value: object) -> None:
    # The dataclasses are frozen, so ``__post_init__`` cannot assign.
    object.__setattr__(settings, name, value)


def resolve(config: Mapping[str, Any], *layers: Mapping[str, Any]) -> Settings:
    """Find and check the value of each option.

    :param config: the application's config.
    :param layers: keywords of decorator, blueprint and extension, the most important first.
    :raises SettingsError: on a wrong name, type or range.
    """
    check_config_names(config)
    values = {option.name: _resolve_one(option, config, layers) for option in OPTIONS}
    values["transaction"] = _sealed(values["transaction"], values["secrets"])
    return Settings(**values)


def _sealed(transaction: Any, secrets: tuple[bytes | None, ...]) -> Any:
    """Return a transaction as the application's secrets need it."""
    sealer = sealer_of(secrets)
    if sealer is None and getattr(transaction, "sealed", False):
        raise SettingsError(
            f"{type(transaction).__name__} has sealed=True, which needs IDEMPOTENT_SECRETS"
        )
    # What is given as transaction= need not derive from the class that has this method.
    seal = getattr(transaction, "sealed_with", None)
    return transaction if sealer is None or seal is None else seal(sealer)


def _resolve_one(
    option: Option, config: Mapping[str, Any], layers: Iterable[Mapping[str, Any]]
) -> Any:
    for layer in layers:
        if option.name in layer:
            return option.check(f"{option.name}=", layer[option.name])
    config_name = option.name_in(config)
    if config_name is None:
        return option.check(option.name, option.default)
    return option.check(config_name, config.get(config_name, option.default))


def origin(
    option: Option, config: Mapping[str, Any], layers: Iterable[tuple[str, Mapping[str, Any]]]
) -> str:
    """Say where ``resolve`` finds an option's value.

    :param layers: the name and the keywords of each, the most important first.
    :returns: a layer's name, a name in the config, or ``default``.
    """
    for layer_name, layer in layers:
        if option.name in layer:
            return layer_name
    config_name = option.name_in(config)
    # Idempotent(app) writes some defaults into the config, as version 0.1 did.
    if config_name is None or config.get(config_name, option.default) == option.default:
        return "default"
    return config_name


def milliseconds(seconds: float) -> int:
    """Turn seconds into milliseconds, rounded up and never less than 1."""
    return max(1, math.ceil(seconds * 1000))
