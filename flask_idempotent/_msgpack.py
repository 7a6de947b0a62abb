"""Packing: values as msgpack, which puts a type and a length before each, and back.

Text that is no Unicode, as headers and keys may hold it, is packed as it is.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Final

import msgpack

_AS_IT_IS: Final = "surrogatepass"

#: What reading damaged octets raises.
UNPACK_ERRORS = (ValueError, TypeError, msgpack.UnpackException)


class _Packing(threading.local):
    """A packer for each thread: to make one takes longer than to use it."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer(unicode_errors=_AS_IT_IS)


_packing = _Packing()


def pack(value: Any) -> bytes:
    """Turn a value into octets; no two values look alike, except for a list and a tuple."""
    return _packing.packer.pack(value)


def unpack(octets: bytes) -> Any:
    """Turn octets back into a value.

    :raises UNPACK_ERRORS: when they are none.
    """
    return msgpack.unpackb(octets, unicode_errors=_AS_IT_IS)


def unpack_first(octets: bytes, count: int) -> list[Any]:
    """Read the first items of an array whose end may be missing.

    :param count: how many items at most; what is cut off before is left out.
    :raises UNPACK_ERRORS: when it is not an array, or not one item is whole.
    """
    # An item may say that it is any size; without a limit room would be made for it.
    unpacker = msgpack.Unpacker(unicode_errors=_AS_IT_IS, max_buffer_size=max(1, len(octets)))
    unpacker.feed(octets)
    unpacker.read_array_header()
    items = [unpacker.unpack()]
    with suppress(msgpack.OutOfData):
        while len(items) < count:
            items.append(unpacker.unpack())
    return items
