"""Whether a replay is equal to the first response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask_idempotent.http.responses import kept_headers
from flask_idempotent.testing.failures import Failure

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from flask_idempotent.settings import Settings

#: Bytes of two bodies that are shown before and after the first difference.
_SHOWN = 30


def differences(first: Response, other: Response, settings: Settings) -> Iterator[Failure]:
    """Compare status, headers and body; of the headers, those that a replay repeats."""
    if first.status != other.status:
        yield Failure(
            f"the first response is {first.status}, its replay {other.status}",
            "An after_request function or an error handler changes it. Give a replay the same "
            "status: it has the header " + settings.replay_header + ".",
        )
    for name in dict.fromkeys(_names(first, settings) + _names(other, settings)):
        before, after = first.headers.getlist(name), other.headers.getlist(name)
        # Functions that run after the view add to Vary, in any order.
        if before != after and (name != "Vary" or set(first.vary) != set(other.vary)):
            yield Failure(
                f"the header {name} is {before} in the first response and {after} in its replay",
                "An after_request function, or a decorator above @idempotent, makes it for each "
                f"answer. Set it in the view; or, if it may differ, use drop_headers=({name!r},).",
            )
    if first.status == other.status and first.get_data() != other.get_data():
        yield Failure(
            f"the body of the first response has {_around(first, other)}",
            "An after_request function, or a decorator above @idempotent, makes it for each "
            "answer. Make what belongs to the response in the view or below @idempotent.",
        )


def _names(response: Response, settings: Settings) -> list[str]:
    return [name.title() for name, _ in kept_headers(response, settings)]


def _around(first: Response, other: Response) -> str:
    one, two = first.get_data(), other.get_data()
    pairs = enumerate(zip(one, two, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))
    part = slice(max(0, place - _SHOWN), place + _SHOWN)
    return f"{one[part]!r} at byte {place}, its replay {two[part]!r}"
