"""Keys: reading the client's key from a request, and naming its record in the store."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from uuid import UUID

import http_sf

from flask_idempotent._msgpack import pack
from flask_idempotent.problems import KeyInvalid

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.wrappers import Request

    from flask_idempotent.options import KeyLike
    from flask_idempotent.settings import Settings

#: Visible ASCII without the double quote, comma, semicolon and backslash.
_BARE_KEY = re.compile(r"[!#-+\--:<-\[\]-~]+")
_STANDARD_HEADER = "HTTP_IDEMPOTENCY_KEY"
#: What Firefox and Waterfox write into the header of a POST or PATCH that has none: a uint64.
_BROWSER_KEY = re.compile(r'[ \t]*"[0-9]+"[ \t]*')

_HELP = (
    "Send 1 to {length} visible ASCII characters without quotes, commas, semicolons and "
    "backslashes, such as a UUID, or a quoted string (RFC 9651, 3.3.3)."
)


class UnusableKey(ValueError):
    """A key that cannot be used; the message tells the client why."""


def may_carry_key(environ: WSGIEnvironment, settings: Settings) -> bool:
    """Say whether a request may carry a key, or must; quick, sometimes a false yes."""
    if settings.always_inspect:
        return True
    for environ_name in settings.environ_names:
        if environ_name in environ:
            return True
    if settings.field is None:
        return False
    query = environ.get("QUERY_STRING")
    if query and (settings.field in query or "%" in query or "+" in query):
        return True
    return "form" in environ.get("CONTENT_TYPE", "").lower()


def find_key(
    request: Request,
    settings: Settings,
    fields: Iterable[str],
    finders: Iterable[Callable[[Any], KeyLike | None]] = (),
) -> str | None:
    """Read the key that a request carries in its headers, query or form; a GET's in headers alone.

    :param fields: the values of the key's field in the request's form.
    :param finders: the application's own functions, asked in turn where these places have no key.
    :returns: the key, or None where the request has none.
    :raises KeyInvalid: when a value cannot be used, or two sources disagree.
    :raises TypeError: when a function returns what cannot be a key.
    """
    browser_key = _browser_key(request.environ, settings)
    try:
        found = _sources(request, settings, fields, skipping=browser_key is not None)
        if len(found) > 1 and len({key for _, key in found}) > 1:
            places = " and ".join(place for place, _ in found)
            raise UnusableKey(
                f"The request carries different keys in {places}. "
                "Send one key, or the same key everywhere."
            )
        if found:
            return found[0][1]
        for finder in finders:
            # As in version 0.1, an empty string counts as no key.
            if (custom := finder(request)) or is_identifier(custom):
                return check_custom(custom, settings)
        return parse_header(browser_key, settings.key_max_length) if browser_key else None
    except UnusableKey as error:
        raise KeyInvalid(str(error), base=settings.problem_base) from None


def _browser_key(environ: WSGIEnvironment, settings: Settings) -> str | None:
    """The header's value where a browser may have made it; empty where it does not count.

    A script cannot set a header on a navigation, so one that is there is the browser's own. On
    other requests, digits in quotes may be the browser's or the client's: every other key wins.
    """
    value: str | None = environ.get(_STANDARD_HEADER)
    if value is None or _STANDARD_HEADER not in settings.environ_names:
        return None
    if not settings.browser_keys and environ.get("HTTP_SEC_FETCH_MODE") == "navigate":
        return ""
    return value if _BROWSER_KEY.fullmatch(value) else None


def _sources(
    request: Request, settings: Settings, fields: Iterable[str], *, skipping: bool
) -> list[tuple[str, str]]:
    found = []
    for number, environ_name in enumerate(settings.environ_names):
        value = request.environ.get(environ_name)
        if value is not None and not (skipping and environ_name == _STANDARD_HEADER):
            strict = settings.strict_keys and environ_name == _STANDARD_HEADER
            key = parse_header(value, settings.key_max_length, strict=strict)
            found.append((f"the header {settings.headers[number]}", key))
    if request.method == "GET":
        # Whoever makes somebody open a link chooses its query, and knows the key then.
        return found
    if settings.field is not None and request.query_string:
        # Not request.args, which fails on octets that are no UTF-8.
        pairs = parse_qsl(request.query_string.decode("latin-1"), True)
        arguments = [value for name, value in pairs if name == settings.field]
        for number, value in enumerate(arguments):
            key = parse_bare(value, settings.key_max_length)
            found.append((_place("the query", number), key))
    for number, value in enumerate(fields):
        key = parse_bare(value, settings.key_max_length)
        found.append((_place("the form", number), key))
    return found


def _place(source: str, number: int) -> str:
    return f"{source} (again)" if number else source


def parse_header(value: str, max_length: int, *, strict: bool = False) -> str:
    """Read a header's value: a quoted String (RFC 9651, 4.2.5) or a bare key.

    :raises UnusableKey: saying what is wrong.
    """
    value = value.strip(" \t")
    if strict or value.startswith('"'):
        return _checked(_parse_string(value), max_length)
    return parse_bare(value, max_length)


def parse_bare(value: str, max_length: int) -> str:
    """Read a key that stands without quotes.

    :raises UnusableKey: saying what is wrong.
    """
    if len(value) <= max_length and _BARE_KEY.fullmatch(value):
        return value
    _checked(value, max_length)
    raise UnusableKey(
        "The idempotency key has characters that are not allowed. "
        + _HELP.format(length=max_length)
    )


def _parse_string(value: str) -> str:
    try:
        item = http_sf.parse(value.encode("ascii"), tltype="item")
    except (http_sf.StructuredFieldError, ValueError) as error:
        raise UnusableKey(
            f"The idempotency key is no valid String (RFC 9651, 3.3.3): {error}"
        ) from None
    bare = item[0] if isinstance(item, tuple) else item
    if type(bare) is not str:
        raise UnusableKey(
            'The idempotency key must be a String (RFC 9651, 3.3.3), in double quotes: "key".'
        )
    return bare


def _checked(key: str, max_length: int) -> str:
    if not key.strip(" "):
        raise UnusableKey("The idempotency key is empty. " + _HELP.format(length=max_length))
    if len(key) > max_length:
        raise UnusableKey(
            f"The idempotency key has {len(key)} characters; at most {max_length} are allowed."
        )
    return key


def is_identifier(value: object) -> bool:
    """Say whether a value is an int or a UUID, which stand for their text as key and as scope."""
    return isinstance(value, int | UUID) and not isinstance(value, bool)


def check_custom(key: object, settings: Settings) -> str:
    """Check the key that an application's own function found.

    :raises TypeError: when it cannot be a key, which is the application's fault.
    :raises KeyInvalid: when it is empty, too long or not valid Unicode.
    """
    if not isinstance(key, str):
        if not is_identifier(key):
            raise TypeError(
                f"a key function must return a str, int, UUID or None, not {type(key).__name__}"
            )
        key = str(key)
    try:
        if any("\ud800" <= character <= "\udfff" for character in key):
            raise UnusableKey("The idempotency key is no valid Unicode text.")
        return _checked(key, settings.key_max_length)
    except UnusableKey as error:
        raise KeyInvalid(str(error), base=settings.problem_base) from None


def storage_key(prefix: str, namespace: str, scope: str | bytes | None, key: str) -> str:
    """Name the record of a key: who it belongs to and what it says, in a digest.

    The braces are a hash tag: what is added later lands on the same slot of a cluster.
    """
    if isinstance(scope, str):
        # Whoever names a record on the command line can only write text.
        scope = scope.encode("utf-8", "surrogatepass")
    return _record_name(prefix, (namespace, scope, key))


def part_key(prefix: str, storage_key: str, part: str) -> str:
    """Name the record of a part of a request's work, such as a decorated function that it calls.

    :param storage_key: the record of the request's key.
    :param part: the part's own name.
    """
    return _record_name(prefix, (storage_key, part))


def _record_name(prefix: str, parts: tuple[str | bytes | None, ...]) -> str:
    digest = hashlib.blake2b(pack(parts), digest_size=16).digest()
    # RFC 4648, 5; the module base64 takes more steps.
    name = binascii.b2a_base64(digest, newline=False).translate(_URL_SAFE)[:22]
    return f"{prefix}{{{name.decode()}}}"


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
