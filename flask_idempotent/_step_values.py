"""What a step returned, as bytes and back.

A value comes back equal and with the same types. It is kept as msgpack, with an extension for each
type that msgpack does not have; a tuple is an array that begins with one. Extensions do not contain
other values: msgpack limits how deeply arrays and maps are nested, but not what calls it again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from flask_idempotent._msgpack import UNPACK_ERRORS, Extension, pack, unpack, unpack_extended
from flask_idempotent.errors import RecordUnreadable

#: How deeply values may be nested. msgpack itself writes and reads 511 levels.
_LEVELS: Final = 100
#: The first item of an array that is a tuple.
_TUPLE: Final = Extension(1, b"")


def encode(step: str, value: Any) -> bytes:
    """Turn what a step returned into bytes.

    :param step: the name of the step, for the error.
    :raises TypeError: when it, or a value in it, has a type that cannot be recorded.
    :raises ValueError: when it is nested too deeply, or contains itself.
    """
    try:
        return pack(_to_msgpack(value))
    except _Unsupported as error:
        raise TypeError(_UNSUPPORTED.format(step, error)) from None
    except _TooDeep:
        raise ValueError(_TOO_DEEP.format(step, _LEVELS)) from None


def decode(data: bytes) -> Any:
    """Turn the bytes of ``encode`` back into the value.

    :raises RecordUnreadable: when ``encode`` makes these bytes of no value.
    """
    try:
        value = unpack_extended(data, _from_extension, _from_array)
        if pack(_to_msgpack(value)) != data:
            raise ValueError("it is not in the form in which values are written")
    except (*UNPACK_ERRORS, _Unsupported, _TooDeep, ArithmeticError) as error:
        raise RecordUnreadable(f"the value of a step is damaged: {error}") from error
    return value


class _Unsupported(Exception):
    """A value has a type that cannot be recorded; the message names it."""


class _TooDeep(Exception):
    """A value is nested in too many others."""


class _Conversion(NamedTuple):
    """A type that msgpack does not have.

    :param code: its number in what is stored, which never changes.
    :param to_parts: makes a value that msgpack has of one of this type.
    :param from_parts: the reverse.
    """

    code: int
    to_parts: Callable[[Any], Any]
    from_parts: Callable[[Any], Any]


def _to_msgpack(value: Any, levels: int = _LEVELS) -> Any:
    kind = type(value)
    if kind in _UNCHANGED or (kind is int and -(2**63) <= value < 2**64):
        return value
    if kind in _CONTAINERS:
        if not levels:
            raise _TooDeep
        return _CONTAINERS[kind](value, levels - 1)
    conversion = _CONVERSIONS.get(kind)
    if conversion is None:
        raise _Unsupported(f"a value of the type {kind.__module__}.{kind.__qualname__}")
    return Extension(conversion.code, pack(conversion.to_parts(value)))


def _list_to_msgpack(value: list[Any], levels: int) -> list[Any]:
    return [_to_msgpack(item, levels) for item in value]


def _tuple_to_msgpack(value: tuple[Any, ...], levels: int) -> tuple[Any, ...]:
    # Not a list, because it may be a key.
    return (_TUPLE, *(_to_msgpack(item, levels) for item in value))


def _dict_to_msgpack(value: dict[Any, Any], levels: int) -> dict[Any, Any]:
    return {_to_msgpack(key, levels): _to_msgpack(item, levels) for key, item in value.items()}


def _from_array(items: list[Any]) -> list[Any] | tuple[Any, ...]:
    return tuple(items[1:]) if items and items[0] is _TUPLE else items


def _from_extension(code: int, data: bytes) -> Any:
    if code == _TUPLE.code and data == _TUPLE.data:
        return _TUPLE
    conversion = _BY_CODE.get(code)
    if conversion is None:
        raise ValueError(f"no type has the number {code}")
    return conversion.from_parts(unpack(data))


def _split_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _split_moment(value: datetime | time) -> list[Any]:
    offset = value.utcoffset()
    if value.tzinfo is not None and offset is None:
        raise _Unsupported(f"a {type(value).__name__} in a time zone that gives it no offset")
    # fromisoformat() takes offsets of less than a second for none.
    offset_us = None if offset is None else offset // timedelta(microseconds=1)
    return [value.replace(tzinfo=None).isoformat(), value.fold, offset_us]


def _join_moment(kind: type[Any], parts: list[Any]) -> Any:
    text, fold, offset_us = parts
    zone = None if offset_us is None else timezone(timedelta(microseconds=offset_us))
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=zone)


_UNCHANGED: Final = frozenset({type(None), bool, float, str, bytes})
_CONTAINERS: Final[dict[type, Callable[[Any, int], Any]]] = {
    list: _list_to_msgpack,
    tuple: _tuple_to_msgpack,
    dict: _dict_to_msgpack,
}
_CONVERSIONS: Final[dict[type, _Conversion]] = {
    int: _Conversion(2, _split_int, lambda data: int.from_bytes(data, "big", signed=True)),
    datetime: _Conversion(3, _split_moment, partial(_join_moment, datetime)),
    date: _Conversion(4, date.isoformat, date.fromisoformat),
    time: _Conversion(5, _split_moment, partial(_join_moment, time)),
    timedelta: _Conversion(
        6, lambda td: [td.days, td.seconds, td.microseconds], lambda parts: timedelta(*parts)
    ),
    Decimal: _Conversion(7, str, Decimal),
    UUID: _Conversion(8, lambda uuid: uuid.bytes, lambda data: UUID(bytes=data)),
}
_BY_CODE: Final = {conversion.code: conversion for conversion in _CONVERSIONS.values()}

_UNSUPPORTED = (
    "the step {!r} returned {}, which cannot be recorded for a later run. Return what the view "
    "needs of it, such as an id, as None, bool, int, float, str, bytes, list, dict, tuple, "
    "datetime, date, time, timedelta, Decimal or UUID (not a subclass of one)"
)
_TOO_DEEP = (
    "the step {!r} returned a value that contains itself, or has more than {} levels, which cannot "
    "be recorded"
)
