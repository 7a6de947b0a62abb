"""Session changes: what is kept of a view's changes, and what repeating them does."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask.sessions import session_json_serializer
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.web.session_changes import SessionChanges

Entries = dict[str, Any]

NAMES = ("_flashes", "cart")
PLACED = ("message", "Order placed")
TEAPOT, LAMP = {"product": "teapot"}, {"product": "lamp"}


def changes(before: Entries, after: Entries) -> SessionChanges:
    """The changes of the named entries, written and read again."""
    return SessionChanges.decode(SessionChanges.between(before, after, NAMES).encode())


def repeated(before: Entries, after: Entries, session: Entries) -> Entries:
    """What repeating the changes makes of a session."""
    session = deepcopy(session)
    changes(before, after).repeat(session)
    return session


#: What a view may do to an entry: what it found, and what it left.
KINDS = {
    "list appended": ({"cart": [TEAPOT]}, {"cart": [TEAPOT, LAMP]}),
    "new list": ({}, {"cart": [TEAPOT]}),
    "new key": ({}, {"cart": "c-7"}),
    "new empty list": ({}, {"cart": []}),
    "replaced value": ({"cart": "c-7"}, {"cart": "c-8"}),
    "emptied list": ({"cart": [TEAPOT, LAMP]}, {"cart": []}),
    "shorter list": ({"cart": [TEAPOT, LAMP]}, {"cart": [LAMP]}),
    "list in place of a value": ({"cart": "c-7"}, {"cart": [TEAPOT]}),
    "longer tuple": ({"cart": (1,)}, {"cart": (1, 2)}),
    "removed key": ({"cart": [TEAPOT]}, {}),
}


class TestRepeat:
    @pytest.mark.parametrize("kind", KINDS)
    def test_cookie_from_before(self, kind: str) -> None:
        """In a session as the view found it, each kind of change is made."""
        before, after = KINDS[kind]
        assert repeated(before, after, before) == after

    @pytest.mark.parametrize("kind", KINDS)
    def test_cookie_from_after(self, kind: str) -> None:
        """In a session that has the change already, nothing is done."""
        before, after = KINDS[kind]
        assert repeated(before, after, after) == after

    @pytest.mark.parametrize("kind", KINDS)
    def test_twice(self, kind: str) -> None:
        """Repeating changes once more does nothing."""
        before, after = KINDS[kind]
        once = repeated(before, after, {"cart": [LAMP]})
        assert repeated(before, after, once) == once

    @pytest.mark.parametrize(
        "kind", ["replaced value", "emptied list", "shorter list", "removed key"]
    )
    @pytest.mark.parametrize("later", [{}, {"cart": [{"product": "mug"}]}, {"cart": 5}])
    def test_changed_later(self, kind: str, later: Entries) -> None:
        """What a later request did to the entry is not undone."""
        assert repeated(*KINDS[kind], later) == later

    def test_new_key_was_set_later(self) -> None:
        """A new key is not set where a later request has set it."""
        assert repeated({}, {"cart": "c-7"}, {"cart": "c-9"}) == {"cart": "c-9"}

    def test_behind_other_items(self) -> None:
        """Items are appended behind those that the list has, what the view found or other ones."""
        other = ("error", "Card refused")
        before: Entries = {"_flashes": [other]}
        after = {"_flashes": [other, PLACED]}
        assert repeated(before, after, {}) == {"_flashes": [PLACED]}
        for present in [other], [("message", "Welcome")]:
            assert repeated(before, after, {"_flashes": present}) == {
                "_flashes": [*present, PLACED]
            }

    def test_same_item_twice(self) -> None:
        """An item that the view appended twice is there twice."""
        after = {"_flashes": [PLACED, PLACED]}
        assert repeated({}, after, {"_flashes": [PLACED]}) == after

    def test_list_has_become_something_else(self) -> None:
        """Nothing is appended to what is not a list."""
        assert repeated({}, {"cart": [1]}, {"cart": "c-9"}) == {"cart": "c-9"}

    def test_tuples_that_became_lists(self) -> None:
        """A session that a server keeps may read tuples back as lists: they count as the same."""
        as_lists = {"_flashes": [list(PLACED)]}
        assert repeated({}, {"_flashes": [PLACED]}, as_lists) == as_lists
        assert repeated({"cart": (1, {"a": (2,)})}, {}, {"cart": [1, {"a": [2]}]}) == {}

    def test_other_entries(self) -> None:
        """Entries that are not named are neither looked at nor touched."""
        unnamed = {"user_id": 7}
        assert repeated({}, {"cart": [1], **unnamed}, {"user_id": 8}) == {"cart": [1], "user_id": 8}
        assert not SessionChanges.between({}, unnamed, NAMES)
        assert repeated({}, {"cart": [1]}, {"other": {1, 2}})["cart"] == [1]

    @pytest.mark.parametrize(
        ("other", "changed"), [({}, False), ({"user_id": 7}, False), ({"user_id": 8}, True)]
    )
    def test_whether_others_changed(self, other: Entries, changed: bool) -> None:
        """It is known whether the view changed other entries as well."""
        before = {"user_id": 7} if other else {}
        assert changes(before, {"cart": [1], **other}).changed_others is changed

    def test_only(self) -> None:
        """The changes of an entry that is not named any more can be left out."""
        every_kind = SessionChanges({"a": [1], "b": [1]}, {"c": (None, 1)}, {"d": "x"}, True)
        assert every_kind.only(("b", "d")) == SessionChanges({"b": [1]}, {}, {"d": "x"}, True)
        assert not every_kind.only(())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.uuids() | st.builds(Markup, st.text())
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
    | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


class TestEncode:
    @given(VALUES)
    def test_as_flask_reads_its_cookie(self, value: object) -> None:
        """A value comes back exactly as from Flask's session cookie."""
        entries = {"cart": value}
        cookie = session_json_serializer.loads(session_json_serializer.dumps(entries))
        assert repr(repeated({}, entries, {})) == repr(cookie)

    def test_exact_types(self) -> None:
        """Tuples, safe HTML, bytes, dates and UUIDs stay what they are."""
        items = [
            ("message", Markup("<b>Order placed</b>")), b"\xff", UUID(int=7),
            datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), {" t": [1]},
        ]  # fmt: skip
        session = repeated({}, {"_flashes": items}, {})
        assert session == {"_flashes": items}
        assert list(map(type, session["_flashes"])) == list(map(type, items))
        assert type(session["_flashes"][0][1]) is Markup

    def test_what_was_found_is_a_digest(self) -> None:
        """Of what the view replaced or removed, only a digest is kept."""
        for after in {"cart": "new"}, {}:
            data = SessionChanges.between({"cart": "a secret"}, after, NAMES).encode()
            assert b"secret" not in data

    def test_value_that_no_cookie_carries(self) -> None:
        """Another type is an error."""
        with pytest.raises(TypeError):
            SessionChanges.between({}, {"cart": [{1, 2}]}, NAMES).encode()


DAMAGED = [
    b"", b"\xff", b"{", b"[]", b"null", b"7", b"[" * 100_000, b'{"appended": 1}', b'{"other": {}}',
    b'{"appended": {"cart": {}}}', b'{"written": {"cart": ["x", 1]}}',
    b'{"written": {"cart": {" t": []}}}', b'{"written": {"cart": {" t": [5, 1]}}}',
    b'{"removed": {"cart": null}}', b'{"removed": []}', b'{"changed_others": 1}',
    b'{"appended": {"cart": [{" u": 5}]}}',
    b'{"appended": {"cart": [{" b": "\xc3\xa9"}]}}', b'{"appended": {"cart": [{" di": {}}]}}',
]  # fmt: skip


class TestDecode:
    @pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:40]))
    def test_r12_damaged(self, data: bytes) -> None:
        """R12: what this package has not written is unreadable, and nothing of it is shown."""
        with pytest.raises(RecordUnreadable, match=r"its session part is damaged: [A-Za-z]+$"):
            SessionChanges.decode(data)

    @given(st.binary(max_size=100))
    def test_r12_any_bytes(self, data: bytes) -> None:
        """R12: so are any bytes."""
        with pytest.raises(RecordUnreadable):
            SessionChanges.decode(data)

    @given(VALUES)
    def test_r12_any_value(self, value: object) -> None:
        """R12: so is any value that somebody else wrote, in the place of any part."""
        for part in ("appended", "written", "removed", "changed_others"):
            data = session_json_serializer.dumps({part: {"cart": value}, "x": value}).encode()
            with pytest.raises(RecordUnreadable):
                SessionChanges.decode(data)
