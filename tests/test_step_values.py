"""Values of steps: each comes back equal and with its types, or is refused."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent._msgpack import pack
from flask_idempotent._step_values import decode, encode
from flask_idempotent.errors import RecordUnreadable

OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=5)
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.none() | OFFSETS)
    | st.dates()
    | st.times(timezones=st.none() | OFFSETS)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
KEYS = HASHABLE | st.lists(HASHABLE, max_size=3).map(tuple)
VALUES = st.recursive(
    KEYS,
    lambda values: (
        st.lists(values, max_size=3)
        | st.lists(values, max_size=3).map(tuple)
        | st.dictionaries(KEYS, values, max_size=3)
    ),
    max_leaves=8,
)


def types_in(value: Any) -> Any:
    """The types of a value and of all of its parts, in their order."""
    if isinstance(value, dict):
        return [(types_in(key), types_in(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types_in(item) for item in value]
    return type(value)


class TestRoundTrip:
    @given(VALUES)
    def test_any_value(self, value: Any) -> None:
        """A value comes back equal, with the types of all of its parts and their order."""
        again = decode(encode("step", value))
        assert again == value
        assert types_in(again) == types_in(value)

    @pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
    def test_ends_of_msgpack_integers(self, value: int) -> None:
        """Integers that msgpack cannot have come back as well."""
        assert decode(encode("step", value)) == value

    @pytest.mark.parametrize("text", ["NaN", "sNaN12", "-Infinity", "-0", "1E+3", "1.10"])
    def test_decimals(self, text: str) -> None:
        """Decimals keep their sign, their digits and their exponent."""
        assert str(decode(encode("step", Decimal(text)))) == text

    def test_nan(self) -> None:
        """A float that is not a number comes back as one."""
        assert math.isnan(decode(encode("step", math.nan)))

    def test_offset(self) -> None:
        """A datetime in a time zone comes back with the offset that it had there."""
        berlin = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
        again = decode(encode("step", berlin))
        assert again == berlin
        assert again.utcoffset() == timedelta(hours=2)

    @pytest.mark.parametrize("offset", [timedelta(microseconds=1), timedelta(seconds=-1)])
    def test_odd_offset(self, offset: timedelta) -> None:
        """Offsets of a fraction of a minute, as before standard time, come back as well."""
        for value in (
            datetime(1880, 1, 1, tzinfo=timezone(offset)),
            time(1, tzinfo=timezone(offset)),
        ):
            assert decode(encode("step", value)).utcoffset() == offset

    def test_fold(self) -> None:
        """The second of two equal hours stays the second."""
        assert decode(encode("step", datetime(2026, 10, 25, 2, fold=1))).fold == 1
        assert decode(encode("step", time(2, fold=1))).fold == 1


class Color(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


class Text(str):
    __slots__ = ()


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "name"),
        [
            (object(), "builtins.object"),
            ({1, 2}, "builtins.set"),
            (bytearray(b"a"), "builtins.bytearray"),
            (memoryview(b"a"), "builtins.memoryview"),
            (Color.RED, f"{__name__}.Color"),
            (Point(1), f"{__name__}.Point"),
            (Text("a"), f"{__name__}.Text"),
            (OrderedDict(a=1), "collections.OrderedDict"),
            (msgpack.ExtType(1, b""), "msgpack.ext.ExtType"),
            ([{"a": (object(),)}], "builtins.object"),
            ({(object(), 1): 2}, "builtins.object"),
        ],
    )
    def test_other_type(self, value: object, name: str) -> None:
        """Another type, a subclass too, is an error that names step, type and what to return."""
        with pytest.raises(TypeError, match="'charge' returned a value of the type") as error:
            encode("charge", value)
        assert f" {name}, " in str(error.value)
        assert "Return what the view needs of it" in str(error.value)

    def test_time_of_no_day(self) -> None:
        """A time whose zone gives it no offset, because it has no day, would lose the zone."""
        with pytest.raises(TypeError, match="a time in a time zone that gives it no offset"):
            encode("charge", time(1, tzinfo=ZoneInfo("Europe/Berlin")))

    def test_endless(self) -> None:
        """A value that contains itself is an error that names the step."""
        value: list[Any] = []
        value.append(value)
        with pytest.raises(ValueError, match="'charge' returned a value that contains itself"):
            encode("charge", value)

    def test_deep(self) -> None:
        """A value may have 100 levels; one that has more is an error that names the step."""
        value = nested(100)
        assert decode(encode("charge", value)) == value
        with pytest.raises(ValueError, match=r"'charge' returned .* more than 100 levels"):
            encode("charge", [value])


def nested(levels: int) -> Any:
    return ({"a": nested(levels - 2)},) if levels > 1 else [] if levels else None


def extension(code: int, data: object) -> bytes:
    return pack(msgpack.ExtType(code, pack(data)))


class TestDamage:
    @given(st.binary(max_size=40))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are unreadable, or are what is written for the value that they mean."""
        try:
            value = decode(data)
        except RecordUnreadable:
            return
        assert encode("step", value) == data

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xc1",
            pack([1]) + b"\x00",
            pack([1, 2])[:-1],
            b"\x81\x90\x01",
            b"\x82\x01\x01\x01\x02",
            b"\xd0\x01",
            b"\xca\x00\x00\x00\x00",
            b"\x91" * 5000,
            b"\x91" * 101 + b"\xc0",
            extension(9, None),
            extension(-1 & 0x7F, b"\x00\x00\x00\x01"),
            pack(msgpack.Timestamp(1)),
            extension(1, 5),
            pack(msgpack.ExtType(1, b"")),
            pack([1, msgpack.ExtType(1, b"")]),
            pack({1: msgpack.ExtType(1, b"")}),
            extension(2, b"\x00\x01"),
            extension(2, "text"),
            extension(3, "2026-01-01"),
            extension(3, ["2026-13-01T00:00:00", 0, None]),
            extension(3, ["2026-01-01T00:00:00", "fold", None]),
            extension(3, ["2026-01-01T00:00:00", 0, 10**12]),
            extension(3, ["2026-01-01T00:00:00+01:00", 0, None]),
            extension(3, ["2026-01-01T00:00:00", 0]),
            extension(4, "20260101"),
            extension(5, ["25:00:00", 0, None]),
            extension(6, [10**10, 0, 0]),
            extension(6, [0, 90_000, 0]),
            extension(7, "1_000"),
            extension(7, "ten"),
            extension(8, b"short"),
        ],
    )
    def test_no_value(self, data: bytes) -> None:
        """Bytes that are written for no value are unreadable, whatever reads them."""
        with pytest.raises(RecordUnreadable, match="the value of a step is damaged"):
            decode(data)

    def test_deep(self) -> None:
        """Bytes that are nested without an end are unreadable."""
        with pytest.raises(RecordUnreadable):
            decode(b"\x92\xc7\x00\x01" * 900 + b"\xc0")

    def test_uuid(self) -> None:
        """What is kept of a UUID is its bytes."""
        uuid = UUID("12345678-1234-4234-8234-123456789abc")
        assert uuid.bytes in encode("step", uuid)
        assert decode(encode("step", [date(2026, 1, 1), uuid])) == [date(2026, 1, 1), uuid]
