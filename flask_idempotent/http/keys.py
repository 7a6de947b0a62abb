"""Keys: reading the client's key from a request, and naming its record in the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from uuid import UUID

import http_sf

from flask_idempotent._digests import url_safe_digest
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

#: How many digits of a scope's own digest are in the name of a record: 66 bits.
_SCOPE_DIGITS = 11

_EXPECTED = (
    "Send 1 to {length} visible ASCII characters without quotes, commas, semicolons and "
    "backslashes, such as a UUID, or a quoted string (RFC 9651, 3.3.3)."
)


class UnusableKey(ValueError):
    """A key cannot be used; the message is for the client."""


#: The name of the place that a key was in, such as "the form", and the key.
_SentKey = tuple[str, str]


def may_carry_key(environ: WSGIEnvironment, settings: Settings) -> bool:
    """Return whether a request may carry a key, or must.

    It is quick, because it runs for every request of a protected view, and may return True for a
    request without a key.
    """
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
    field_values: Iterable[str],
    finders: Iterable[Callable[[Any], KeyLike | None]] = (),
) -> str | None:
    """Read the key that a request carries in its headers, query or form.

    A GET may carry it in its headers alone.

    :param field_values: the values of the key's field in the request's form.
    :param finders: the application's own functions, called one after the other where headers, query
        and form have no key.
    :returns: the key, or None where the request has none.
    :raises KeyInvalid: when a value cannot be used, or two of them differ.
    :raises TypeError: when a function returns what cannot be a key.
    """
    browser_key = _browser_key(request.environ, settings)
    try:
        sent_keys = _sent_keys(
            request, settings, field_values, ignore_standard_header=browser_key is not None
        )
        if len(sent_keys) > 1:
            _check_agreement(sent_keys)
        if sent_keys:
            return sent_keys[0][1]
        for finder in finders:
            # An empty string counts as no key, as in version 0.1.
            if (custom_key := finder(request)) or is_identifier(custom_key):
                return check_custom(custom_key, settings)
        return parse_header(browser_key, settings.key_max_length) if browser_key else None
    except UnusableKey as error:
        raise KeyInvalid(str(error)) from None


def _browser_key(environ: WSGIEnvironment, settings: Settings) -> str | None:
    """Return the standard header's value where a browser may have made it.

    A script cannot set a header on a navigation, so a key that is there is the browser's own. On
    other requests, digits in quotes may be the browser's or the client's: any other key wins.

    :returns: None where the header is missing or the client's own, and an empty string where it
        does not count.
    """
    value: str | None = environ.get(_STANDARD_HEADER)
    if value is None or _STANDARD_HEADER not in settings.environ_names:
        return None
    if not settings.browser_keys and environ.get("HTTP_SEC_FETCH_MODE") == "navigate":
        return ""
    return value if _BROWSER_KEY.fullmatch(value) else None


def _sent_keys(
    request: Request,
    settings: Settings,
    field_values: Iterable[str],
    *,
    ignore_standard_header: bool,
) -> list[_SentKey]:
    """Read every key that the request carries, headers first."""
    sent_keys = []
    for header, environ_name in zip(settings.headers, settings.environ_names, strict=True):
        value = request.environ.get(environ_name)
        if value is None:
            continue
        is_standard = environ_name == _STANDARD_HEADER
        if is_standard and ignore_standard_header:
            continue
        strict = is_standard and settings.strict_keys
        key = parse_header(value, settings.key_max_length, strict=strict)
        sent_keys.append((f"the header {header}", key))
    if request.method == "GET":
        # Anybody who makes a person open a link chooses its query, and would know the key.
        return sent_keys
    if settings.field is not None and request.query_string:
        # Not request.args, which fails on bytes that are not UTF-8.
        pairs = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)
        arguments = [value for name, value in pairs if name == settings.field]
        sent_keys += _bare_keys("the query", arguments, settings)
    sent_keys += _bare_keys("the form", field_values, settings)
    return sent_keys


def _bare_keys(place: str, values: Iterable[str], settings: Settings) -> list[_SentKey]:
    return [
        (f"{place} (again)" if index else place, parse_bare(value, settings.key_max_length))
        for index, value in enumerate(values)
    ]


def _check_agreement(sent_keys: list[_SentKey]) -> None:
    if len({key for _, key in sent_keys}) > 1:
        places = " and ".join(place for place, _ in sent_keys)
        raise UnusableKey(
            f"The request carries different keys in {places}. "
            "Send one key, or the same key everywhere."
        )


def parse_header(value: str, max_length: int, *, strict: bool = False) -> str:
    """Read the key in a header's value: a quoted String (RFC 9651, 4.2.5) or a bare key.

    :param max_length: the longest key that is allowed, in characters.
    :param strict: whether the key must be quoted.
    :raises UnusableKey: when it cannot be used.
    """
    value = value.strip(" \t")
    if strict or value.startswith('"'):
        return _checked(_parse_string(value), max_length)
    return parse_bare(value, max_length)


def parse_bare(value: str, max_length: int) -> str:
    """Read a key that is written without quotes.

    :param max_length: the longest key that is allowed, in characters.
    :raises UnusableKey: when it cannot be used.
    """
    if len(value) <= max_length and _BARE_KEY.fullmatch(value):
        return value
    _checked(value, max_length)
    raise UnusableKey(
        "The idempotency key has characters that are not allowed. "
        + _EXPECTED.format(length=max_length)
    )


def _parse_string(value: str) -> str:
    try:
        item = http_sf.parse(value.encode("ascii"), tltype="item")
    except (http_sf.StructuredFieldError, ValueError) as error:
        raise UnusableKey(
            f"The idempotency key is not a valid String (RFC 9651, 3.3.3): {error}"
        ) from None
    bare_item = item[0] if isinstance(item, tuple) else item
    if type(bare_item) is not str:
        raise UnusableKey(
            'The idempotency key must be a String (RFC 9651, 3.3.3), in double quotes: "key".'
        )
    return bare_item


def _checked(key: str, max_length: int) -> str:
    if not key.strip(" "):
        raise UnusableKey("The idempotency key is empty. " + _EXPECTED.format(length=max_length))
    if len(key) > max_length:
        raise UnusableKey(
            f"The idempotency key has {len(key)} characters; at most {max_length} are allowed."
        )
    return key


def is_identifier(value: object) -> bool:
    """Return whether a value is an int or a UUID, which stand for their text as key and scope."""
    return isinstance(value, int | UUID) and not isinstance(value, bool)


def check_custom(key: object, settings: Settings) -> str:
    """Check the key that an application's own function found.

    :raises TypeError: when it has a type that no key has, which is an error of the application.
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
            raise UnusableKey("The idempotency key is not valid Unicode text.")
        return _checked(key, settings.key_max_length)
    except UnusableKey as error:
        raise KeyInvalid(str(error)) from None


def storage_key(
    prefix: str, namespace: str, scope: str | bytes | None, key: str, name_key: bytes = b""
) -> str:
    """Return the name of a key's record in the store.

    It is the prefix and, in braces, a digest of namespace, scope and key. The braces are a hash
    tag, so that all that belongs to one key is in one slot of a Redis Cluster.

    :param name_key: the settings' ``name_key``. With it the digest begins with the scope's own, so
        that the records of one caller can be found.
    """
    digest = url_safe_digest(namespace, _as_bytes(scope), key, key=name_key)
    if not name_key:
        return f"{prefix}{{{digest}}}"
    return f"{scope_prefix(prefix, namespace, scope, name_key)}{digest}}}"


def scope_prefix(prefix: str, namespace: str, scope: str | bytes | None, name_key: bytes) -> str:
    """Return what the names of all records of one caller begin with, and of no other's.

    :param name_key: the settings' ``name_key``, not empty.
    """
    digest = url_safe_digest(namespace, _as_bytes(scope), key=name_key)
    return f"{prefix}{{{digest[:_SCOPE_DIGITS]}"


def _as_bytes(scope: str | bytes | None) -> bytes | None:
    # As bytes and as text a scope is the same: on the command line it can only be text.
    return scope.encode("utf-8", "surrogatepass") if isinstance(scope, str) else scope


def part_key(prefix: str, storage_key: str, part: str, name_key: bytes = b"") -> str:
    """Return the name of the record of a part of a request's work.

    A part is, for example, a decorated function that the view calls.

    :param storage_key: the name of the record of the request's key.
    :param part: the part's own name.
    :param name_key: as for ``storage_key``.
    """
    start = len(prefix) + 1
    scope_digits = storage_key[start : start + _SCOPE_DIGITS] if name_key else ""
    return f"{prefix}{{{scope_digits}{url_safe_digest(storage_key, part, key=name_key)}}}"
