"""Bodies: what the library reads of a request's body before the view runs.

The key may be in a form, and the fingerprint covers the body. Both are read from the tracked input,
so the view reads the body as if the library had not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from flask_idempotent.http.body_tracking import call_with_body, tracked_input
from flask_idempotent.http.multipart import MultipartFields
from flask_idempotent.http.tracked_input import BytesMissingError, TrackedInput
from flask_idempotent.http.urlencoded import UrlencodedFields

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
FORM_TYPES = frozenset({URLENCODED, MULTIPART})

Result = TypeVar("Result")


class Body:
    """The body of one request.

    :param request: the request.
    :param limit: how many bytes it may have; None for any number.
    """

    #: Why ``find_field`` did not search the whole form; None when it did.
    stopped_because: str | None = None
    #: The digest of a form, once the search for the key has made it.
    form_digest: bytes | None = None

    def __init__(self, request: Request, limit: int | None) -> None:
        self._request = request
        self._limit = limit
        self.input: TrackedInput = tracked_input(request)
        # Werkzeug's property parses the parameters too, which only a multipart form needs.
        content_type = request.environ.get("CONTENT_TYPE", "")
        #: The media type in lower case, without parameters.
        self.mimetype = content_type.partition(";")[0].strip(" \t").lower()
        #: Whether it is a form, which may contain the key.
        self.is_form = self.mimetype in FORM_TYPES

    def chunks(self) -> Iterator[bytes]:
        """Read the whole body, up to 1 MiB at a time.

        :raises ClientDisconnected: when it is shorter than announced, or the server's stream fails.
        :raises RequestEntityTooLarge: when it is longer than the limit.
        :raises BytesMissingError: when bytes of it were read before Flask was called.
        """
        announced, limit = self.input.announced, self._limit
        if announced is not None and limit is not None and announced > limit:
            # Nothing is read: a client that waits for "100 Continue" need not send the body.
            raise RequestEntityTooLarge
        return self.input.chunks(limit)

    def read(self) -> None:
        """Read the whole body, to be sure that it is complete; raises as ``chunks`` does."""
        deque(self.chunks(), maxlen=0)

    def check_size(self) -> None:
        """Check the size of a chunked body, which Werkzeug cuts off at the limit without a word.

        :raises RequestEntityTooLarge: when it is longer than the limit.
        """
        if self._limit is not None and self.input.announced is None:
            with suppress(ClientDisconnected, BytesMissingError):
                self.read()

    def call(self, function: Callable[[Any], Result]) -> Result:
        """Call a function with the request, and undo what it reads of the body."""
        return call_with_body(self._request, function)

    def hand_to_view(self) -> None:
        """Let the view read the body, which the library does not read again."""
        self.input.stop_copying(self._request)

    def find_field(self, name: str) -> list[str]:
        """Find the values of a form's field: none, one, or two that differ.

        A form that cannot be searched to its end is not refused; ``stopped_because`` says why.

        :raises ClientDisconnected: when the form is shorter than announced, or the server's stream
            fails.
        """
        fields = self._fields(self.input.chunks(self._limit), frozenset({name}))
        values: list[str] = []
        try:
            for field_name, value in fields:
                if field_name is not None:
                    _add(values, value)
            self.stopped_because = fields.stopped_because
        except RequestEntityTooLarge:
            self.stopped_because = f"it is longer than {self._limit} bytes"
        except BytesMissingError:
            self.stopped_because = "bytes of it were read before Flask was called"
        return values

    def update_digest(
        self, update: Callable[[bytes], object], ignored: frozenset[str], key_field: str | None
    ) -> list[str]:
        """Digest a form without some of its fields; raises as ``chunks`` does.

        :param update: is called with the bytes to digest, one after the other.
        :param ignored: the names of the fields that are left out.
        :param key_field: the name of the ignored field whose values are returned.
        :returns: the values of that field, as ``find_field`` does.
        """
        values: list[str] = []
        for name, content in self._fields(self.chunks(), ignored):
            if name is None:
                update(content)
            elif name == key_field:
                _add(values, content)
        return values

    def _fields(
        self, chunks: Iterable[bytes], names: frozenset[str]
    ) -> UrlencodedFields | MultipartFields:
        if self.mimetype == URLENCODED:
            return UrlencodedFields(chunks, names)
        boundary = self._request.mimetype_params.get("boundary", "")
        if not boundary.isascii():
            # Werkzeug does not parse such a form either.
            boundary = ""
        return MultipartFields(chunks, boundary.encode(), names, self._request.max_form_parts)


def _add(values: list[str], value: bytes) -> None:
    # Two are enough to see that they disagree. A key that is not ASCII is refused later.
    text = value.decode("latin-1")
    if text not in values and len(values) < 2:
        values.append(text)
