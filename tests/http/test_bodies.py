"""Bodies: read whole before the view, which reads them as if the library had not."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from flask_idempotent.http.bodies import Body
from flask_idempotent.http.tracked_input import BytesMissingError
from tests.support.request_bodies import (
    FILE,
    FRAMINGS,
    KEY,
    MULTIPART,
    URLENCODED,
    Framing,
    as_file,
    request_of,
    with_length,
)


def body_of(framing: dict[str, Any], content_type: str = "", limit: int | None = None) -> Body:
    return Body(request_of(framing, content_type), limit)


def digested(body: Body) -> tuple[bytes, list[str]]:
    """A form as it is digested, and the values of the key's field."""
    content = bytearray()
    values = body.update_digest(content.extend, frozenset({KEY, "csrf_token"}), KEY)
    return bytes(content), values


class TestIsForm:
    @pytest.mark.parametrize(
        ("content_type", "form"),
        [
            (URLENCODED, True),
            ("Application/X-WWW-Form-URLencoded; charset=utf-8", True),
            (MULTIPART, True),
            ("multipart/mixed; boundary=b", False),
            ("application/json", False),
            ("", False),
        ],
    )
    def test_by_type(self, content_type: str, form: bool) -> None:
        """A body is a form by its media type, whatever its case and parameters."""
        assert body_of(with_length(b""), content_type).is_form is form


class TestRead:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize(
        ("size", "fits"), [(9, True), (10, True), (11, False), (100, False)]
    )  # fmt: skip
    def test_w4_limit(self, framing: Framing, size: int, fits: bool) -> None:
        """W4: a body over MAX_CONTENT_LENGTH is refused and never cut; one of exactly it is not."""
        body = body_of(framing(b"x" * size), limit=10)
        if fits:
            body.read()
            assert b"".join(body.chunks()) == b"x" * size
        else:
            with pytest.raises(RequestEntityTooLarge):
                body.read()

    def test_w4_nothing_is_read_of_what_is_too_large(self) -> None:
        """W4: a body with too large a Content-Length is refused without reading it."""
        source = with_length(b"x" * 11)
        with pytest.raises(RequestEntityTooLarge):
            body_of(source, limit=10).read()
        assert source["wsgi.input"].read() == b"x" * 11

    def test_w4_short(self) -> None:
        """W4: a body shorter than its Content-Length is refused."""
        with pytest.raises(ClientDisconnected):
            body_of(with_length(b"x", 2)).read()


class TestFindField:
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_k7_values(self, framing: Framing) -> None:
        """K7: two different values of the field are found, each once."""
        form = b"&".join(b"__idempotent_key=" + value for value in (b"a", b"a", b"b", b"c"))
        body = body_of(framing(form), URLENCODED)
        assert body.find_field(KEY) == ["a", "b"]
        assert b"".join(body.chunks()) == form
        assert body.stopped_because is None

    def test_k7_multipart(self) -> None:
        """K7: so they are in a multipart form."""
        form = FILE.replace(b'name="a"', b'name="__idempotent_key"') % b"x"
        assert body_of(with_length(form), MULTIPART).find_field(KEY) == ["1"]

    def test_k7_text(self) -> None:
        """K7: a value that is not ASCII stays so."""
        body = body_of(with_length(b"__idempotent_key=%C3%BC"), URLENCODED)
        assert not body.find_field(KEY)[0].isascii()

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_w7_limit_ends_the_look(self, framing: Framing) -> None:
        """W7: the limit stops the search and refuses nothing; a value before it counts."""
        form = b"__idempotent_key=k&b=2&__idempotent_key=l"
        body = body_of(framing(form), URLENCODED, limit=25)
        assert body.find_field(KEY) == ["k"]
        assert body.stopped_because == "it is longer than 25 bytes"
        with pytest.raises(RequestEntityTooLarge):
            body.read()

    def test_w7_parts(self) -> None:
        """W7: the limit for the parts of a form stops the search too."""
        request = request_of(with_length(FILE % b"x"), MULTIPART)
        request.max_form_parts = 1
        body = Body(request, None)
        assert body.find_field("a") == []
        assert body.stopped_because == "it has more than 1 parts"

    def test_w7_taken(self) -> None:
        """W7: missing bytes, which were read before, stop the search too."""
        source = as_file(b"__idempotent_key=k")
        source["wsgi.input"].read()
        body = body_of(source, URLENCODED)
        assert body.find_field(KEY) == []
        assert body.stopped_because == "bytes of it were read before Flask was called"

    def test_w4_short(self) -> None:
        """W4: half a form is refused, because the key may be in the other half."""
        with pytest.raises(ClientDisconnected):
            body_of(with_length(b"a=1", 10), URLENCODED).find_field(KEY)


class TestUpdateDigest:
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_f2_fields_are_left_out(self, framing: Framing) -> None:
        """F2: the key and what changes with each retry are left out, and the key is found."""
        content, values = digested(
            body_of(framing(b"a=1&__idempotent_key=k&csrf_token=t"), URLENCODED)
        )
        assert values == ["k"]
        assert (content, []) == digested(body_of(framing(b"a=1"), URLENCODED))

    def test_w7_no_limits_of_forms(self) -> None:
        """W7: the limits for forms refuse nothing: a view that reads the bytes has none."""
        request = request_of(with_length(FILE % (b"x" * 1000)), MULTIPART)
        request.max_form_parts = request.max_form_memory_size = 1
        content, _ = digested(Body(request, None))
        assert b"x" * 1000 in content

    def test_w4_limit(self) -> None:
        """W4: the limit for bodies does refuse a form."""
        with pytest.raises(RequestEntityTooLarge):
            digested(body_of(with_length(b"a=1"), URLENCODED, limit=2))

    def test_f8_taken(self) -> None:
        """F8: missing bytes refuse a form too."""
        source = as_file(b"a=1")
        source["wsgi.input"].read(1)
        with pytest.raises(BytesMissingError):
            digested(body_of(source, URLENCODED))

    @pytest.mark.parametrize(
        "content_type",
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\xfc",
        ],
    )
    def test_f9_no_boundary(self, content_type: str) -> None:
        """F9: a form without a boundary is digested as it was sent."""
        form = FILE % b"x"
        content, values = digested(body_of(with_length(form), content_type))
        assert values == []
        assert content.startswith(form)


# What a view may do with a request, each way on its own.
