"""Connecting where and as a redis-py client does."""

from __future__ import annotations

from redis import Redis, RedisCluster
from redis.connection import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
)
from redis.sentinel import SentinelConnectionPool

from flask_idempotent.errors import SettingsError
from flask_idempotent.stores.redis.cluster import Cluster
from flask_idempotent.stores.redis.primary import SentinelPrimary
from flask_idempotent.stores.redis.server import Server
from flask_idempotent.stores.redis.topology import SingleServer, Topology


def topology_of(client: object) -> Topology:
    """Take addresses, credentials and options from a redis-py client; its connections are not used.

    :raises SettingsError: when it is not such a client.
    """
    if isinstance(client, Redis):
        pool = client.connection_pool
        if type(pool) is SentinelConnectionPool:
            return _primary(client, pool)
        if type(pool) in (ConnectionPool, BlockingConnectionPool):
            return SingleServer(_server(client, pool))
    if isinstance(client, RedisCluster):
        return _cluster(client)
    raise _unusable(
        client.connection_pool if isinstance(client, Redis) else client,
        "a redis.Redis client with a plain connection pool or of Sentinel.master_for, or a "
        "redis.RedisCluster",
    )


def _cluster(client: RedisCluster) -> Cluster:
    nodes = client.get_nodes()
    pool = client.get_redis_connection(nodes[0]).connection_pool
    manager = client.nodes_manager
    places = [(node.host, int(node.port)) for node in (*manager.startup_nodes.values(), *nodes)]
    remap = manager.address_remap or (lambda place: place)
    return Cluster(_server(client, pool), list(dict.fromkeys(places)), remap=remap)


def _primary(client: object, pool: SentinelConnectionPool) -> SentinelPrimary:
    if not pool.is_master:
        raise _unusable(client, "a redis.Redis client of Sentinel.master_for, not of slave_for")
    kind = SSLConnection if issubclass(pool.connection_class, SSLConnection) else Connection
    options = {name: v for name, v in pool.connection_kwargs.items() if name != "connection_pool"}
    plain = ConnectionPool(connection_class=kind, max_connections=pool.max_connections, **options)
    sentinels = pool.sentinel_manager.sentinels
    servers = [_server(sentinel, sentinel.connection_pool) for sentinel in sentinels]
    return SentinelPrimary(Server(plain), servers, pool.service_name)


def _server(client: object, pool: ConnectionPool) -> Server:
    if not _is_of_redis_py(pool.connection_class):
        raise _unusable(client, "a redis.Redis client with connections of redis-py")
    return Server(pool)


def _is_of_redis_py(kind: type) -> bool:
    # A connection of fakeredis has no socket to a server.
    methods = (getattr(kind, name) for name in ("send_packed_command", "read_response", "can_read"))
    return all(method.__module__.startswith("redis.") for method in methods)


def _unusable(wrong: object, expected: str) -> SettingsError:
    kind = type(wrong)
    package = kind.__module__.partition(".")[0]
    if kind.__module__.startswith("redis.asyncio."):
        package = "redis.asyncio"  # Its clients have the same names.
    return SettingsError(
        "store= must be a store (a subclass of flask_idempotent.stores.base.Store) or "
        f"{expected}, not {package}.{kind.__qualname__}. In tests, use the address memory:// or "
        "the pytest fixture idempotency. For a server that another library connects to, set "
        "IDEMPOTENT_REDIS_URL to its address."
    )
