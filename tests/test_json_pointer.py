"""JSON pointers: RFC 6901."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent._json_pointer import JSONPointer

#: The example of RFC 6901, 5.
DOCUMENT: dict[str, Any] = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6,
    " ": 7, "m~n": 8,
}  # fmt: skip


class TestValues:
    @pytest.mark.parametrize(
        ("pointer", "value"),
        [
            ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1),
            ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7),
            ("/m~0n", 8),
        ],
    )  # fmt: skip
    def test_of_the_standard(self, pointer: str, value: object) -> None:
        """RFC 6901, 5: each pointer of the example evaluates to the value that stands beside it."""
        assert JSONPointer(pointer).value_in(DOCUMENT) == value

    def test_order_of_unescaping(self) -> None:
        """RFC 6901, 4: ``~01`` is ``~1``, never ``/``."""
        assert JSONPointer("/~01").value_in({"~1": "right", "/": "wrong"}) == "right"

    @pytest.mark.parametrize(
        "pointer",
        ["/bar", "/foo/2", "/foo/-", "/foo/01", "/foo/x", "/foo/+1", "/foo/0/0", "/a~1b/c"],
    )
    def test_nothing_there(self, pointer: str) -> None:
        """A value that the document does not have is a LookupError, for arrays and scalars too."""
        with pytest.raises(LookupError):
            JSONPointer(pointer).value_in(DOCUMENT)

    @pytest.mark.parametrize("document", [None, 1, "text", True, []])
    def test_documents_of_other_kinds(self, document: object) -> None:
        """Any JSON value may be the document."""
        with pytest.raises(LookupError):
            JSONPointer("/id").value_in(document)


class TestSyntax:
    @pytest.mark.parametrize("text", ["id", "~0", "/a~", "/a~2", "/~/", "#/id", "$.id"])
    def test_not_a_pointer(self, text: str) -> None:
        """RFC 6901, 3: a pointer begins with ``/``, and ``~`` escapes 0 and 1 alone."""
        with pytest.raises(ValueError, match="is not a JSON pointer"):
            JSONPointer(text)
