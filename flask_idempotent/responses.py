"""Responses: capturing what a view answered, and replaying it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from werkzeug.datastructures import Headers
from werkzeug.http import HTTP_STATUS_CODES, parse_set_header
from werkzeug.wrappers import Response

from flask_idempotent._lines import logger
from flask_idempotent.settings import NEVER_KEPT

if TYPE_CHECKING:
    from flask_idempotent.records import Completed
    from flask_idempotent.settings import Settings

#: Headers that belong to one answer, one caller or one hop, not to the operation's result.
DROPPED = NEVER_KEPT | {
    "age", "alt-svc", "server", "server-timing", "set-cookie", "traceparent", "www-authenticate",
    "x-request-id",
}  # fmt: skip
_DROPPED_PREFIXES = ("access-control-", "proxy-", "ratelimit", "x-ratelimit")
#: A part of a response and a "not modified" depend on the request's own headers; 307 and 308 ask
#: for the same request elsewhere, which has the same key.
_NEVER_STORED = frozenset({206, 304, 307, 308})

#: Told the body when it is known, or None when it will not be kept.
Finish = Callable[[bytes | None], None]
#: Told that a body was dropped unread. It may be called in the midst of anything, as destructors
#: are, so it must not wait for a lock.
Abandon = Callable[[], None]


def is_storable(response: Response, settings: Settings) -> bool:
    """Ask the application whether to keep this response.

    A ``store_if`` that fails must not make the view run again: then the response is kept.
    """
    if response.status_code in _NEVER_STORED:
        return False
    try:
        return bool(settings.store_if(response))
    except Exception:
        logger.exception("store_if failed; the response is kept")
        return True


def status_of(response: Response) -> int | str:
    """The status code, or the whole status line where its reason is not the usual one."""
    code = response.status_code
    usual = f"{code} {HTTP_STATUS_CODES.get(code, 'UNKNOWN').upper()}"
    return code if response.status == usual else response.status


def kept_headers(response: Response, settings: Settings) -> tuple[tuple[str, str], ...]:
    """The headers that a replay repeats, in their order."""
    never = NEVER_KEPT
    if connection := response.headers.getlist("Connection"):
        # Tokens alone, so that a comma always parts two of them (RFC 9110, 7.6.1).
        named = ",".join(connection).split(",")
        never = never.union(name.strip().lower() for name in named)

    def keeps(name: str) -> bool:
        if name in never:
            return False
        if name in settings.keep_headers:
            return True
        return not (
            name in DROPPED
            or name in settings.drop_headers
            or name.startswith(_DROPPED_PREFIXES)
            or name == settings.replay_header.lower()
        )

    return tuple((name, value) for name, value in response.headers if keeps(name.lower()))


def varying_by_cookie(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Add ``Cookie`` to the header ``Vary``."""
    vary = parse_set_header(", ".join(value for name, value in headers if name.lower() == "vary"))
    vary.add("Cookie")
    others = (header for header in headers if header[0].lower() != "vary")
    return (*others, ("Vary", vary.to_header()))


def watch_body(response: Response, max_body: int, finish: Finish, abandon: Abandon) -> None:
    """Tell ``finish`` the body: at once where it is there, else when its stream ends.

    The response goes out as it is; a stream stays a stream.
    """
    if response.status_code == 204:
        # Whatever the view gave, it is neither sent nor read.
        finish(b"")
    elif response.is_sequence and not response.direct_passthrough:
        body = response.get_data()
        finish(body if len(body) <= max_body else None)
    elif (response.content_length or 0) > max_body:
        finish(None)
    else:
        response.response = Tee(
            response.iter_encoded(), response.response, max_body, finish, abandon
        )


class Tee(Iterator[bytes]):
    """Passes a stream on as it comes and tells its content when it ends.

    A stream that breaks off or is closed early tells None.

    :param chunks: the encoded stream.
    :param source: what to close with it.
    :param max_body: how many octets to remember at most.
    :param abandon: called where the stream is dropped instead.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        source: object,
        max_body: int,
        finish: Finish,
        abandon: Abandon,
    ) -> None:
        self._chunks = iter(chunks)
        self._source = source
        self._left = max_body
        self._finish: Finish | None = finish
        self._abandon = abandon
        self._seen: list[bytes] = []

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._end(b"".join(self._seen))
            raise
        except BaseException:
            self._end(None)
            raise
        self._left -= len(chunk)
        if self._left < 0:
            self._end(None)
        if self._finish is not None:
            self._seen.append(chunk)
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
        if self._finish is not None:
            self._abandon()

    def _end(self, body: bytes | None) -> None:
        finish, self._finish = self._finish, None
        self._seen = self._seen if finish is None else []
        if finish is not None:
            finish(body)


class _Plain(Response):
    # A response without a type gets none.
    default_mimetype = None


def replay(completed: Completed, response_class: type[Response], settings: Settings) -> Response:
    """Make the stored response again, marked as a replay."""
    body = completed.body or b""
    headers = Headers()
    # One by one: the constructor looks at what it is given in more ways than these need.
    for name, value in completed.headers:
        headers.add(name, value)
    if completed.code != 204:
        headers.add("Content-Length", str(len(body)))
    headers.add(settings.replay_header, "true")
    # Not the class's own constructor, which may take other arguments and add headers.
    return response_class.force_type(_Plain([body], completed.status, headers))
