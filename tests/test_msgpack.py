"""Msgpack: values are read as they were packed, and different values have different bytes."""

from __future__ import annotations

import threading
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent._msgpack import UNPACK_ERRORS, pack, unpack, unpack_first

PARTS = st.lists(
    st.none() | st.binary(max_size=6) | st.text(max_size=6) | st.text("0123456789:-", max_size=6),
    max_size=5,
)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)


class TestPack:
    @given(PARTS, PARTS)
    def test_f7_lists_never_collide(self, one: list[Any], other: list[Any]) -> None:
        """Different lists have different bytes."""
        assert (pack(one) == pack(other)) is (one == other)

    @given(st.lists(st.text("ab", max_size=2), max_size=4), st.data())
    def test_f7_cuts_matter(self, parts: list[str], data: st.DataObject) -> None:
        """The same text divided differently has other bytes: ``a``, ``bc`` is not ``ab``, ``c``."""
        whole = "".join(parts)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        other = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert (pack(parts) == pack(other)) is (parts == other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param(["a", "bc"], ["ab", "c"], id="F7-cut"),
            pytest.param([None], [""], id="F7-none-and-empty"),
            pytest.param(["a", None], [None, "a"], id="F7-order"),
            pytest.param(["\xa1a"], ["a"], id="F7-frame-in-text"),
            pytest.param([], [""], id="F7-nothing-and-empty"),
            pytest.param(["a"], [b"a"], id="F7-text-and-bytes"),
        ],
    )
    def test_known_traps(self, one: list[Any], other: list[Any]) -> None:
        """F7: lists that differ only in types or lengths have different bytes."""
        assert pack(one) != pack(other)

    def test_after_a_failure(self) -> None:
        """A value that cannot be packed does not change the next one."""
        with pytest.raises(TypeError):
            pack(["half", object()])
        assert pack(["whole"]) == b"\x91\xa5whole"

    def test_threads(self) -> None:
        """Threads pack at the same time."""
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(pack([1])))
        thread.start()
        thread.join()
        assert found == [pack([1])]


class TestUnpack:
    @given(ANY_TEXT, st.binary(max_size=20))
    def test_round_trip(self, text: str, data: bytes) -> None:
        """Any string, with lone surrogates too, and bytes are read as they were packed."""
        assert unpack(pack([text, data])) == [text, data]

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x01\x01"])
    def test_damage(self, data: bytes) -> None:
        """Bytes that are not one value raise one of ``UNPACK_ERRORS``."""
        with pytest.raises(UNPACK_ERRORS):
            unpack(data)


class TestUnpackFirst:
    def test_cut_off(self) -> None:
        """The first items are read even where the end of the array is missing."""
        data = pack(["a", 201, "x" * 100])[:10]
        assert [unpack_first(data, count) for count in (1, 2, 3)] == [["a"], *[["a", 201]] * 2]

    @pytest.mark.parametrize("data", [b"", b"\x92", b"\x01", msgpack.packb("text")[:2]])
    def test_damage(self, data: bytes) -> None:
        """Bytes that are not an array, or end in its first item, raise one of ``UNPACK_ERRORS``."""
        with pytest.raises(UNPACK_ERRORS):
            unpack_first(data, 1)
