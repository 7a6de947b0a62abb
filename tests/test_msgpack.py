"""Packing: what goes in comes out, and no two values look alike."""

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
        """Two lists of parts look alike only if they are one list."""
        assert (pack(one) == pack(other)) is (one == other)

    @given(st.lists(st.text("ab", max_size=2), max_size=4), st.data())
    def test_f7_cuts_matter(self, parts: list[str], data: st.DataObject) -> None:
        """The same text cut elsewhere is another list: ``a``+``bc`` is not ``ab``+``c``."""
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
            pytest.param(["a"], [b"a"], id="F7-text-and-octets"),
        ],
    )
    def test_known_traps(self, one: list[Any], other: list[Any]) -> None:
        """Lists that look alike without types and lengths differ."""
        assert pack(one) != pack(other)

    def test_after_a_failure(self) -> None:
        """A value that cannot be packed leaves nothing to the next."""
        with pytest.raises(TypeError):
            pack(["half", object()])
        assert pack(["whole"]) == b"\x91\xa5whole"

    def test_threads(self) -> None:
        """Each thread packs by itself."""
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(pack([1])))
        thread.start()
        thread.join()
        assert found == [pack([1])]


class TestUnpack:
    @given(ANY_TEXT, st.binary(max_size=20))
    def test_round_trip(self, text: str, octets: bytes) -> None:
        """Any text, even what is no Unicode, and octets come back as what they were."""
        assert unpack(pack([text, octets])) == [text, octets]

    @pytest.mark.parametrize("octets", [b"", b"\xc1", b"\x92\x01", b"\x01\x01"])
    def test_damage(self, octets: bytes) -> None:
        """Octets that are no value raise one of the errors that are promised."""
        with pytest.raises(UNPACK_ERRORS):
            unpack(octets)


class TestUnpackFirst:
    def test_cut_off(self) -> None:
        """The first items are read though the array breaks off behind them."""
        octets = pack(["a", 201, "x" * 100])[:10]
        assert [unpack_first(octets, count) for count in (1, 2, 3)] == [["a"], *[["a", 201]] * 2]

    @pytest.mark.parametrize("octets", [b"", b"\x92", b"\x01", msgpack.packb("text")[:2]])
    def test_damage(self, octets: bytes) -> None:
        """What is no array, or ends too soon, raises one of the errors that are promised."""
        with pytest.raises(UNPACK_ERRORS):
            unpack_first(octets, 1)
