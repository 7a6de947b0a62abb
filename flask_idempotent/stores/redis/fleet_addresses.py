"""The addresses of several servers: ``redis+sentinel://`` and ``redis+cluster://``.

They are only read here; nothing connects. Each is turned into plain addresses, ``redis://`` or
``rediss://``, one for each host. As in ``addresses.py``, no error quotes any part of an address.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode

from flask_idempotent.stores.redis.addresses import (
    BAD_HOST,
    HOST,
    faulty_options,
    unusable_address,
)
from flask_idempotent.stores.redis.server import option_names

#: An option's name and value.
Options = list[tuple[str, str]]

_SCHEME = re.compile(r"(?:redis|valkey)(s?)\+(sentinel|cluster)")
_PARTS = re.compile(r"(?P<places>[^/?#]*)(?P<path>[^?#]*)\??(?P<query>[^#]*)")
_PLACE = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>\d{1,5}))?", re.ASCII)
_SENTINEL_PORT, _SERVER_PORT = 26379, 6379
#: The characters that a Sentinel permits in the name of a primary.
_SERVICE = re.compile(r"[\w.-]+", re.ASCII)
_DATABASE = re.compile(r"\d*", re.ASCII)
#: The options that a Sentinel's connection has, and a primary's has not.
_SENTINEL_LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}


@dataclass(frozen=True)
class SentinelAddress:
    """Sentinels, and the primary that they watch.

    :param service: the name by which they know it.
    :param sentinel_urls: a plain address of each Sentinel.
    :param primary_url: a plain address of the primary, in which only the host is missing.
    """

    service: str
    sentinel_urls: tuple[str, ...] = field(repr=False)
    primary_url: str = field(repr=False)


@dataclass(frozen=True)
class ClusterAddress:
    """Some nodes of a cluster.

    :param urls: a plain address of each.
    """

    urls: tuple[str, ...] = field(repr=False)


def read_address(url: str) -> SentinelAddress | ClusterAddress | None:
    """Read the address of several servers; return None when it is one of a single server.

    :raises SettingsError: saying what is wrong with it.
    """
    name, _, rest = url.partition("://")
    scheme = _SCHEME.fullmatch(name)
    if scheme is None:
        return None
    # urlsplit() refuses an IPv6 address after another host.
    parts = _PARTS.fullmatch(rest)
    if parts is None:
        raise unusable_address('it has a "#", which an address cannot have')
    login, at, hosts = parts["places"].rpartition("@")
    start, path = f"redis{scheme[1]}://{login}{at}", parts["path"].removeprefix("/")
    pairs = parse_qsl(parts["query"], keep_blank_values=True)
    options = option_names(f"redis{scheme[1]}")
    if scheme[2] == "cluster":
        _check_options(pairs, options)
        return _cluster(start, hosts, path, pairs)
    _check_options(pairs, {*options, *_SENTINEL_LOGIN})
    return _sentinel(start, hosts, path, pairs)


def _check_options(pairs: Options, options: Collection[str]) -> None:
    for fault in faulty_options(pairs, options):
        raise unusable_address(fault)
    if {"host", "port", "path"} & dict(pairs).keys():
        raise unusable_address("its hosts stand before a slash, not among the options")


def _cluster(start: str, hosts: str, path: str, pairs: Options) -> ClusterAddress:
    if path.rstrip("/") not in ("", "0") or dict(pairs).get("db", "0") != "0":
        raise unusable_address("a cluster has only database 0, so nothing follows its hosts")
    query = urlencode(pairs)
    return ClusterAddress(tuple(f"{start}{p}/0?{query}" for p in _places(hosts, _SERVER_PORT)))


def _sentinel(start: str, hosts: str, path: str, pairs: Options) -> SentinelAddress:
    service, database = _service_and_database(path)
    of_primary = [pair for pair in pairs if pair[0] not in _SENTINEL_LOGIN]
    of_sentinels = [pair for pair in of_primary if pair[0] not in ("db", "username", "password")]
    of_sentinels += [(_SENTINEL_LOGIN[n], value) for n, value in pairs if n in _SENTINEL_LOGIN]
    scheme, query = start.partition("://")[0], urlencode(of_sentinels)
    return SentinelAddress(
        service,
        tuple(f"{scheme}://{place}/0?{query}" for place in _places(hosts, _SENTINEL_PORT)),
        f"{start}primary/{database}?{urlencode(of_primary)}",
    )


def _service_and_database(path: str) -> tuple[str, str]:
    service, _, database = path.partition("/")
    service = unquote(service)
    if not service:
        raise unusable_address("after its hosts the name of the primary is missing")
    if not _SERVICE.fullmatch(service):
        raise unusable_address("the name of the primary has characters that Sentinels refuse")
    if not _DATABASE.fullmatch(database.removesuffix("/")):
        raise unusable_address("what follows the name of the primary is not a database number")
    return service, database.removesuffix("/")


def _places(hosts: str, default_port: int) -> Iterator[str]:
    """Yield each host with its port."""
    for place in dict.fromkeys(hosts.split(",")):
        match = _PLACE.fullmatch(place)
        if match is None:
            raise unusable_address("a host or port is not valid")
        host, port = match["host"], int(match["port"] or default_port)
        if not host:
            raise unusable_address("a host is missing")
        if not HOST.fullmatch(host.strip("[]")) or ("[" in host) != (":" in host):
            raise unusable_address(BAD_HOST)
        if not 0 < port < 1 << 16:
            raise unusable_address("a port is not between 1 and 65535")
        yield f"{host}:{port}"
