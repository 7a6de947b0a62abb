"""Makes a store from an address or an object."""

from __future__ import annotations

from flask_idempotent._checks import closest
from flask_idempotent._logging import logger
from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.base import Store
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.store import RedisStore

#: Schemes with nothing after them.
_BARE_SCHEMES = ("embedded", "memory")
SCHEMES = (
    *("redis", "rediss", "valkey", "valkeys", "unix"),
    *("redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel"),
    *("redis+cluster", "rediss+cluster", "valkey+cluster", "valkeys+cluster"),
    *_BARE_SCHEMES,
)


def check_url(url: str, setting: str | None = None) -> str:
    """Check an address without connecting, and return its scheme.

    :param setting: the name of the setting that has it, for errors.
    :raises SettingsError: when no store has this scheme, or the address has unused parts.
    """
    scheme, separator, rest = url.partition("://")
    setting = setting or "REDIS_URL"
    # No error quotes the address: any part of a wrong one may be the password.
    if not separator or scheme not in SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise SettingsError(f"{setting} must begin with one of {schemes}.{_nearest(url)}")
    if scheme not in _BARE_SCHEMES:
        Client.from_url(url).close()
    elif rest:
        raise SettingsError(
            f"{setting} {scheme}:// has nothing after the scheme: leave out the rest"
        )
    return scheme


def _nearest(url: str) -> str:
    close = closest(url.strip().lower().partition(":")[0], SCHEMES)
    return f" Did you mean {close}://?" if close else ""


def open_store(url: str, app: str, setting: str | None = None) -> InspectableStore:
    """Make the store of an address, which does not connect before its first use.

    :param app: names the application among others, for a store that is private to it.
    :param setting: the name of the setting that has the address, for errors.
    :raises SettingsError: when the address cannot be used.
    """
    scheme = check_url(url, setting)
    if scheme == "memory":
        logger.warning(
            "memory:// keeps idempotency records in this process only: suitable for tests, but it "
            "does not protect an application with several workers"
        )
        return MemoryStore()
    if scheme == "embedded":
        # Imported only when it is chosen: it needs file locks that Windows lacks.
        from flask_idempotent.stores.embedded import open_embedded

        return open_embedded(app)
    return RedisStore(Client.from_url(url))


def adopt_store(store: object) -> Store:
    """Return the store that was given as ``store=``, or make one from a redis-py client.

    :raises SettingsError: when it is neither.
    """
    return store if isinstance(store, Store) else RedisStore(Client.from_redis(store))
