"""Checks of option values.

Each check takes an option's name as the user wrote it and a value. It returns the value in its
final form, or raises ``SettingsError`` with what was wrong, what was expected and an example.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from flask_idempotent._http_semantics import (
    BUSY_STATUSES,
    FILE_HEADERS,
    INVALID_REQUEST_STATUSES,
    NEVER_KEPT_HEADERS,
    TRACKABLE_METHODS,
    UNTRACKED_METHODS,
)
from flask_idempotent.errors import SettingsError

Check = Callable[[str, Any], Any]

#: 100 years in seconds. Redis counts these exactly in milliseconds.
_LONGEST = 100 * 365 * 24 * 3600


def seconds(*, above_zero: bool, optional: bool = False) -> Check:
    """Make a check for a time, whose final form is a float in seconds."""
    expected_range = "more than 0" if above_zero else "0 or more"

    def check(name: str, value: Any) -> float | None:
        if value is None and optional:
            return None
        number = value.total_seconds() if isinstance(value, timedelta) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            expected = _or_none("a number of seconds or a timedelta", optional)
            raise _wrong(name, value, expected, "60 or timedelta(minutes=1)")
        # A NaN is not in any range.
        if not (number > 0 or (number == 0 and not above_zero)) or number > _LONGEST:
            raise _wrong(name, value, f"{expected_range} seconds and at most 100 years", "60")
        return float(number)

    return check


def integer(at_least: int, *, optional: bool = False) -> Check:
    """Make a check for an integer."""

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            expected = _or_none(f"an integer of at least {at_least}", optional)
            raise _wrong(name, value, expected, str(max(at_least, 100)))
        return value

    return check


def choice(*choices: str) -> Check:
    """Make a check for one of these strings."""

    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(name, value, _one_of(map(repr, choices)), repr(choices[0]))
        return str(value)

    return check


def on_crash(name: str, value: Any) -> Any:
    """Check for what follows a crash: ``"rerun"``, ``"hold"``, or a function that decides."""
    if callable(value) or value in ("rerun", "hold"):
        return value
    raise _wrong(name, value, "'rerun', 'hold' or a function", "'rerun'")


def boolean(name: str, value: Any) -> bool:
    """Check for True or False; other values that count as true or false are refused."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False", "True")
    return value


def text(example: str, *, optional: bool = False) -> Check:
    """Make a check for a string that is not empty."""

    def check(name: str, value: Any) -> str | None:
        if value is None and optional:
            return None
        if not isinstance(value, str) or not value:
            raise _wrong(name, value, _or_none("a string that is not empty", optional), example)
        return value

    return check


def url(name: str, value: Any) -> str:
    """Check for a string; the address itself is checked where the store is made."""
    if not isinstance(value, str) or not value:
        raise SettingsError(
            f"{name} must be a URL, such as redis://localhost:6379/0. "
            "Its value is not shown here, because it may contain a password."
        )
    return value


def status_codes(name: str, value: Any) -> frozenset[int]:
    """Check for a collection of HTTP status codes."""
    if not _are_status_codes(value):
        raise _wrong(name, value, "a tuple, list or set of HTTP status codes", "(409, 410)")
    return frozenset(value)


def busy_status(name: str, value: Any) -> int:
    """Check for a status that a duplicate may get while the first request runs."""
    if not isinstance(value, int) or value not in BUSY_STATUSES:
        raise _wrong(name, value, _one_of(map(str, BUSY_STATUSES)), "503")
    return int(value)


def correctable(name: str, value: Any) -> frozenset[int]:
    """Check for the statuses after which a corrected request may use the key."""
    if isinstance(value, bool):
        return INVALID_REQUEST_STATUSES if value else frozenset()
    if not _are_status_codes(value) or not all(400 <= status <= 499 for status in value):
        expected = "True, False, or a tuple, list or set of status codes from 400 to 499"
        raise _wrong(name, value, expected, "(400, 422)")
    return frozenset(value)


def _are_status_codes(value: Any) -> bool:
    return _is_collection(value) and all(type(item) is int and 100 <= item <= 599 for item in value)


def header_name(name: str, value: Any) -> str:
    """Check for the name of a header, a token (RFC 9110, 5.6.2)."""
    if not _is_token(value):
        expected = "a header name of ASCII letters, digits and hyphens"
        raise _wrong(name, value, expected, "'Idempotency-Key'")
    return str(value)


def header_names(name: str, value: Any) -> tuple[str, ...]:
    """Check for at least one header name."""
    expected = "a tuple, list or set of at least one header name"
    if not value:
        raise _wrong(name, value, expected, "('Idempotency-Key',)")
    return _header_names(name, value, expected, "('Idempotency-Key',)")


def header_set(name: str, value: Any) -> frozenset[str]:
    """Check for header names, whose final form is lower case."""
    expected = "a tuple, list or set of header names"
    names = _header_names(name, value, expected, "('X-Request-Id',)")
    return frozenset(item.lower() for item in names)


def dropped_headers(name: str, value: Any) -> frozenset[str]:
    """Check for headers that a replay can do without."""
    headers = header_set(name, value)
    if needed := headers & FILE_HEADERS:
        raise SettingsError(
            f"{name} must not name {_listed(needed)}, which tells a front server the file to send: "
            "without it a replay has no body."
        )
    return headers


def kept_headers(name: str, value: Any) -> frozenset[str]:
    """Check for headers that a replay may repeat."""
    headers = header_set(name, value)
    if never_kept := headers & NEVER_KEPT_HEADERS:
        raise SettingsError(
            f"{name} must not name {_listed(never_kept)}, which belongs to one connection or "
            "message and is written again for each response."
        )
    return headers


def _header_names(name: str, value: Any, expected: str, example: str) -> tuple[str, ...]:
    if not _are_strings(value):
        raise _wrong(name, value, expected, example)
    for item in value:
        if not _is_token(item):
            raise SettingsError(
                f"{name} must name headers, and {item!r} is not a header name (RFC 9110, 5.1)."
            )
    return tuple(value)


def _is_token(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value != ""
        and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in value)
    )


def field_names(name: str, value: Any) -> frozenset[str]:
    """Check for names of form fields."""
    if not _are_strings(value):
        raise _wrong(name, value, "a tuple, list or set of field names", "('captcha',)")
    return frozenset(value)


def entry_names(name: str, value: Any) -> tuple[str, ...]:
    """Check for names of session entries, of which there may be none."""
    if not _are_strings(value):
        expected = "a tuple, list or set of names of session entries"
        raise _wrong(name, value, expected, "('_flashes', 'cart')")
    return tuple(value)


def methods(name: str, value: Any) -> frozenset[str] | None:
    """Check for HTTP methods that can be tracked, whose final form is upper case."""
    if value is None:
        return None
    if not value or not _are_strings(value):
        expected = "a tuple, list or set of at least one HTTP method, or None"
        raise _wrong(name, value, expected, "('POST', 'PATCH')")
    names = frozenset(item.upper() for item in value)
    if untracked := names & UNTRACKED_METHODS:
        raise SettingsError(
            f"{name} must not name {_listed(untracked)}: no request of HEAD, OPTIONS or TRACE is "
            "tracked, because a replay of its response would be of no use."
        )
    for method in sorted(names - TRACKABLE_METHODS):
        hint = suggestion(closest(method, TRACKABLE_METHODS), TRACKABLE_METHODS)
        raise SettingsError(f"{name} must name HTTP methods, and {method} is not one.{hint}")
    return names


def function(example: str, *alternatives: bool | None) -> Check:
    """Make a check for a function, or one of these values in its place."""
    expected = _one_of(["a function", *map(str, alternatives)])

    def check(name: str, value: Any) -> Any:
        if not callable(value) and not any(value is other for other in alternatives):
            raise _wrong(name, value, expected, example)
        return value

    return check


def transaction(name: str, value: Any) -> Any:
    """Check for a transaction of the view's own database: an object with its methods, or None."""
    is_object = not isinstance(value, type)
    if value is not None and not (is_object and all(map(partial(_has_method, value), _METHODS))):
        raise _wrong(name, value, "a Transaction or None", "SQLAlchemyTransaction(db)")
    return value


#: The methods of ``engine.transactions.Transaction``.
_METHODS = ("look_up", "begin", "commit", "roll_back", "has_committed")


def _has_method(value: Any, name: str) -> bool:
    return callable(getattr(value, name, None))


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelled most like a name, or None where none is similar."""
    matches = difflib.get_close_matches(name, sorted(candidates), n=1)
    return matches[0] if matches else None


def suggestion(close: str | None, candidates: Iterable[str]) -> str:
    """Write the end of an error: the name that was probably meant, or else all valid names."""
    return f" Did you mean {close}?" if close else f" Known names: {_listed(candidates)}."


def _is_collection(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def _are_strings(value: Any) -> bool:
    return _is_collection(value) and all(isinstance(item, str) and item for item in value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _one_of(items: Iterable[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} or {last}" if others else last


def _or_none(expected: str, optional: bool) -> str:
    return f"{expected}, or None" if optional else expected


def _wrong(name: str, value: object, expected: str, example: str) -> SettingsError:
    return SettingsError(f"{name} must be {expected}, not {value!r}. For example: {example}")
