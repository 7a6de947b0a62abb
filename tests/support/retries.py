"""A decorator that calls a view again, as applications do after a deadlock."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response


class Deadlock(Exception):
    """What a database raises when it gave up a transaction."""


def retrying(view: Callable[..., Any]) -> Callable[..., Any]:
    """Call a view again when it met a deadlock, as a decorator for databases does."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except Deadlock:
            return view(*args, **kwargs)

    return wrapper


def text(response: Any) -> str:
    """The body of what a decorated helper returns: a response, with a key or without."""
    assert isinstance(response, Response)
    return response.get_data(as_text=True)
