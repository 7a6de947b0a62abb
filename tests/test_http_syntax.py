"""HTTP syntax: which statuses and headers can be sent."""

from __future__ import annotations

import pytest

from flask_idempotent._http_syntax import are_fields, check_response, is_status


class TestStatus:
    @pytest.mark.parametrize(
        "status", [200, 299, 599, 999, "200 OK", "299 ", "404 Größe\t~", "201 " + "x" * 200]
    )
    def test_final(self, status: int | str) -> None:
        """A status is a final code of three digits, or a line with one and a reason."""
        assert is_status(status)

    @pytest.mark.parametrize(
        "status",
        [
            -1, 0, 99, 100, 199, 1000, 2**64, True, 200.0, None, b"200 OK",
            "", "200", "OK", " 200 OK", "+200 OK", "2000 OK", "٢٠٠ OK", "2" * 5000 + " OK",
            "101 Switching", "200 O\r\nX: 1", "200 O\nK", "200 \0", "200 \x1b", "200 \x7f",
            "200 鍵", "200 \udcff", "200 OK\n", "201 " + "x" * 201,
        ],
    )  # fmt: skip
    def test_anything_else(self, status: object) -> None:
        """An interim code, another number and text that cannot be sent are refused."""
        assert not is_status(status)


class TestFields:
    @pytest.mark.parametrize(
        "fields",
        [
            [],
            ["X", ""],
            ["!#$%&'*+-.^_`|~09azAZ", "\t !~\x80\xff"],
            ["Link", "</a>", "Link", "</b>"],
        ],
    )
    def test_sound(self, fields: list[str]) -> None:
        """Names are tokens, values visible text with spaces and tabs (RFC 9110, 5.1 and 5.5)."""
        assert are_fields(fields)

    @pytest.mark.parametrize("name", ["", "X Y", "X:", "X\n", "\nX", "Ä", "X\0", "(X)", "\ud800"])
    def test_names(self, name: str) -> None:
        """A name that is not a token is refused, in any place."""
        assert not are_fields([name, "a"])
        assert not are_fields(["A", "a", name, "b", "C", "c"])

    @pytest.mark.parametrize(
        "value", ["\r", "\n", "a\r\nX: 1", "a\nX\nb", "\0", "\x1b", "\x7f", "\u0100", "\ud800"]
    )
    def test_values(self, value: str) -> None:
        """A value with a control character or beyond Latin-1 is refused, in any place."""
        assert not are_fields(["A", value])
        assert not are_fields(["A", "a", "B", value, "C", "c"])

    def test_odd_number(self) -> None:
        """A name without a value is refused."""
        assert not are_fields(["A", "a", "B"])


class TestCheckResponse:
    def test_sound(self) -> None:
        """A response that can be sent passes."""
        check_response(201, (("Link", "</a>"), ("Link", "</b>")))
        check_response("299 Very Fine", ())

    def test_status(self) -> None:
        """The error names a wrong status."""
        with pytest.raises(ValueError, match=r"^1000 is not a final status code of three digits$"):
            check_response(1000, ())

    def test_header(self) -> None:
        """The error names the first wrong header, without its value, which may be a secret."""
        headers = (("A", "1"), ("X-Name", "鍵"), ("Other", "\0"))
        with pytest.raises(ValueError, match="'X-Name' cannot be sent") as raised:
            check_response(200, headers)
        assert "鍵" not in str(raised.value)
