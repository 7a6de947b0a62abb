"""Forms that are made to take long, or much memory, where a server looks for a field in them."""

from __future__ import annotations

import random

from tests.support.request_bodies import MULTIPART, URLENCODED

MIB = 1024 * 1024

_LONGEST_BOUNDARY = b"b" * 70
_DISPOSITION = b'--b\r\nContent-Disposition: form-data; name="%b"'
_END = b"\r\n--b--\r\n"

#: What is repeated to fill a urlencoded form.
_URLENCODED = {
    "short names": b"+&a&a",
    "no names": b"&",
    "spaces": b"+",
    "percents": b"%",
    "escapes": b"%41=%42&",
    "deep names": b"a[b][c][d][e]=1&",
    "nearly the field": b"__idempotent_kex%5=1&",
    "the field in values": b"x=__idempotent_key&",
    "the field": b"__idempotent_key=k&",
}
#: What is repeated to fill a multipart form, and its boundary.
_MULTIPART = {
    "parts": (_DISPOSITION % b"a" + b"\r\n\r\n1\r\n", b"b"),
    "empty parts": (b"--b\n\n\n", b"b"),
    "parameters": (_DISPOSITION % b"a%%" + b";a=b" * 16_000 + b"\r\n\r\n\r\n", b"b"),
    "nearly the boundary": (b"--" + _LONGEST_BOUNDARY[1:] + b"\n", _LONGEST_BOUNDARY),
    "the boundary in lines": (b"\nx--b", b"b"),
    "one long header": (b"x", b"b"),
    "a short boundary": (
        _DISPOSITION[5:] % b"a" + b"\r\n\r\n" + random.Random(1).randbytes(MIB),
        b"b",
    ),
}

#: The names of these forms.
WORST = [*_URLENCODED, *_MULTIPART]


def worst_body(name: str, size: int) -> tuple[str, bytes]:
    """The type and the content of one of these forms.

    :param size: about how many bytes it has.
    """
    if name in _URLENCODED:
        piece = _URLENCODED[name]
        return URLENCODED, piece * (size // len(piece))
    piece, boundary = _MULTIPART[name]
    content_type = MULTIPART.replace("=b", f"={boundary.decode()}")
    return content_type, b"--b\r\n" + piece * max(1, size // len(piece)) + _END
