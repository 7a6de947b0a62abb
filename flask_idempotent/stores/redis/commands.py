"""Commands as the bytes that a server reads: what is the same in every call is encoded once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

#: What the name of the key ends with that has the steps of a record.
STEPS_SUFFIX = ":steps"
#: Other programs may use any bytes as the name of a key: those that are not UTF-8 are decoded as
#: lone surrogates, and encoded to the same bytes again.
_UNCHANGED = "surrogateescape"


def decode_name(data: bytes) -> str:
    """Decode the name of a key or a channel, whatever its bytes."""
    return data.decode("utf-8", _UNCHANGED)


#: The part of a name in braces, which alone decides the slot of a key in a cluster.
_HASH_TAG = re.compile(r"[^{]*\{[^}]+\}")


def steps_key(storage_key: str) -> str:
    """Return the key of the steps that belong to a record: it is in the record's slot."""
    tagged = storage_key if _HASH_TAG.match(storage_key) else f"{{{storage_key}}}"
    return tagged + STEPS_SUFFIX


def pack(command: Sequence[Any]) -> bytes:
    """Encode a command with all its arguments."""
    return b"*%d\r\n%b" % (len(command), _frame(command))


def _frame(parts: Sequence[Any]) -> bytes:
    # redis-py's own encoder takes 3 us more of a replay's 120.
    encoded = [
        part if type(part) is bytes else str(part).encode("utf-8", _UNCHANGED) for part in parts
    ]
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded])


_frame_cached = lru_cache(typed=True)(_frame)


#: Whether a reply means that the command has written what replicas must confirm.
Wrote = Callable[[Any], bool]


class Command:
    """A command about one key.

    :param words: the words before the key.
    :param wrote: what replicas must confirm of it, where they can be asked; None for nothing.
    :param with_steps: whether the key of the record's steps follows the record's.
    """

    def __init__(
        self,
        *words: str | bytes | int,
        wrote: Wrote | None = None,
        with_steps: bool = False,
    ) -> None:
        self.wrote = wrote
        self._head = _frame(words)
        self._with_steps = with_steps
        self._count = len(words) + with_steps

    def pack(self, key: str, argument: bytes, *rest: Any) -> bytes:
        """Encode a call.

        :param argument: the first argument, which differs from call to call.
        :param rest: arguments that are mostly the same in every call: they are cached.
        """
        name = key.encode("utf-8", _UNCHANGED)
        names = b"$%d\r\n%b\r\n" % (len(name), name)
        if self._with_steps:
            names += _frame([steps_key(key)])
        return b"*%d\r\n%b%b$%d\r\n%b\r\n%b" % (
            self._count + 2 + len(rest), self._head, names,
            len(argument), argument, _frame_cached(rest),
        )  # fmt: skip

    def pack_many(self, calls: Sequence[tuple[Any, ...]]) -> bytes:
        """Encode several calls, each with a key and its arguments."""
        return b"".join([self.pack(*call) for call in calls])


class Script:
    """A Lua script.

    :param name: its file name without the extension.
    :param wrote: what replicas must confirm of it, where they can be asked; None for nothing.
    :param with_steps: whether it is given the key of the record's steps too.
    """

    def __init__(self, name: str, wrote: Wrote | None = None, *, with_steps: bool = False) -> None:
        self.wrote = wrote
        self.source = _read_source(name)
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()
        #: Runs it on a server that has the script.
        keys = 2 if with_steps else 1
        self.by_digest = Command("EVALSHA", self.digest, keys, with_steps=with_steps)
        #: Runs it on a server that lacks the script, and leaves it there.
        self.by_source = Command("EVAL", self.source, keys, with_steps=with_steps)


#: A line of a script in whose place another file stands, with what several scripts need.
_INCLUDE = re.compile(rb'^--- @include "([^"]+)"', re.MULTILINE)


@lru_cache
def _read_source(name: str) -> bytes:
    path = resources.files("flask_idempotent.stores.redis") / "scripts" / f"{name}.lua"
    return _INCLUDE.sub(lambda line: _read_source(line[1].decode()), path.read_bytes())
