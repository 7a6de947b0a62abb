"""Bodies: what the library reads of a request's body, before its view does.

The key may stand in a form, and the fingerprint covers the body. Both are read from the tracked
input, so the view sees the request as if nobody had looked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from werkzeug.exceptions import RequestEntityTooLarge

from flask_idempotent.http.body_tracking import BodyTakenError, TrackedInput, tracked
from flask_idempotent.http.multipart import MultipartFields
from flask_idempotent.http.urlencoded import UrlencodedFields

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
FORM_TYPES = frozenset({URLENCODED, MULTIPART})

Answer = TypeVar("Answer")


class Body:
    """The body of one request.

    :param request: the request.
    :param limit: how many bytes the application takes.
    """

    def __init__(self, request: Request, limit: int | None) -> None:
        self._request = request
        self._limit = limit
        self.input: TrackedInput = tracked(request)
        # Werkzeug's own property parses the parameters too, for which only forms have a use.
        content_type = request.environ.get("CONTENT_TYPE", "")
        #: Type and subtype in lower case, without parameters.
        self.mimetype = content_type.partition(";")[0].strip(" \t").lower()
        #: Whether it is a form, which may carry the key.
        self.is_form = self.mimetype in FORM_TYPES
        #: Why the look for the key ended before the form did, if it has.
        self.cut: str | None = None
        #: The digest of a form, where it was made while the key was looked for.
        self.form_digest: bytes | None = None

    def pieces(self) -> Iterator[bytes]:
        """The whole body, a piece at a time.

        :raises ClientDisconnected: when it is shorter than announced, or broke off.
        :raises RequestEntityTooLarge: when it is longer than the application allows.
        :raises BodyTakenError: when bytes were read of it before Flask had its turn.
        """
        announced, limit = self.input.announced, self._limit
        if announced is not None and limit is not None and announced > limit:
            # Without reading any of it: a client that asked may still keep it.
            raise RequestEntityTooLarge
        return self.input.pieces(limit)

    def read(self) -> None:
        """Read it whole; it raises what ``pieces`` does."""
        deque(self.pieces(), maxlen=0)

    def show(self, function: Callable[[Any], Answer]) -> Answer:
        """Call a function of the application that may read the request's body, and put it back."""
        return self.input.show(self._request, function)

    def give_back(self) -> None:
        """Let the view read it: nobody will ask for it again."""
        self.input.hand_over(self._request)

    def look_for(self, field: str) -> list[str]:
        """The different values of a form's field; a third one is not looked for.

        It refuses nothing: where the look ends before the form does, ``cut`` says why.

        :raises ClientDisconnected: when the form is shorter than announced, or broke off.
        """
        fields = self._fields(self.input.pieces(self._limit), frozenset({field}))
        values: list[str] = []
        try:
            for name, value in fields:
                if name is not None:
                    _add(values, value)
            self.cut = fields.cut
        except RequestEntityTooLarge:
            self.cut = f"it is longer than {self._limit} bytes"
        except BodyTakenError:
            self.cut = "bytes of it were read before Flask had its turn"
        return values

    def pass_form(
        self, field: str | None, ignored: frozenset[str], digest: Callable[[bytes], object]
    ) -> list[str]:
        """Hand a form over to be digested, without its fields of some names.

        It raises what ``pieces`` does.

        :param ignored: the names of these fields.
        :param digest: is given all the rest, a piece at a time.
        :returns: the values of ``field``, as ``look_for`` does.
        """
        values: list[str] = []
        for name, content in self._fields(self.pieces(), ignored):
            if name is None:
                digest(content)
            elif name == field:
                _add(values, content)
        return values

    def _fields(
        self, pieces: Iterable[bytes], names: frozenset[str]
    ) -> UrlencodedFields | MultipartFields:
        if self.mimetype == URLENCODED:
            return UrlencodedFields(pieces, names)
        boundary = self._request.mimetype_params.get("boundary", "")
        if not boundary.isascii():
            # To Werkzeug, that is no form either.
            boundary = ""
        return MultipartFields(pieces, boundary.encode(), names, self._request.max_form_parts)


def _add(values: list[str], value: bytes) -> None:
    # Two are enough to see that they disagree. A key is ASCII; what is not is told as such.
    text = value.decode("latin-1")
    if text not in values and len(values) < 2:
        values.append(text)
