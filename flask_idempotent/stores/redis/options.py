"""The options of a connection: those of an address or a client, within this library's bounds."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from flask_idempotent import _timing

#: Options of redis-py that this library sets itself, or leaves out.
_DECIDED_HERE = frozenset({
    "retry", "retry_on_error", "retry_on_timeout", "cache", "cache_config",
    "event_dispatcher", "maint_notifications_config", "maint_notifications_pool_handler",
    "legacy_responses", "himport_registry", "oss_cluster_maint_notifications_handler",
})  # fmt: skip

#: A dead peer is noticed within a minute even if nothing is sent; the system's default is two
#: hours. Not every system has all of these options.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in [
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPALIVE", 30),  # The name on macOS.
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
    ]
    if hasattr(socket, name)
}


def connection_options(pool_options: Mapping[str, Any], *, encrypted: bool) -> dict[str, Any]:
    """Turn the options of a redis-py pool into those of a connection.

    :param pool_options: the pool's options, from an address or a redis-py client.
    :param encrypted: whether the connection is over TLS.
    """
    options = {name: value for name, value in pool_options.items() if name not in _DECIDED_HERE}
    options.update(
        socket_timeout=_at_most(_timing.REPLY_TIMEOUT, pool_options.get("socket_timeout")),
        socket_connect_timeout=_at_most(
            _timing.CONNECT_TIMEOUT, pool_options.get("socket_connect_timeout")
        ),
        decode_responses=False,
        # Instead of checking a connection that was idle for this long, the pool reopens it.
        health_check_interval=0,
        protocol=2,
    )
    if "path" in options:
        options.pop("socket_keepalive", None)
    else:
        keepalive = pool_options.get("socket_keepalive_options")
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = (
            keepalive if keepalive and isinstance(keepalive, Mapping) else _KEEPALIVE
        )
    if encrypted:
        options.update(_certificate_options(pool_options))
    return options


def trusted_idle(pool_options: Mapping[str, Any]) -> float:
    """Return the seconds for which a connection may be idle and still be used unchecked."""
    return _at_most(_timing.CONNECTION_MAX_IDLE, pool_options.get("health_check_interval"))


def _certificate_options(pool_options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say how the server's certificate is checked.

    redis-py accepts ``none`` but not ``CERT_NONE``, and some releases do not connect when the host
    name is to be checked and the certificate is not.
    """
    level = pool_options.get("ssl_cert_reqs", "required")
    if isinstance(level, str):
        level = level.lower().removeprefix("cert_")
    if level in (None, "none", ssl.CERT_NONE):
        return {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return {"ssl_cert_reqs": level}


def _at_most(limit: float, value: object) -> float:
    return min(limit, float(value)) if isinstance(value, int | float) and value > 0 else limit
