"""Choosing a store by the scheme of its address."""

from __future__ import annotations

import difflib

from flask_idempotent._logging import logger
from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.base import InspectableStore, Store
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore
from flask_idempotent.stores.redis.topology import SingleServer

_ALONE = ("embedded", "memory")
SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix", *_ALONE)


def check_url(url: str, setting: str | None = None) -> str:
    """Check an address without connecting, and return its scheme.

    :param setting: the name of the setting that has it, for errors.
    :raises SettingsError: when no store has this scheme, or the address has unused parts.
    """
    scheme, separator, rest = url.partition("://")
    setting = setting or "REDIS_URL"
    # Neither error quotes the address: any part of a wrong one may be the password.
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise SettingsError(f"{setting} must begin with one of {known}.{_nearest(url)}")
    if scheme not in _ALONE:
        SingleServer.from_url(url)
    elif rest:
        raise SettingsError(
            f"{setting} {scheme}:// takes nothing behind the scheme: leave the rest out"
        )
    return scheme


def _nearest(url: str) -> str:
    begins = url.strip().lower().partition(":")[0]
    close = difflib.get_close_matches(begins, SCHEMES, n=1)
    return f" Did you mean {close[0]}://?" if close else ""


def open_store(url: str, app: str, setting: str | None = None) -> InspectableStore:
    """Make the store of an address; nothing connects before its first use.

    :param app: names the application among others, for the stores that are private to one.
    :param setting: the name of the setting that has the address, for errors.
    :raises SettingsError: when the address cannot be used.
    """
    scheme = check_url(url, setting)
    if scheme == "memory":
        logger.warning(
            "memory:// keeps idempotency records in this process alone: right for tests, "
            "no protection behind several workers"
        )
        return MemoryStore()
    if scheme == "embedded":
        # Only where it is chosen: it needs file locks that Windows lacks.
        from flask_idempotent.stores.embedded import open_embedded

        return open_embedded(app)
    return RedisStore(Client.from_url(url))


def adopt_store(store: object) -> Store:
    """Take what was given as ``store=``: a store, or a redis-py client.

    :raises SettingsError: when it is neither.
    """
    return store if isinstance(store, Store) else RedisStore(Client.from_redis(store))
