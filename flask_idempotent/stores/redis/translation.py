"""Translates redis-py's errors into those of this library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ChildDeadlockedError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from flask_idempotent.errors import (
    IdempotentError,
    RecordUnreadable,
    StoreUnavailable,
    WriteRefused,
)
from flask_idempotent.stores.redis.connection import Connection

#: Everything that using a connection may raise.
ERRORS = (RedisError, ChildDeadlockedError, OSError)
#: The connection broke, or no reply came in time: the command may have been carried out.
LOST = (RedisConnectionError, RedisTimeoutError, OSError)
#: Answers after which a connection cannot be used any more.
TURNED_AWAY = (BusyLoadingError, AuthenticationError)
#: Errors that a server answers with: nothing was carried out.
ANSWERS = (ResponseError, *TURNED_AWAY)
#: Answers of a server that is not the right one, or not yet.
_WRONG_SERVER = (ReadOnlyError, MasterDownError, *TURNED_AWAY)
#: The same from a script before Redis 7.0, which puts other words before the message.
_WRONG_SERVER_IN_SCRIPT = re.compile("-(?:READONLY|MASTERDOWN) ")
#: Answers of a server that refuses writes, also from a script before Redis 7.0.
_REFUSAL = re.compile(r"(?:^|-)(?:OOM|READONLY|MISCONF|NOREPLICAS) ")


class ScriptUnknown(StoreUnavailable):
    """The server does not have the script."""


class TryAgain(StoreUnavailable):
    """Some of a command's keys have migrated to another node, and some have not."""


class Redirected(StoreUnavailable):
    """Another node of the cluster has the key.

    :param message: what the node answered.
    :param host: the other one's host; empty for the same host.
    :param port: its port.
    :param sent: whether an earlier sending may have been carried out.
    """

    def __init__(self, message: str, host: str, port: int, *, sent: bool) -> None:
        super().__init__(message, sent=sent)
        self.host = host
        self.port = port


class Moved(Redirected):
    """The key's slot belongs to the other node from now on."""


class Asked(Redirected):
    """The other node has this key while the slot migrates."""


#: What a command with two keys gets while their slot migrates, unless both keys exist.
MIGRATING = (Asked, TryAgain)


def read_reply(connection: Connection) -> Any:
    """Read one reply; an error that the server answers with is returned, not raised."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def is_from_wrong_server(error: BaseException) -> bool:
    """Whether an answer means that the command belongs to another server."""
    return isinstance(error, _WRONG_SERVER) or bool(_WRONG_SERVER_IN_SCRIPT.search(str(error)))


@contextmanager
def translation() -> Iterator[None]:
    """Turn what using a connection raises into ``StoreUnavailable``."""
    try:
        yield
    except ERRORS as error:
        raise unavailable(error) from error


def unavailable(error: BaseException, *, sent: bool = True) -> StoreUnavailable:
    """Make the error of a store that cannot be used.

    :param sent: whether the command may have been carried out.
    """
    return StoreUnavailable(_message(error), sent=sent)


def translated(replies: list[Any], *, in_doubt: bool = False) -> list[Any]:
    """Put this package's errors in the place of redis-py's.

    :param in_doubt: whether an earlier sending may have been carried out.
    """
    return [
        _translated(reply, in_doubt) if isinstance(reply, ANSWERS) else reply for reply in replies
    ]


def _translated(error: RedisError, in_doubt: bool) -> IdempotentError:
    message = _message(error)
    if isinstance(error, NoScriptError):
        return ScriptUnknown(message, sent=in_doubt)
    if isinstance(error, AskError):  # MovedError derives from it.
        kind, name = (Moved, "MOVED") if isinstance(error, MovedError) else (Asked, "ASK")
        return kind(f"{name} {message}", error.host, error.port, sent=in_doubt)
    if isinstance(error, TryAgainError):
        return TryAgain(message, sent=in_doubt)
    if "WRONGTYPE" in message:
        return RecordUnreadable("the key holds another kind of value than a string")
    if isinstance(error, OutOfMemoryError | ReadOnlyError) or _REFUSAL.search(message):
        refused = WriteRefused(message)
        refused.sent = in_doubt
        return refused
    return unavailable(error, sent=in_doubt)


def _message(error: BaseException) -> str:
    return str(error) or type(error).__name__


def or_raise(reply: Any) -> Any:
    """Return a reply, or raise the error that is in its place."""
    if isinstance(reply, IdempotentError):
        raise reply
    return reply
