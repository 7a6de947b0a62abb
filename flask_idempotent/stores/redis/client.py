"""The only door to redis-py: commands with bounded waiting, and its errors translated.

redis-py's own defaults resend a command ten times with pauses and wait five seconds for each
reply. A request cannot wait that long to learn that the store is dead, so this client lends
redis-py's connections itself, with short times, and sends a command again once, and only at once:
where its connection broke, or leads to a server that was demoted or replaced.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ChildDeadlockedError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry

from flask_idempotent import _timing
from flask_idempotent.errors import (
    IdempotentError,
    RecordUnreadable,
    SettingsError,
    StoreUnavailable,
    WriteRefused,
)
from flask_idempotent.stores.redis.addresses import check_address, unusable_address
from flask_idempotent.stores.redis.options import connection_options, trusted_idle
from flask_idempotent.stores.redis.pool import Pool, PooledConnection, PoolExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_CONNECTIONS = 50

_ERRORS = (RedisError, ChildDeadlockedError, OSError)
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
#: Answers after which a connection is of no more use.
_TURNED_AWAY = (BusyLoadingError, AuthenticationError)
#: Errors that a server answers with: nothing was carried out.
_ANSWERS = (ResponseError, *_TURNED_AWAY)
#: Answers of a server that is not, or not yet, the one to ask; before Redis 7.0 a script's own
#: words stand first.
_WRONG_SERVER = (ReadOnlyError, MasterDownError, *_TURNED_AWAY)
_WRONG_SERVER_IN_SCRIPT = re.compile("-(?:READONLY|MASTERDOWN) ")
#: What a server answers that takes no writes; before Redis 7.0 a script's own words stand first.
_REFUSAL = re.compile(r"(?:^|-)(?:OOM|READONLY|MISCONF|NOREPLICAS) ")
_OF_VALKEY = re.compile("^valkey(s?)://")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


#: Others may have given a key any name: bytes that are not UTF-8 become lone surrogates when they
#: are read, and are sent unchanged.
_UNCHANGED = "surrogateescape"


def read_name(octets: bytes) -> str:
    """Decode the name of a key or a channel, whatever its bytes."""
    return octets.decode("utf-8", _UNCHANGED)


class Command:
    """A command about one key. What is the same in every call is written once.

    :param words: what comes before the key.
    """

    def __init__(self, *words: str | bytes | int) -> None:
        self._head = _framed(words)
        self._count = len(words)

    def packed(self, key: str, octets: bytes, *rest: Any) -> bytes:
        """Write a call as the server reads it.

        :param rest: arguments that are mostly the same in every call.
        """
        name = key.encode("utf-8", _UNCHANGED)
        return b"*%d\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            self._count + 2 + len(rest), self._head,
            len(name), name, len(octets), octets, _framed_again(rest),
        )  # fmt: skip


class Script:
    """A Lua script.

    :param name: file name without its ending.
    """

    def __init__(self, name: str) -> None:
        path = resources.files("flask_idempotent.stores.redis") / "scripts" / f"{name}.lua"
        self.source = path.read_bytes()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()
        #: For a server that has the script, and for one that has not.
        self.known = Command("EVALSHA", self.digest, 1)
        self.unknown = Command("EVAL", self.source, 1)


class Client:
    """Sends commands to a server.

    :param pool: a redis-py connection pool that says where and how to connect.
    :param prepare: called before each use; makes sure that there is a server.
    :param clock: tells the seconds that connections are idle and grow old in.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        prepare: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prepare = prepare
        self._follower: Callable[[], Callable[[], None] | None] = lambda: None
        given = pool.connection_kwargs
        self._encrypted = issubclass(pool.connection_class, SSLConnection)
        arguments = connection_options(given, encrypted=self._encrypted)
        arguments["retry"] = Retry(NoBackoff(), 0)
        self.database: int = int(given.get("db") or 0)
        self._arguments = arguments
        # redis-py's connections have no type annotations.
        self._connect: Callable[[], Any] = partial(pool.connection_class, **arguments)
        # Not connected; but an unknown option is noticed here, at the start.
        driver = getattr(self._connect(), "driver_info", None)
        if driver is not None:
            # Else redis-py reads its own version from its package's files for each connection.
            self._connect = partial(self._connect, driver_info=driver)
        size = min(pool.max_connections, _MAX_CONNECTIONS)
        self._pool = Pool(self._connect, size, _timing.POOL_TIMEOUT, trusted_idle(given), clock)
        self._followed = self._pool.generation

    @classmethod
    def from_url(
        cls,
        url: str,
        prepare: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Client:
        """Make a client from a ``redis://``, ``rediss://`` or ``unix://`` address.

        ``valkey://`` and ``valkeys://`` are other names of the first two.

        :raises SettingsError: when the address cannot be used.
        """
        url = _OF_VALKEY.sub(r"redis\1://", url)
        check_address(url, _options(url.partition("://")[0]))
        try:
            return cls(ConnectionPool.from_url(url), prepare, clock)
        except (TypeError, ValueError, RedisError):
            # Their messages quote the address, perhaps its password.
            raise unusable_address("an option has a value that it cannot have") from None

    @classmethod
    def from_redis(cls, client: object) -> Client:
        """Make a client that connects as a redis-py client does."""
        pool = client.connection_pool if isinstance(client, Redis) else None
        if type(pool) not in (ConnectionPool, BlockingConnectionPool):
            raise _unusable(client, "a redis.Redis client with a plain connection pool")
        assert pool is not None
        if not _is_of_redis_py(pool.connection_class):
            raise _unusable(client, "a redis.Redis client with connections of redis-py")
        return cls(pool)

    def __str__(self) -> str:
        given = self._arguments
        if "path" in given:
            return f"unix://{given['path']}?db={self.database}"
        scheme = "rediss" if self._encrypted else "redis"
        where = f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
        return f"{scheme}://{where}/{self.database}"

    def __repr__(self) -> str:
        return f"<Client {self}>"

    @property
    def transport(self) -> str:
        """How commands travel: ``"tls"``, ``"socket"``, ``"loopback"`` or ``"network"``."""
        if self._encrypted:
            return "tls"
        given = self._arguments
        if "path" in given:
            return "socket"
        return "loopback" if given.get("host", "localhost") in _LOOPBACK else "network"

    def execute(self, *command: Any) -> Any:
        """Send one command and return its reply.

        :raises RecordUnreadable: when the key holds something else than a string.
        :raises WriteRefused: when the server takes no writes.
        :raises StoreUnavailable: when it does not answer, or answers with an error.
        """
        return _or_raise(self.execute_many([command])[0])

    def execute_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one round trip.

        :returns: replies; an ``IdempotentError`` in the place of one that failed.
        """
        return self._exchange(b"".join(map(_packed, commands)), len(commands))

    def call(self, command: Command, key: str, *arguments: Any) -> Any:
        """Send a command about one key; raises as ``execute`` does."""
        return _or_raise(self._exchange(command.packed(key, *arguments), 1)[0])

    def run(self, script: Script, key: str, *arguments: Any) -> Any:
        """Run a script on one key; raises as ``execute`` does."""
        reply = self._exchange(script.known.packed(key, *arguments), 1)[0]
        if type(reply) is _ScriptUnknown:
            reply = self._exchange(script.unknown.packed(key, *arguments), 1)[0]
        return _or_raise(reply)

    def run_many(self, script: Script, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script once for each key and its arguments, in one round trip.

        :returns: replies; an ``IdempotentError`` in the place of one that failed.
        """
        replies = self._exchange(_joined(script.known, calls), len(calls))
        if _ScriptUnknown in map(type, replies):
            # The server was restarted, or its scripts flushed. None of these calls has run.
            replies = self._exchange(_joined(script.unknown, calls), len(calls))
        return replies

    def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send commands and read their replies, once more where the connection was of no use.

        :returns: replies; an ``IdempotentError`` in the place of one that failed.
        """
        self._prepare()
        started = time.monotonic()
        try:
            pooled = self._pool.take()
        except PoolExhausted as error:
            raise StoreUnavailable(str(error), sent=False) from error
        try:
            try:
                replies = self._round_trip(pooled, packed, count)
            except _LOST:
                if time.monotonic() - started > _timing.RESEND_WITHIN:
                    raise
                return self._once_more(pooled, packed, count, in_doubt=True)
            errors = [reply for reply in replies if isinstance(reply, _ANSWERS)]
            if not errors:
                return replies
            if time.monotonic() - started < _timing.MOVE_WITHIN and self._may_move(pooled, errors):
                return self._once_more(pooled, packed, count, in_doubt=False)
            return _translated(replies)
        except _ERRORS as error:
            raise StoreUnavailable(_message(error)) from error
        except BaseException:
            # A greeting that a signal's handler interrupted leaves replies, as a command does.
            pooled.connection.disconnect()
            raise
        finally:
            self._pool.give_back(pooled)

    def _may_move(self, pooled: PooledConnection, errors: Sequence[RedisError]) -> bool:
        """Whether a new connection may lead to the right server, where this one did not."""
        if not any(map(_is_from_wrong_server, errors)):
            return False
        # A greeting that is refused says nothing of the connections that stand.
        return pooled.generation is None or self._pool.drop(pooled)

    def _once_more(
        self, pooled: PooledConnection, packed: bytes, count: int, *, in_doubt: bool
    ) -> list[Any]:
        pooled.connection.disconnect()
        try:
            return _translated(self._round_trip(pooled, packed, count), in_doubt=in_doubt)
        except StoreUnavailable as error:
            error.sent = error.sent or in_doubt
            raise

    def _round_trip(self, pooled: PooledConnection, packed: bytes, count: int) -> list[Any]:
        connection = pooled.connection
        try:
            if not self._pool.trusts(pooled):
                self._open(pooled)
            connection.send_packed_command((packed,), check_health=False)
            return [_reply(connection) for _ in range(count)]
        except _TURNED_AWAY as error:
            # redis-py would read the same answer again and again, and give the next ones to others.
            connection.disconnect()
            return [error] * count
        except BaseException:
            # The handler of a signal may raise before the reply is read, which is nobody else's.
            connection.disconnect()
            raise

    def _open(self, pooled: PooledConnection) -> None:
        try:
            generation = self._pool.open(pooled)
        except _TURNED_AWAY:
            raise
        except _ERRORS as error:
            raise StoreUnavailable(_message(error), sent=False) from error
        if generation > self._followed:
            self._followed = generation
            follow = self._follower()
            if follow is not None:
                follow()

    def follow_with(self, method: Callable[[], None]) -> None:
        """Call a method when a connection stands that was opened since all were dropped.

        Its object, which may refer to this client, is not kept alive.
        """
        self._follower = weakref.WeakMethod(method)

    @contextmanager
    def subscription(self) -> Iterator[Feed]:
        """Open a connection of its own for pub/sub.

        :raises StoreUnavailable: when the server cannot be reached.
        """
        self._prepare()
        connection = self._connect()
        try:
            with _translation():
                connection.connect()
            yield Feed(connection)
        finally:
            connection.disconnect()

    def close(self) -> None:
        """Close the connections; a later command opens new ones."""
        self._pool.close()


class Feed:
    """A connection that listens to channels.

    :param connection: a redis-py connection, used by one thread alone.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """The socket's number, for a selector."""
        return int(self._connection._sock.fileno())

    def send(self, *command: str) -> None:
        """Send a command of pub/sub, or PING; what it answers comes with ``messages``."""
        with _translation():
            self._connection.send_command(*command, check_health=False)

    def messages(self) -> Iterator[list[bytes]]:
        """What has arrived, until nothing more is there."""
        with _translation():
            while self._connection.can_read(0):
                yield self._connection.read_response()


def _is_of_redis_py(kind: type) -> bool:
    # What fakeredis calls a connection has no socket to a server.
    methods = (getattr(kind, name) for name in ("send_packed_command", "read_response", "can_read"))
    return all(method.__module__.startswith("redis.") for method in methods)


def _unusable(client: object, expected: str) -> SettingsError:
    kind = type(client)
    package = kind.__module__.partition(".")[0]
    return SettingsError(
        f"store= must be a store of this package or {expected}, not {package}.{kind.__qualname__}. "
        "In tests, use the address memory:// or the pytest fixture idempotency. For a server that "
        "another library connects to, set IDEMPOTENT_REDIS_URL to its address."
    )


@lru_cache
def _options(scheme: str) -> frozenset[str]:
    """Name the options that an address of this scheme may have."""
    kinds = {"rediss": SSLConnection, "unix": UnixDomainSocketConnection}
    makers = (ConnectionPool, *kinds.get(scheme, Connection).__mro__)
    names = {name for maker in makers for name in inspect.signature(maker).parameters}
    return frozenset(names - {"args", "kwargs", "connection_kwargs"})


def _packed(command: Sequence[Any]) -> bytes:
    return b"*%d\r\n%b" % (len(command), _framed(command))


def _framed(parts: Sequence[Any]) -> bytes:
    # A fraction of redis-py's own time for it.
    octets = [
        part if type(part) is bytes else str(part).encode("utf-8", _UNCHANGED) for part in parts
    ]
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in octets])


_framed_again = lru_cache(typed=True)(_framed)


def _joined(command: Command, calls: Sequence[tuple[Any, ...]]) -> bytes:
    return b"".join([command.packed(*call) for call in calls])


def _reply(connection: Any) -> Any:
    try:
        # The connection's own method gathers first what it may have to say of a failure.
        return connection._parser.read_response()
    except ResponseError as error:
        return error


def _is_from_wrong_server(error: RedisError) -> bool:
    return isinstance(error, _WRONG_SERVER) or bool(_WRONG_SERVER_IN_SCRIPT.search(str(error)))


@contextmanager
def _translation() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise StoreUnavailable(_message(error)) from error


class _ScriptUnknown(StoreUnavailable):
    """The server does not have the script."""


def _translated(replies: list[Any], *, in_doubt: bool = False) -> list[Any]:
    """Put this package's errors in the place of redis-py's.

    :param in_doubt: whether an earlier sending may have been carried out.
    """
    return [
        _refusal(reply, in_doubt) if isinstance(reply, _ANSWERS) else reply for reply in replies
    ]


def _refusal(error: RedisError, in_doubt: bool = False) -> IdempotentError:
    message = _message(error)
    if isinstance(error, NoScriptError):
        return _ScriptUnknown(message, sent=in_doubt)
    if "WRONGTYPE" in message:
        return RecordUnreadable("the key holds another kind of value than a string")
    if isinstance(error, OutOfMemoryError | ReadOnlyError) or _REFUSAL.search(message):
        refused = WriteRefused(message)
        refused.sent = in_doubt
        return refused
    return StoreUnavailable(message, sent=in_doubt)


def _or_raise(reply: Any) -> Any:
    if isinstance(reply, IdempotentError):
        raise reply
    return reply


def _message(error: BaseException) -> str:
    return str(error) or type(error).__name__
