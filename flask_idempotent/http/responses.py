"""Responses: what is kept of a view's response, capturing its body, and making a replay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from werkzeug.datastructures import Headers
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Response

from flask_idempotent._http_semantics import DROPPED_PREFIXES, NEVER_STORED_STATUSES
from flask_idempotent._http_syntax import check_response, is_status
from flask_idempotent._logging import logger
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.http.werkzeug_compat import parse_header_set

if TYPE_CHECKING:
    from flask_idempotent.records import CompletedRecord
    from flask_idempotent.settings import Settings

#: Headers that Werkzeug sends as a URI, whatever the view wrote.
_URI_HEADERS = ("location", "content-location")
#: URIs that Werkzeug sends unchanged: a path, or a URL with a plain host and port.
_PLAIN_URI = re.compile(
    r"(?:https?://(?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}(?::[0-9]{1,4})?(?:[/?#]|\Z)|/(?!/))[!-~]*",
    re.IGNORECASE,
)

#: Called with the body once it is known, or with None when it will not be kept.
OnComplete = Callable[[bytes | None], None]
#: Called when a stream is dropped unread. It is called from a destructor, at any moment of any
#: thread, so it must not wait for a lock.
OnDropped = Callable[[], None]


def should_store(response: Response, settings: Settings) -> bool:
    """Ask the application whether to keep this response.

    Where ``store_if`` raises, the response is kept, so that the view does not run again.
    """
    if response.status_code in NEVER_STORED_STATUSES or response.status_code in settings.dont_keep:
        return False
    try:
        return bool(settings.store_if(response))
    except Exception:
        logger.exception("store_if failed; the response is kept")
        return True


def status_of(response: Response) -> int | str:
    """Return the status code, or the whole status line where its reason is not the usual one.

    A reason that cannot be sent is left out, because clients ignore it (RFC 9112, section 4).
    """
    code, line = response.status_code, response.status
    return line if line != _usual_status_line(code) and is_status(line) else code


@lru_cache
def _usual_status_line(code: int) -> str:
    return Response(status=code).status


def kept_headers(response: Response, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return the headers that a replay repeats, in their order.

    :raises ValueError: when one of them should be a URI and is not.
    """
    headers = tuple(_repeatable(response.headers, settings))
    if connection := response.headers.getlist("Connection"):
        # A list of tokens, so every comma separates two of them (RFC 9110, 7.6.1).
        hop_by_hop = {name.strip().lower() for name in ",".join(connection).split(",")}
        return tuple(pair for pair in headers if pair[0].lower() not in hop_by_hop)
    return headers


def _repeatable(
    headers: Iterable[tuple[str, str]], settings: Settings
) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        lower = name.lower()
        if lower in settings.dropped_headers:
            continue
        if lower.startswith(DROPPED_PREFIXES) and lower not in settings.keep_headers:
            continue
        if lower in _URI_HEADERS and _PLAIN_URI.fullmatch(value) is None:
            yield name, iri_to_uri(value)
        else:
            yield name, value


def capture(
    response: Response, settings: Settings
) -> tuple[int | str, tuple[tuple[str, str], ...]]:
    """Return the status and the headers that a replay repeats.

    :raises ValueError: when they cannot be sent. Most servers do not send the first response
        either.
    """
    status, headers = status_of(response), kept_headers(response, settings)
    check_response(status, headers)
    return status, headers


def varying_by_cookie(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Add ``Cookie`` to the header ``Vary``, as Flask does where a view used the session."""
    vary = parse_header_set(", ".join(value for name, value in headers if name.lower() == "vary"))
    vary.add("Cookie")
    others = (header for header in headers if header[0].lower() != "vary")
    return (*others, ("Vary", vary.to_header()))


def body_in_memory(response: Response, max_body: int) -> bytes | None:
    """Return the body of a response that does not stream; None where it does, or is too large.

    :param max_body: the size in bytes of the largest body that is kept.
    """
    if response.status_code == 204:
        # The body of a 204 is neither sent nor read.
        return b""
    if not response.is_sequence:
        return None
    # With X-Sendfile, Content-Length is that of the file, so the body itself is measured.
    body = b"".join(response.iter_encoded())
    return body if len(body) <= max_body else None


def capture_body(
    response: Response, max_body: int, on_complete: OnComplete, on_dropped: OnDropped
) -> None:
    """Call ``on_complete`` with the body: now where it is in memory, else when its stream ends.

    The response is sent as it is; a stream stays a stream.

    :param max_body: the size in bytes of the largest body that is kept.
    """
    if response.is_sequence or response.status_code == 204:
        on_complete(body_in_memory(response, max_body))
    elif (response.content_length or 0) > max_body:
        on_complete(None)
    else:
        response.response = Tee(
            response.iter_encoded(), response.response, max_body, on_complete, on_dropped
        )


class Tee(Iterator[bytes]):
    """Passes a stream on chunk by chunk, and calls back with its content when it ends.

    The content of a stream that breaks off or is closed early is None.

    :param chunks: the encoded stream.
    :param source: what to close with it.
    :param max_body: how many bytes to remember at most.
    :param on_dropped: called where the stream is dropped instead.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        source: object,
        max_body: int,
        on_complete: OnComplete,
        on_dropped: OnDropped,
    ) -> None:
        self._chunks = iter(chunks)
        self._source = source
        self._bytes_left = max_body
        self._on_complete: OnComplete | None = on_complete
        self._on_dropped = on_dropped
        self._remembered: list[bytes] = []

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._end(b"".join(self._remembered))
            raise
        except BaseException:
            self._end(None)
            raise
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            self._end(None)
        if self._on_complete is not None:
            self._remembered.append(chunk)
        return chunk

    def close(self) -> None:
        """End the stream; the server calls this after the last chunk, or early."""
        try:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        finally:
            self._end(None)

    def __del__(self) -> None:
        if self._on_complete is not None:
            self._on_dropped()

    def _end(self, body: bytes | None) -> None:
        on_complete, self._on_complete = self._on_complete, None
        if on_complete is not None:
            self._remembered = []
            on_complete(body)


class _PlainResponse(Response):
    # Adds no Content-Type to a response that had none.
    default_mimetype = None


def replay(
    completed: CompletedRecord, response_class: type[Response], settings: Settings
) -> Response:
    """Make a response from a completed record, marked as a replay.

    Headers are filtered again: another program may have written the record, or the settings may
    have changed since then.

    :param response_class: the application's class for responses.
    :raises RecordUnreadable: when the body or a URI of the record cannot be sent.
    """
    body = completed.whole_body(settings.max_body)
    headers = Headers()
    try:
        # Not the constructor, which takes 2 us more of a replay's 120.
        for name, value in _repeatable(completed.headers, settings):
            headers.add(name, value)
    except ValueError as error:
        raise RecordUnreadable(f"one of its headers cannot be sent: {error}") from error
    if completed.status_code != 204:
        headers.add("Content-Length", str(len(body)))
    headers.add(settings.replay_header, "true")
    # Not the application's constructor, which may take other arguments and add headers.
    return response_class.force_type(_PlainResponse([body], completed.status, headers))
